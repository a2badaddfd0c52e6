import { OptionError } from '../errors.js'
import { ConfigReader, predictionTypes } from './config.js'
import { alphasCumprod, betaSchedule } from './noise-schedule.js'
import {
  type Scheduler,
  type SchedulerConfig,
  type SchedulerStep,
  unconverted,
} from './scheduler.js'
import {
  lastSigma,
  leastAlpha,
  sigmaKind,
  spacedSigmas,
  timestepOf,
  trainingSigmas,
  valueAt,
} from './sigmas.js'
import { checkSteps, roundHalfEven, spacings } from './spacing.js'

const f32 = Math.fround
const algorithms = ['dpmsolver++', 'dpmsolver', 'sde-dpmsolver++', 'sde-dpmsolver'] as const
type Algorithm = (typeof algorithms)[number]

/** Names of other solvers' variants, which diffusers takes for midpoint. */
const midpoints = ['midpoint', 'logrho', 'bh1', 'bh2']

/**
 * DPM-Solver (arXiv 2206.00927) and DPM-Solver++ (arXiv 2211.01095) in their multistep forms of order 1 and 2, with the noise of their
 * stochastic variants, as diffusers' DPMSolverMultistepScheduler. The predictions held are of the clean sample (++) or of the noise.
 * @throws OptionError for wrong values, order 3, flow sigmas, learned variance, and clamped predictions.
 */
export function createDpmMultistep(config: SchedulerConfig, steps: number): Scheduler {
  const name = 'DPMSolverMultistepScheduler'
  const read = new ConfigReader(name, config)
  const trainSteps = read.integer('num_train_timesteps', 1000, 1)
  const order = read.integer('solver_order', 2, 1)
  if (order > 2) read.refuse('solver_order', '1 or 2', order)
  const algorithm = read.choice('algorithm_type', algorithms, 'dpmsolver++')
  const solver = read.choice('solver_type', ['heun', ...midpoints], 'midpoint')
  const prediction = read.choice('prediction_type', predictionTypes, 'epsilon')
  read.refuseNonlinear('thresholding', false)
  if (read.flag('use_flow_sigmas', false)) read.refuse('use_flow_sigmas', 'false', true)
  if (config.variance_type) read.refuse('variance_type', 'null', config.variance_type)
  checkSteps(steps, 1, trainSteps)

  const alphas = alphasCumprod(read)
  if (read.flag('rescale_betas_zero_snr', false)) alphas[trainSteps - 1] = leastAlpha
  const training = trainingSigmas(alphas)
  const { sigmas, timesteps } = inferenceSigmas(read, training, steps)
  const count = timesteps.length
  const clean = algorithm.endsWith('++')
  if (!clean && sigmas[count] === 0) {
    throw new OptionError(
      `${name}.final_sigmas_type: expected sigma_min with algorithm_type ${algorithm}, which cannot step to a sigma of 0, got zero; set it in scheduler_config.json`,
    )
  }
  const firstAtEnd =
    read.flag('euler_at_final', false) ||
    sigmas[count] === 0 ||
    (read.flag('lower_order_final', true) && count < 15)

  const table = Array.from({ length: count }, (_, i): SchedulerStep => {
    const from = sigmas[i]!
    const [signal, sigma] = polar(from)
    const single = order === 1 || i === 0 || (i === count - 1 && firstAtEnd)
    const { sample, newest, slope, noise } = update(algorithm, from, sigmas[i + 1]!, solver)
    const slot = i % order
    const predictions = new Array<number>(order).fill(0)
    predictions[slot] = newest
    if (!single) {
      // The slope's difference quotient: (m0 - m1) · h / h0, with lambda = -log(sigma / alpha).
      const back = Math.log(sigmas[i - 1]! / from)
      const quotient = (slope * Math.log(from / sigmas[i + 1]!)) / back
      predictions[slot] = newest + quotient
      predictions[(i + 1) % order] = -quotient
    }
    return { slot, convert: convert(signal, sigma), sample, predictions, noise }
  })
  const slots = Math.min(order, count)
  return {
    name,
    timesteps,
    slots,
    initNoiseSigma: 1,
    inputScale: () => 1,
    step: i => ({ ...table[i]!, predictions: table[i]!.predictions.slice(0, slots) }),
  }

  /** The clean sample, or the noise, from the sample and the network's output. */
  function convert(signal: number, sigma: number): SchedulerStep['convert'] {
    switch (prediction) {
      case 'epsilon':
        return clean ? { sample: 1 / signal, output: -sigma / signal } : unconverted
      case 'sample':
        return clean ? unconverted : { sample: 1 / sigma, output: -signal / sigma }
      case 'v_prediction':
        return clean ? { sample: signal, output: -sigma } : { sample: sigma, output: signal }
    }
  }
}

