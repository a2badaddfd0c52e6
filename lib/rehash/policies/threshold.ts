import type { Policy } from './policy.js'

/**
 * Decides while it runs, as EasyCache (2025): a prediction changes with the latents at a rate that hardly changes itself. The rate is
 * that between the last two full steps; each skipped step adds rate · (movement of the latents) / (size of the prediction) to an error,
 * and once that would reach the threshold a step runs in full and the error starts again at 0. What is told is the past alone.
 */
export function threshold(limit: number): Policy {
  let rate: number | undefined
  let size = 0
  let error = 0
  /** How far the latents went since the last full step. */
  let way = 0
  return {
    moved(_, { latents }) {
      way += latents
      if (rate !== undefined && size > 0) error += (rate * latents) / size
    },
    isFull: () => rate === undefined || !(error < limit),
    ran(_, outcome) {
      if (outcome.change !== undefined && way > 0) rate = outcome.change / way
      size = outcome.size
      error = 0
      way = 0
    },
    weights: () => [1],
  }
}
