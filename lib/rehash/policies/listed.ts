import type { Policy } from './policy.js'

/** A fixed list of full steps; between them the latest feature is reused. The paper's rehash, and DeepCache's with an even list. */
export function listed(full: readonly number[]): Policy {
  const steps = new Set(full)
  return { isFull: step => step === 0 || steps.has(step), weights: () => [1] }
}
