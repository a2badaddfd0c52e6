import { combine, lerp, type Program, program } from '../program/index.js'
import type { Scheduler } from '../schedulers/index.js'

/** Whether the network reads the latents times a factor of the step. */
export function needsScaling(scheduler: Scheduler): boolean {
  return scheduler.timesteps.some((_, i) => scheduler.inputScale(i) !== 1)
}

/** Whether a step adds fresh noise. */
export function drawsNoise(scheduler: Scheduler): boolean {
  return scheduler.timesteps.some((_, i) => scheduler.step(i).noise !== 0)
}

/** Guidance and the scheduler's step: latents = a · latents + b · lerp(unconditional, conditional, guidance) (+ c · noise). */
export function stepProgram(shape: readonly number[], guided: boolean, noisy: boolean): Program {
  return program('step', trace => {
    const latents = trace.input('latents', shape)
    const conditional = trace.input('predicted', shape)
    const coefficients = trace.input('coefficients', [noisy ? 3 : 2])
    const output = guided
      ? lerp(
          trace.input('predictedUnconditional', shape),
          conditional,
          trace.input('guidance', [1]),
        )
      : conditional
    const noise = noisy ? [trace.input('noise', shape)] : []
    return { latents: combine(coefficients, [latents, output, ...noise]) }
  })
}

/** The network's input: scaled = inputScale · latents. */
export function scaleProgram(shape: readonly number[]): Program {
  return program('scale', trace => {
    const latents = trace.input('latents', shape)
    return { scaled: combine(trace.input('inputScale', [1]), [latents]) }
  })
}
