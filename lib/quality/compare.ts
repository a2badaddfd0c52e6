import { FileError, OptionError } from '../errors.js'
import { largestDifference, meanSquaredError, ssim } from './metrics.js'
import type { Pictures } from './pictures.js'

/** How close two frames, or two videos, are. NaN where a value is NaN. */
export interface Closeness {
  /** Peak signal-to-noise ratio in dB; Infinity where all values are equal. */
  readonly psnr: number
  /** Structural similarity; 1 is equal. Of a video the mean of its frames. */
  readonly ssim: number
  /** Largest absolute difference. */
  readonly largest: number
}

export interface Comparison extends Closeness {
  /** What PSNR and SSIM measure by: largest minus smallest value that pictures may take. */
  readonly range: number
  readonly frames: readonly Closeness[]
}

/**
 * Compares videos or latents of one shape, frame by frame; the PSNR of all is that of their mean squared error.
 * @param range default: the pictures' own; for latents, which have none, from the least to the largest value of `a`
 * @throws FileError where the shapes differ; OptionError for a range that is not positive
 */
export function comparePictures(a: Pictures, b: Pictures, range = rangeOf(a, b)): Comparison {
  checkShapes(a, b)
  if (!(range > 0 && Number.isFinite(range)))
    throw new OptionError(
      `range: expected a positive number, got ${range}${range === 0 ? `, as ${a.source} has one value everywhere` : ''}; give the range of the values`,
    )
  const toDecibels = (error: number) => 10 * Math.log10(range ** 2 / error)
  const errors = a.frames.map((frame, i) => meanSquaredError(frame, b.frames[i]!))
  const frames = a.frames.map((frame, i) => ({
    psnr: toDecibels(errors[i]!),
    ssim: ssim(frame, b.frames[i]!, a.shape, range),
    largest: largestDifference(frame, b.frames[i]!),
  }))
  const mean = (values: readonly number[]) => values.reduce((sum, x) => sum + x, 0) / values.length
  return {
    psnr: toDecibels(mean(errors)),
    ssim: mean(frames.map(frame => frame.ssim)),
    largest: frames.reduce(
      (most, { largest }) => (Number.isNaN(most) || largest <= most ? most : largest),
      0,
    ),
    range,
    frames,
  }
}

function rangeOf(a: Pictures, b: Pictures): number {
  const own = a.range ?? b.range
  if (own !== undefined) return own
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (const frame of a.frames) {
    for (const value of frame) {
      if (value < least) least = value
      if (value > most) most = value
    }
  }
  return most - least
}

function checkShapes(a: Pictures, b: Pictures): void {
  const describe = ({ frames, shape: { planes, height, width } }: Pictures) =>
    `${frames.length} frames of ${planes} × ${height} × ${width}`
  if (describe(a) === describe(b)) return
  throw new FileError(
    `${b.source}: expected ${describe(a)} as in ${a.source}, got ${describe(b)}; compare videos of one size and length`,
    b.source,
  )
}
