import type { Policy } from './policy.js'

/**
 * A fixed list of full steps; between them the feature is forecast along the line through the last two full ones: the first-order
 * Taylor polynomial of TaylorSeer (ICCV 2025), of one feature, in the number of the step. The latest is reused until there are two.
 */
export function forecast(full: readonly number[]): Policy {
  const steps = new Set(full)
  let last: number | undefined
  let before: number | undefined
  return {
    isFull(step) {
      const runs = step === 0 || steps.has(step)
      if (runs) {
        before = last
        last = step
      }
      return runs
    },
    weights(step) {
      if (before === undefined || last === undefined) return [1, 0]
      const ahead = (step - last) / (last - before)
      return [1 + ahead, -ahead]
    },
  }
}
