import { ConfigReader, predictionTypes } from './config.js'
import { alphasCumprod } from './noise-schedule.js'
import { type Scheduler, type SchedulerConfig, singleStep } from './scheduler.js'
import { roundHalfEven, spacedTimesteps, spacings } from './spacing.js'

/**
 * DDIM with eta 0 (arXiv 2010.02502, eq. 12), as diffusers' DDIMScheduler.
 * @throws OptionError for wrong values, and for clip_sample and thresholding, which no linear step can express.
 */
export function createDdim(config: SchedulerConfig, steps: number): Scheduler {
  const name = 'DDIMScheduler'
  const read = new ConfigReader(name, config)
  const trainSteps = read.integer('num_train_timesteps', 1000, 1)
  const offset = read.integer('steps_offset', 0, 0)
  const spacing = read.choice('timestep_spacing', spacings, 'leading')
  const prediction = read.choice('prediction_type', predictionTypes, 'epsilon')
  read.refuseNonlinear('clip_sample', true)
  read.refuseNonlinear('thresholding', false)
  const alphas = alphasCumprod(read)
  const finalAlpha = read.flag('set_alpha_to_one', true) ? 1 : alphas[0]!
  const timesteps = spacedTimesteps(spacing, steps, trainSteps, offset).map(roundHalfEven)
  if (timesteps[0]! >= trainSteps) {
    read.refuse('steps_offset', `time steps below ${trainSteps} with ${steps} steps`, offset)
  }
  const stride = Math.floor(trainSteps / steps)

  const table = Array.from(timesteps, t => {
    const alpha = alphas[t]!
    const next = t - stride >= 0 ? alphas[t - stride]! : finalAlpha
    const [signal, sigma] = [Math.sqrt(alpha), Math.sqrt(1 - alpha)]
    const [nextSignal, nextSigma] = [Math.sqrt(next), Math.sqrt(1 - next)]
    switch (prediction) {
      case 'epsilon':
        if (signal === 0)
          read.refuse(
            'prediction_type',
            'v_prediction or sample, as the first time step has no signal',
            prediction,
          )
        return singleStep(nextSignal / signal, nextSigma - (nextSignal * sigma) / signal)
      case 'sample':
        return singleStep(nextSigma / sigma, nextSignal - (nextSigma * signal) / sigma)
      case 'v_prediction':
        return singleStep(
          nextSignal * signal + nextSigma * sigma,
          nextSigma * signal - nextSignal * sigma,
        )
    }
  })
  return { name, timesteps, slots: 1, initNoiseSigma: 1, inputScale: () => 1, step: i => table[i]! }
}
