import { OptionError } from '../errors.js'

/** Pictures in one array, row-major [planes, height, width]: a frame has 3 planes, a video frames · 3, latents channels · frames. */
export interface Planes {
  readonly planes: number
  readonly height: number
  readonly width: number
}

/** Mean of the squared differences. @throws OptionError unless both have the same, positive number of values */
export function meanSquaredError(a: Float32Array, b: Float32Array): number {
  checkSameLength(a, b)
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2
  return sum / a.length
}

/**
 * Peak signal-to-noise ratio in dB, 10 log10(range² / MSE); Infinity where all values are equal.
 * @param range largest value minus smallest that the values may take: 2 for frames in [-1, 1], 255 for bytes
 * @throws OptionError
 */
export function psnr(a: Float32Array, b: Float32Array, range: number): number {
  checkRange(range)
  return 10 * Math.log10(range ** 2 / meanSquaredError(a, b))
}

/** Largest absolute difference; NaN where a value is NaN. @throws OptionError */
export function largestDifference(a: Float32Array, b: Float32Array): number {
  checkSameLength(a, b)
  let largest = 0
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!)
    if (!(difference <= largest)) {
      if (Number.isNaN(difference)) return Number.NaN
      largest = difference
    }
  }
  return largest
}

/**
 * Structural similarity (Wang et al., IEEE TIP 2004): means, variances and covariance under a Gaussian of sigma 1.5 cut to 11 × 11
 * (less where a side is shorter), K1 = 0.01, K2 = 0.03; the mean over all positions where the window fits, and over planes. 1 is equal.
 * @param range as for psnr
 * @throws OptionError
 */
export function ssim(a: Float32Array, b: Float32Array, shape: Planes, range: number): number {
  checkSameLength(a, b)
  checkRange(range)
  const { planes, height, width } = shape
  const size = height * width
  if (
    ![planes, height, width].every(n => Number.isSafeInteger(n) && n > 0) ||
    planes * size !== a.length
  )
    throw new OptionError(
      `ssim: expected ${planes} planes of ${height} x ${width}, got ${a.length} values; give the shape of the pictures`,
    )
  const kernel = gaussianWindow(Math.min(11, odd(height), odd(width)))
  const c1 = (0.01 * range) ** 2
  const c2 = (0.03 * range) ** 2
  let sum = 0
  let count = 0
  for (let plane = 0; plane < planes; plane++) {
    const x = Float64Array.from(a.subarray(plane * size, (plane + 1) * size))
    const y = Float64Array.from(b.subarray(plane * size, (plane + 1) * size))
    const mean = (of: Float64Array) => filter(of, height, width, kernel)
    const [mx, my] = [mean(x), mean(y)]
    const [xx, yy, xy] = [mean(product(x, x)), mean(product(y, y)), mean(product(x, y))]
    for (let i = 0; i < mx.length; i++) {
      const [ux, uy] = [mx[i]!, my[i]!]
      const covariance = xy[i]! - ux * uy
      const variances = xx[i]! - ux * ux + yy[i]! - uy * uy
      sum +=
        ((2 * ux * uy + c1) * (2 * covariance + c2)) / ((ux * ux + uy * uy + c1) * (variances + c2))
    }
    count += mx.length
  }
  return sum / count
}

const odd = (side: number): number => (side % 2 === 1 ? side : side - 1)

/** Normalised Gaussian of sigma 1.5. */
function gaussianWindow(length: number): Float64Array {
  const middle = (length - 1) / 2
  const values = Float64Array.from({ length }, (_, i) =>
    Math.exp(-((i - middle) ** 2) / (2 * 1.5 ** 2)),
  )
  const sum = values.reduce((total, value) => total + value, 0)
  return values.map(value => value / sum)
}

function product(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, i) => value * b[i]!)
}

/** Rows, then columns, where the window fits: [height - n + 1, width - n + 1]. */
function filter(
  source: Float64Array,
  height: number,
  width: number,
  kernel: Float64Array,
): Float64Array {
  const n = kernel.length
  const cols = width - n + 1
  const rows = height - n + 1
  const across = new Float64Array(height * cols)
  for (let row = 0; row < height; row++) {
    for (let col = 0; col < cols; col++) {
      let sum = 0
      for (let k = 0; k < n; k++) sum += kernel[k]! * source[row * width + col + k]!
      across[row * cols + col] = sum
    }
  }
  const result = new Float64Array(rows * cols)
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      let sum = 0
      for (let k = 0; k < n; k++) sum += kernel[k]! * across[(row + k) * cols + col]!
      result[row * cols + col] = sum
    }
  }
  return result
}

function checkSameLength(a: Float32Array, b: Float32Array): void {
  if (a.length !== b.length || a.length === 0)
    throw new OptionError(
      `metrics: expected two arrays of the same length, got ${a.length} and ${b.length} values; compare pictures of one size`,
    )
}

function checkRange(range: number): void {
  if (!(range > 0 && Number.isFinite(range)))
    throw new OptionError(
      `range: expected a positive number, got ${range}; frames in [-1, 1] have 2`,
    )
}
