import { OptionError } from '../errors.js'
import { betaQuantile } from './beta-quantile.js'
import { ConfigReader, predictionTypes } from './config.js'
import { alphasCumprod, linspace32 } from './noise-schedule.js'
import type { Scheduler, SchedulerConfig, SchedulerStep } from './scheduler.js'
import { spacedTimesteps, spacings } from './spacing.js'

const f32 = Math.fround

/** Stands for a last cumulative product of 0, whose sigma would be infinite (diffusers' value). */
const leastAlpha = 2 ** -24

/**
 * Euler steps of the probability flow in sigma (arXiv 2206.00364, algorithm 2 without churn), as diffusers'
 * EulerDiscreteScheduler.
 * @throws OptionError for wrong values.
 */
export function createEuler(config: SchedulerConfig, steps: number): Scheduler {
  return eulerSteps('EulerDiscreteScheduler', config, steps, (_, next) => ({ down: next, up: 0 }))
}

/**
 * Euler steps that go further down and back up by fresh noise (k-diffusion's ancestral sampling), as diffusers'
 * EulerAncestralDiscreteScheduler.
 * @throws OptionError for wrong values.
 */
export function createEulerAncestral(config: SchedulerConfig, steps: number): Scheduler {
  return eulerSteps('EulerAncestralDiscreteScheduler', config, steps, (sigma, next) => {
    const up = Math.sqrt((next ** 2 * (sigma ** 2 - next ** 2)) / sigma ** 2)
    return { down: Math.sqrt(next ** 2 - up ** 2), up }
  })
}

/** @param aim from a sigma to the next: the sigma to step to, and the noise to add there */
function eulerSteps(
  name: string,
  config: SchedulerConfig,
  steps: number,
  aim: (sigma: number, next: number) => { down: number; up: number },
): Scheduler {
  const read = new ConfigReader(name, config)
  const trainSteps = read.integer('num_train_timesteps', 1000, 1)
  const spacing = read.choice('timestep_spacing', spacings, 'linspace')
  const prediction = read.choice(
    'prediction_type',
    [...predictionTypes, 'original_sample'],
    'epsilon',
  )
  const continuous =
    read.choice('timestep_type', ['discrete', 'continuous'], 'discrete') === 'continuous'

  const alphas = alphasCumprod(read)
  if (read.flag('rescale_betas_zero_snr', false)) alphas[trainSteps - 1] = leastAlpha
  const training = alphas.map(alpha => f32(Math.sqrt(f32(f32(1 - alpha) / alpha))))
  const spaced = spacedTimesteps(
    spacing,
    steps,
    trainSteps,
    read.integer('steps_offset', 0, 0),
  ).map(f32)
  const { sigmas, discrete } = inferenceSigmas(read, training, spaced)
  const timesteps =
    continuous && prediction === 'v_prediction'
      ? sigmas.slice(0, steps).map(sigma => f32(0.25 * f32(Math.log(sigma))))
      : discrete

  const largest = sigmas.reduce((a, b) => Math.max(a, b))
  const initNoiseSigma = spacing === 'leading' ? Math.sqrt(largest ** 2 + 1) : largest
  const table = Array.from({ length: steps }, (_, i): SchedulerStep => {
    const sigma = sigmas[i]!
    const { down, up: noise } = aim(sigma, sigmas[i + 1]!)
    const move = down - sigma
    switch (prediction) {
      case 'epsilon':
        return { sample: 1, output: move, noise }
      case 'sample':
      case 'original_sample':
        return { sample: down / sigma, output: -move / sigma, noise }
      case 'v_prediction':
        // 1 + move·sigma / (sigma² + 1), without its cancellation at a large sigma.
        return {
          sample: (down * sigma + 1) / (sigma ** 2 + 1),
          output: move / Math.sqrt(sigma ** 2 + 1),
          noise,
        }
    }
  })
  return {
    name,
    timesteps,
    initNoiseSigma,
    inputScale: i => 1 / Math.sqrt(sigmas[i]! ** 2 + 1),
    step: i => table[i]!,
  }
}

/** Sigmas for the steps and one after the last, and the time step of each on the training scale. */
function inferenceSigmas(
  read: ConfigReader,
  training: Float64Array,
  spaced: Float64Array,
): { sigmas: Float64Array; discrete: Float64Array } {
  const steps = spaced.length
  const smallest = training[0]!
  const interpolated =
    read.choice('interpolation_type', ['linear', 'log_linear'], 'linear') === 'linear'
      ? spaced.map(t => valueAt(training, t))
      : linspace32(
          f32(Math.log(training[training.length - 1]!)),
          f32(Math.log(smallest)),
          steps + 1,
        ).map(x => f32(Math.exp(x)))

  const kinds = ['use_karras_sigmas', 'use_exponential_sigmas', 'use_beta_sigmas'].filter(key =>
    read.flag(key, false),
  )
  if (kinds.length > 1) {
    throw new OptionError(
      `${read.name}: expected at most one kind of sigmas, got ${kinds.join(' and ')}; set all but one to false`,
    )
  }
  const last =
    read.choice('final_sigmas_type', ['zero', 'sigma_min'], 'zero') === 'zero' ? 0 : smallest
  if (kinds.length === 0)
    return { sigmas: Float64Array.of(...interpolated, last).map(f32), discrete: spaced }

  const low = read.optionalNumber('sigma_min') ?? interpolated[interpolated.length - 1]!
  const high = read.optionalNumber('sigma_max') ?? interpolated[0]!
  if (low <= 0 || high < low) {
    throw new OptionError(
      `${read.name}: expected 0 < sigma_min <= sigma_max, got ${low} and ${high}; correct scheduler_config.json`,
    )
  }
  const ramp = Float64Array.from({ length: steps }, (_, i) => (steps === 1 ? 0 : i / (steps - 1)))
  const sigmas = ramp.map(rampOf(kinds[0]!, low, high))
  const logs = training.map(sigma => f32(Math.log(sigma)))
  return {
    sigmas: Float64Array.of(...sigmas, last).map(f32),
    discrete: sigmas.map(sigma => f32(indexOf(logs, Math.log(Math.max(sigma, 1e-10))))),
  }
}

/** Sigma at x in 0..1, falling from high to low. */
function rampOf(kind: string, low: number, high: number): (x: number) => number {
  switch (kind) {
    case 'use_karras_sigmas': {
      const rho = 7
      const [from, to] = [high ** (1 / rho), low ** (1 / rho)]
      return x => (from + x * (to - from)) ** rho
    }
    case 'use_exponential_sigmas':
      return x => Math.exp(Math.log(high) + x * (Math.log(low) - Math.log(high)))
    default:
      // arXiv 2407.12173, with its alpha and beta of 0.6.
      return x => low + betaQuantile(1 - x, 0.6, 0.6) * (high - low)
  }
}

/** Linear interpolation in a table at a fractional index, held at the ends. */
function valueAt(table: Float64Array, at: number): number {
  if (at >= table.length - 1) return table[table.length - 1]!
  const low = Math.max(Math.floor(at), 0)
  return table[low]! + (Math.max(at, 0) - low) * (table[low + 1]! - table[low]!)
}

/** Fractional index at which a rising table holds a value, held at the ends. */
function indexOf(table: Float64Array, value: number): number {
  let low = 0
  let high = table.length - 1
  if (high === 0) return 0
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (table[middle]! <= value) low = middle
    else high = middle
  }
  const weight = (value - table[low]!) / (table[high]! - table[low]!)
  return low + Math.min(Math.max(weight, 0), 1)
}
