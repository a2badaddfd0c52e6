import { CheckpointError } from '../errors.js'

/** How far a result is from what was recorded. */
export interface Difference {
  readonly output: string
  /** Largest absolute difference; NaN when any value is NaN. */
  readonly largest: number
  /** The same over the standard deviation of the expected values; over their magnitude where all are equal. */
  readonly relative: number
}

/** @throws CheckpointError when so many values were not recorded. */
export function compare(
  output: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
): Difference {
  const count = expected.length
  if (actual.length !== count) {
    throw new CheckpointError(
      `${output}: expected ${actual.length} recorded values, got ${count}; check that the recording belongs to this configuration`,
      output,
    )
  }
  let largest = 0
  let mean = 0
  for (let i = 0; i < count; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!)
    // Written so that NaN stays.
    if (!(difference <= largest)) largest = difference
    if (Number.isNaN(largest)) break
    mean += expected[i]! / count
  }
  let variance = 0
  for (let i = 0; i < count; i++) variance += (expected[i]! - mean) ** 2 / count
  const scale = Math.sqrt(variance) || Math.abs(mean) || 1
  return { output, largest, relative: largest / scale }
}

/** The worse of two differences of one output. */
export function worse(a: Difference, b: Difference): Difference {
  return a.relative >= b.relative || Number.isNaN(a.relative) ? a : b
}

/** Whether a difference is within a tolerance; NaN never is. */
export function isWithin(difference: Difference, tolerance: number): boolean {
  return difference.relative <= tolerance
}
