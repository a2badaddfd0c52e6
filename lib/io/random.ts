import { OptionError } from '../errors.js'

/**
 * Standard normal noise from a seed: Philox4x32-10 (Salmon et al., SC 2011) keyed by the seed and counting blocks of four
 * 32-bit words, then Box–Muller on each pair in float64, rounded to float32. Element i depends on (seed, stream, i) alone,
 * so lengths do not matter and separate streams of one seed are independent.
 * @param seed an integer in 0..2^53-1
 * @param stream an integer in 0..2^32-1, for a second draw under the same seed
 * @throws OptionError for another seed
 */
export function gaussian(seed: number, length: number, stream = 0): Float32Array {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new OptionError(
      `seed: expected an integer from 0 to ${Number.MAX_SAFE_INTEGER}, got ${seed}; choose another`,
    )
  }
  const key0 = seed >>> 0
  const key1 = Math.floor(seed / 2 ** 32)
  const out = new Float32Array(length)
  const words = new Uint32Array(4)
  for (let i = 0; i < length; i += 4) {
    const block = i / 4
    words[0] = block
    words[1] = Math.floor(block / 2 ** 32)
    words[2] = stream
    words[3] = 0
    philox4x32(words, key0, key1)
    for (let pair = 0; pair < 4; pair += 2) {
      const radius = Math.sqrt(-2 * Math.log(unit(words[pair]!)))
      const angle = 2 * Math.PI * unit(words[pair + 1]!)
      // Writes beyond the end of a typed array are dropped.
      out[i + pair] = radius * Math.cos(angle)
      out[i + pair + 1] = radius * Math.sin(angle)
    }
  }
  return out
}

/** A 32-bit word to the middle of its interval in (0, 1): never 0, whose logarithm is infinite. */
function unit(word: number): number {
  return (word + 0.5) / 2 ** 32
}

/** Philox4x32 with 10 rounds, in place on a counter of four words. */
export function philox4x32(counter: Uint32Array, key0: number, key1: number): void {
  let [c0, c1, c2, c3] = counter as unknown as [number, number, number, number]
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(0xd2511f53, c0)
    const low0 = Math.imul(0xd2511f53, c0)
    const high1 = multiplyHigh(0xcd9e8d57, c2)
    const low1 = Math.imul(0xcd9e8d57, c2)
    c0 = (high1 ^ c1 ^ key0) >>> 0
    c1 = low1 >>> 0
    c2 = (high0 ^ c3 ^ key1) >>> 0
    c3 = low0 >>> 0
    key0 = (key0 + 0x9e3779b9) >>> 0
    key1 = (key1 + 0xbb67ae85) >>> 0
  }
  counter[0] = c0
  counter[1] = c1
  counter[2] = c2
  counter[3] = c3
}

/** Upper word of a 64-bit product. Partial products of 16 × 32 bits stay exact in float64. */
function multiplyHigh(a: number, b: number): number {
  const low = (a & 0xffff) * b
  const high = (a >>> 16) * b
  return Math.floor((high + Math.floor(low / 2 ** 16)) / 2 ** 16)
}
