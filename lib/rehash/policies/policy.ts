/** What moved at a step, in root mean squares. Only small numbers come back from the device. */
export interface Movement {
  /** Of the latents since the step before. */
  latents: number
}

/** What a full step's prediction says, in root mean squares. */
export interface Outcome {
  /** Of the prediction. */
  size: number
  /** Of its difference to the last full step's; undefined at the first. */
  change?: number
}

/** Decides, step by step, what runs in full. One for each run: it may remember. */
export interface Policy {
  /** Whether this step runs in full; asked once for each step, in order. The first always does. */
  isFull(step: number): boolean
  /** Weights of the kept features at a skipped step, the latest first. */
  weights(step: number): readonly number[]
  /** Present where the policy watches: told before `isFull` what moved since the step before. */
  moved?(step: number, movement: Movement): void
  /** Present where the policy watches: told after each full step. */
  ran?(step: number, outcome: Outcome): void
}
