import { FileError, OptionError } from '../errors.js'
import { asFileError } from './atomic.js'
import { loadSharp } from './sharp.js'

/** An image or a video frame: [3, height, width], red first, values in [-1, 1]. */
export interface Frame {
  readonly width: number
  readonly height: number
  readonly data: Float32Array
}

/** Pixels as pictures hold them: red, green and blue bytes side by side, row by row. */
export interface Pixels {
  readonly width: number
  readonly height: number
  readonly data: Uint8Array | Uint8ClampedArray
}

/** A file's path, a file's bytes, pixels, or a frame of a video. */
export type ImageSource = string | Uint8Array | Pixels | Frame

/**
 * Reads an image in any format of sharp, upright, in sRGB, transparent parts on black; or takes what is decoded already.
 * @throws FileError when the file is absent or no image; OptionError for pixels that do not fit their size
 */
export async function readPixels(source: ImageSource): Promise<Pixels> {
  if (typeof source !== 'string' && !(source instanceof Uint8Array)) return checkPixels(source)
  try {
    const { data, info } = await (await loadSharp())(source)
      .autoOrient()
      .flatten()
      .toColourspace('srgb')
      .removeAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true })
    return { width: info.width, height: info.height, data }
  } catch (error) {
    const path = typeof source === 'string' ? source : 'image'
    const known = asFileError(error, path, 'read')
    if (known instanceof FileError) throw known
    throw new FileError(
      `${path}: expected an image, got ${(error as Error).message}; give a PNG, JPEG or WebP file`,
      path,
      { cause: error },
    )
  }
}

/** @throws OptionError */
function checkPixels(source: Pixels | Frame): Pixels {
  const { width, height, data } = source ?? {}
  const kinds = [Uint8Array, Uint8ClampedArray, Float32Array]
  if (!kinds.some(kind => data instanceof kind)) {
    throw new OptionError(
      `image: expected a path, a file's bytes, or { width, height, data } with RGB bytes, got ${source === null ? 'null' : typeof source}`,
    )
  }
  const fits = [width, height].every(side => Number.isSafeInteger(side) && side > 0)
  if (!fits || data.length !== 3 * width * height) {
    throw new OptionError(
      `image: expected 3 x ${width} x ${height} values of data, got ${data.length}; check width and height`,
    )
  }
  return data instanceof Float32Array
    ? { width, height, data: toBytes(source as Frame) }
    : (source as Pixels)
}

/** A picture as a frame of a size: stretched by Lanczos where its own is another, else as it is. */
export async function toFrame(
  pixels: Pixels,
  size: { width: number; height: number },
): Promise<Frame> {
  const { width, height } = size
  if (pixels.width === width && pixels.height === height)
    return { width, height, data: fromBytes(pixels.data, width * height) }
  const raw = { width: pixels.width, height: pixels.height, channels: 3 } as const
  const bytes = await (await loadSharp())(pixels.data, { raw })
    .resize({ width, height, fit: 'fill', kernel: 'lanczos3' })
    .raw()
    .toBuffer()
  return { width, height, data: fromBytes(bytes, width * height) }
}

/** Interleaved bytes to planes in [-1, 1]. */
export function fromBytes(bytes: ArrayLike<number>, pixels: number): Float32Array {
  const data = new Float32Array(3 * pixels)
  for (let i = 0; i < pixels; i++) {
    for (let c = 0; c < 3; c++) data[c * pixels + i] = bytes[3 * i + c]! / 127.5 - 1
  }
  return data
}

/** Planes in [-1, 1] to interleaved bytes, clamped and rounded. */
export function toBytes(frame: Frame): Uint8Array {
  const pixels = frame.width * frame.height
  const bytes = new Uint8Array(3 * pixels)
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < pixels; i++) {
      const value = Math.round((frame.data[c * pixels + i]! / 2 + 0.5) * 255)
      bytes[3 * i + c] = value < 0 ? 0 : value > 255 ? 255 : value
    }
  }
  return bytes
}