/** Signal and noise of a variance-preserving sample whose ratio of noise to signal is sigma. */
function polar(sigma: number): [signal: number, noise: number] {
  const signal = 1 / Math.sqrt(sigma ** 2 + 1)
  return [signal, sigma * signal]
}

/**
 * x' = sample · x + newest · m0 + slope · D1 + noise · z, with D1 the difference of the last two predictions over their distance in
 * lambda, times that of this step. h is the step in lambda.
 */
function update(
  algorithm: Algorithm,
  from: number,
  to: number,
  solver: string,
): { sample: number; newest: number; slope: number; noise: number } {
  const [signal, sigma] = polar(from)
  const [nextSignal, nextSigma] = polar(to)
  const h = Math.log(from / to)
  const heun = solver === 'heun'
  switch (algorithm) {
    case 'dpmsolver++': {
      const newest = -nextSignal * Math.expm1(-h)
      const slope = heun ? nextSignal * (1 - ratio(h)) : newest / 2
      return { sample: nextSigma / sigma, newest, slope, noise: 0 }
    }
    case 'dpmsolver': {
      const newest = -nextSigma * Math.expm1(h)
      const slope = heun ? -nextSigma * (ratio(-h) - 1) : newest / 2
      return { sample: nextSignal / signal, newest, slope, noise: 0 }
    }
    case 'sde-dpmsolver++': {
      const newest = -nextSignal * Math.expm1(-2 * h)
      const slope = heun ? nextSignal * (1 - ratio(2 * h)) : newest / 2
      const noise = nextSigma * Math.sqrt(-Math.expm1(-2 * h))
      return { sample: (nextSigma / sigma) * Math.exp(-h), newest, slope, noise }
    }
    case 'sde-dpmsolver': {
      const newest = -2 * nextSigma * Math.expm1(h)
      const slope = heun ? -2 * nextSigma * (ratio(-h) - 1) : newest / 2
      const noise = nextSigma * Math.sqrt(Math.expm1(2 * h))
      return { sample: nextSignal / signal, newest, slope, noise }
    }
  }
}

/** (1 - exp(-x)) / x, and its limit. */
function ratio(x: number): number {
  return x === 0 ? 1 : -Math.expm1(-x) / x
}

/** Sigmas for the evaluations and one after the last, and the integer time step of each. */
function inferenceSigmas(
  read: ConfigReader,
  training: Float64Array,
  steps: number,
): { sigmas: Float64Array; timesteps: Float64Array } {
  const [smallest, largest] = [training[0]!, training.at(-1)!]
  const last = lastSigma(read, smallest)
  const finish = (sigmas: Float64Array, timesteps: Float64Array) => ({
    sigmas: Float64Array.of(...sigmas, last).map(f32),
    timesteps: timesteps.map(Math.trunc),
  })
  const kind = sigmaKind(read)
  const uniform = read.flag('use_lu_lambdas', false)
  if (!kind && !uniform) {
    const spaced = integerTimesteps(read, training, steps)
    return finish(
      spaced.map(t => valueAt(training, t)),
      spaced,
    )
  }
  // Lambdas spaced evenly are sigmas spaced exponentially.
  const sigmas = spacedSigmas(read, kind ?? 'use_exponential_sigmas', steps, largest, smallest)
  const cosine = betaSchedule(read) === 'squaredcos_cap_v2'
  const rounded = !cosine && (kind === 'use_karras_sigmas' || !kind)
  const timesteps = sigmas.map(timestepOf(training))
  return finish(sigmas, rounded ? timesteps.map(roundHalfEven) : timesteps)
}

/** Time steps in falling order: one more than the steps, without the last, on the part of the training scale that lambda_min_clipped leaves. */
function integerTimesteps(read: ConfigReader, training: Float64Array, steps: number): Float64Array {
  const least = read.lowerBound('lambda_min_clipped')
  const end = training.filter(sigma => -Math.log(sigma) >= least).length
  const offset = read.integer('steps_offset', 0, 0)
  const falling = (count: number, value: (i: number) => number) =>
    Float64Array.from({ length: count }, (_, i) => value(i))
  switch (read.choice('timestep_spacing', spacings, 'linspace')) {
    case 'linspace':
      return falling(steps, i => roundHalfEven(((end - 1) / steps) * (steps - i)))
    case 'leading': {
      const ratio = Math.floor(end / (steps + 1))
      return falling(steps, i => (steps - i) * ratio + offset)
    }
    case 'trailing': {
      const ratio = training.length / steps
      const delta = end - ratio - end
      return falling(
        Math.min(Math.ceil(end / ratio), steps),
        i => roundHalfEven(end + i * delta) - 1,
      )
    }
  }
}
