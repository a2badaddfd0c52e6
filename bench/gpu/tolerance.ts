/** How far results on a GPU may be from recorded ones in float32, by how activations are stored. */
export type Storage = 'f32' | 'f16' | 'bf16'

/** Largest difference over the standard deviation, for one pass through a network. */
export const componentTolerance = { f32: 2e-4, f16: 5e-2, bf16: 0.4 } as const

/** Largest difference of latents and of pixels (-1 to 1) after a whole run in float32, as on the CPU. */
export const runTolerance = { latents: 2e-3, video: 5e-3 } as const

/** Least PSNR in dB of latents and of pixels after a whole run in narrow types, over the range of what was recorded. */
export const leastPsnr = { f16: 40, bf16: 25 } as const

/** Largest difference, and PSNR over the range of the expected values. */
export function distance(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
): { largest: number; psnr: number } {
  if (actual.length !== expected.length)
    throw new Error(`expected ${expected.length} values, got ${actual.length}`)
  let [largest, squares] = [0, 0]
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (let i = 0; i < expected.length; i++) {
    const off = Math.abs(actual[i]! - expected[i]!)
    // Written so that NaN stays.
    if (!(off <= largest)) largest = off
    squares += off * off
    low = Math.min(low, expected[i]!)
    high = Math.max(high, expected[i]!)
  }
  const psnr = 10 * Math.log10((high - low) ** 2 / (squares / expected.length))
  return { largest, psnr }
}
