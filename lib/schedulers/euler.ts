import { ConfigReader, predictionTypes } from './config.js'
import { alphasCumprod, linspace32 } from './noise-schedule.js'
import { type Scheduler, type SchedulerConfig, singleStep, withoutKeys } from './scheduler.js'
import {
  lastSigma,
  leastAlpha,
  sigmaKind,
  sigmaKinds,
  spacedSigmas,
  timestepOf,
  trainingSigmas,
  valueAt,
} from './sigmas.js'
import { spacedTimesteps, spacings } from './spacing.js'

const f32 = Math.fround

/** Keys of the deterministic class about its sigmas, beside their kinds, which the ancestral one does not have. */
const sigmaKeys = [
  'sigma_min',
  'sigma_max',
  'final_sigmas_type',
  'interpolation_type',
  'timestep_type',
]

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
  const own = withoutKeys(config, ...sigmaKinds, ...sigmaKeys)
  return eulerSteps('EulerAncestralDiscreteScheduler', own, steps, (sigma, next) => {
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
  const training = trainingSigmas(alphas)
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
  const table = Array.from({ length: steps }, (_, i) => {
    const sigma = sigmas[i]!
    const { down, up: noise } = aim(sigma, sigmas[i + 1]!)
    const move = down - sigma
    switch (prediction) {
      case 'epsilon':
        return singleStep(1, move, noise)
      case 'sample':
      case 'original_sample':
        return singleStep(down / sigma, -move / sigma, noise)
      case 'v_prediction':
        // 1 + move·sigma / (sigma² + 1), without its cancellation at a large sigma.
        return singleStep(
          (down * sigma + 1) / (sigma ** 2 + 1),
          move / Math.sqrt(sigma ** 2 + 1),
          noise,
        )
    }
  })
  return {
    name,
    timesteps,
    slots: 1,
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

  const kind = sigmaKind(read)
  const last = lastSigma(read, smallest)
  if (!kind) return { sigmas: Float64Array.of(...interpolated, last).map(f32), discrete: spaced }
  const sigmas = spacedSigmas(read, kind, steps, interpolated[0]!, interpolated.at(-1)!)
  return {
    sigmas: Float64Array.of(...sigmas, last).map(f32),
    discrete: sigmas.map(timestepOf(training)).map(f32),
  }
}
