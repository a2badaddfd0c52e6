import sharp from 'sharp'
import { FileError } from '../errors.js'
import { asFileError } from './atomic.js'

/** An image or a video frame: [3, height, width], red first, values in [-1, 1]. */
export interface Frame {
  readonly width: number
  readonly height: number
  readonly data: Float32Array
}

/**
 * Reads an image in any format of sharp, upright, without alpha, in sRGB, resized by Lanczos.
 * `fill` stretches to the size, `cover` crops to its shape.
 * @throws FileError when the file is absent or no image.
 */
export async function readImage(
  source: string | Buffer,
  size: { width: number; height: number; fit?: 'fill' | 'cover' },
): Promise<Frame> {
  const { width, height, fit = 'fill' } = size
  try {
    const bytes = await sharp(source)
      .autoOrient()
      .flatten()
      .toColourspace('srgb')
      .resize({ width, height, fit, kernel: 'lanczos3' })
      .removeAlpha()
      .raw()
      .toBuffer()
    return { width, height, data: fromBytes(bytes, width * height) }
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

/** Interleaved bytes to planes in [-1, 1]. */
function fromBytes(bytes: Uint8Array, pixels: number): Float32Array {
  const data = new Float32Array(3 * pixels)
  for (let i = 0; i < pixels; i++) {
    for (let c = 0; c < 3; c++) data[c * pixels + i] = bytes[3 * i + c]! / 127.5 - 1
  }
  return data
}

/** Planes in [-1, 1] to interleaved bytes, clamped and rounded. */
export function toBytes(frame: Frame): Buffer {
  const pixels = frame.width * frame.height
  const bytes = Buffer.allocUnsafe(3 * pixels)
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < pixels; i++) {
      const value = Math.round((frame.data[c * pixels + i]! / 2 + 0.5) * 255)
      bytes[3 * i + c] = value < 0 ? 0 : value > 255 ? 255 : value
    }
  }
  return bytes
}
