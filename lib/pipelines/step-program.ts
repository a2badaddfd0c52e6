import { add, combine, lerp, mul, type Program, program, sub } from '../program/index.js'
import type { Scheduler } from '../schedulers/index.js'

/** Whether the network reads the latents times a factor of the step. */
export function needsScaling(scheduler: Scheduler): boolean {
  return scheduler.timesteps.some((_, i) => scheduler.inputScale(i) !== 1)
}

/** Whether a step adds fresh noise. */
export function drawsNoise(scheduler: Scheduler): boolean {
  return scheduler.timesteps.some((_, i) => scheduler.step(i).noise !== 0)
}

/**
 * Guidance and the scheduler's step: latents = a · latents + b · (unconditional + g · (conditional - unconditional)) (+ c · noise).
 * @param shape of the latents, [frames, rows, cols, channels]
 * @param guidance shape of g: [1] for one scale, [frames, channels] for one of each frame; undefined: the conditional half alone
 */
export function stepProgram(
  shape: readonly number[],
  guidance: readonly number[] | undefined,
  noisy: boolean,
): Program {
  return program('step', trace => {
    const latents = trace.input('latents', shape)
    const conditional = trace.input('predicted', shape)
    const coefficients = trace.input('coefficients', [noisy ? 3 : 2])
    const guided = (scaleShape: readonly number[]) => {
      const unconditional = trace.input('predictedUnconditional', shape)
      const scale = trace.input('guidance', scaleShape)
      return scaleShape.length === 1
        ? lerp(unconditional, conditional, scale)
        : add(mul(sub(conditional, unconditional), scale), unconditional)
    }
    const output = guidance ? guided(guidance) : conditional
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
