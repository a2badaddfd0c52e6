import { ConfigReader, predictionTypes } from './config.js'
import { alphasCumprod } from './noise-schedule.js'
import { type Scheduler, type SchedulerConfig, singleStep } from './scheduler.js'
import { checkSteps } from './spacing.js'

/** The class's own default noise schedule. */
const ownBetas = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: 'scaled_linear' }

/** Standard deviation of the data that the boundary scalings assume (arXiv 2310.04378, appendix D). */
const dataDeviation = 0.5

/**
 * Multistep sampling of a latent consistency model (arXiv 2310.04378, algorithm 3), as diffusers' LCMScheduler: each step predicts the clean
 * sample and adds fresh noise for the next time step; the last adds none.
 * @throws OptionError for wrong values, more steps than `original_inference_steps`, and clamped predictions.
 */
export function createLcm(config: SchedulerConfig, steps: number): Scheduler {
  const name = 'LCMScheduler'
  const read = new ConfigReader(name, { ...ownBetas, ...config })
  const trainSteps = read.integer('num_train_timesteps', 1000, 1)
  const original = read.integer('original_inference_steps', 50, 1)
  const prediction = read.choice('prediction_type', predictionTypes, 'epsilon')
  const scaling = read.number('timestep_scaling', 10)
  read.refuseNonlinear('clip_sample', false)
  read.refuseNonlinear('thresholding', false)
  if (original > trainSteps)
    read.refuse('original_inference_steps', `an integer from 1 to ${trainSteps}`, original)
  checkSteps(steps, 1, original, ', the original_inference_steps that lcm takes its own from')
  const alphas = alphasCumprod(read)
  const timesteps = Float64Array.from({ length: steps }, (_, i) => {
    const skipped = Math.floor(i * (original / steps))
    return (original - skipped) * Math.floor(trainSteps / original) - 1
  })

  const table = Array.from(timesteps, (t, i) => {
    const [signal, sigma] = [Math.sqrt(alphas[t]!), Math.sqrt(1 - alphas[t]!)]
    const scaled = t * scaling
    const skip = dataDeviation ** 2 / (scaled ** 2 + dataDeviation ** 2)
    const out = scaled / Math.sqrt(scaled ** 2 + dataDeviation ** 2)
    const [ofSample, ofOutput] = cleanFrom(signal, sigma)
    const next = i + 1 < steps ? alphas[timesteps[i + 1]!]! : 1
    return singleStep(
      Math.sqrt(next) * (skip + out * ofSample),
      Math.sqrt(next) * out * ofOutput,
      Math.sqrt(1 - next),
    )
  })
  return { name, timesteps, slots: 1, initNoiseSigma: 1, inputScale: () => 1, step: i => table[i]! }

  /** Coefficients of the sample and the network's output in the predicted clean sample. */
  function cleanFrom(signal: number, sigma: number): [sample: number, output: number] {
    switch (prediction) {
      case 'epsilon':
        if (signal === 0)
          read.refuse(
            'prediction_type',
            'v_prediction or sample, as the first time step has no signal',
            prediction,
          )
        return [1 / signal, -sigma / signal]
      case 'sample':
        return [0, 1]
      case 'v_prediction':
        return [signal, -sigma]
    }
  }
}
