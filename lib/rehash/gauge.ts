import { type Program, program, sub, type Tensor } from '../program/index.js'
import { moments } from '../program/ops/norm.js'

/** Partial sums of a video's latents: a mean and a sum of squared deviations for each frame and row. */
export function gaugeShape(latents: readonly number[]): number[] {
  return [latents[0]!, latents[1]!, 1, 2]
}

/**
 * Measures a tensor and its difference to another. Inputs `now` and `before`, outputs `size` and `change` (partial sums).
 * @param shape [frames, rows, cols, channels]
 */
export function gaugeProgram(shape: readonly number[]): Program {
  return program('gauge', trace => {
    const now = trace.input('now', shape)
    const sums = (tensor: Tensor) => moments(tensor, shape[3]!)
    return { size: sums(now), change: sums(sub(now, trace.input('before', shape))) }
  })
}

/** Root mean square, from the partial sums. @param values so many stand behind each of them */
export function rootMeanSquare(partials: Float32Array, values: number): number {
  let sum = 0
  for (let i = 0; i < partials.length; i += 2) sum += partials[i + 1]! + values * partials[i]! ** 2
  return Math.sqrt(sum / ((partials.length / 2) * values))
}
