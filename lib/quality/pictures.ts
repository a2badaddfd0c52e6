import { existsSync } from 'node:fs'
import { FileError } from '../errors.js'
import { readFloats, readSafetensorsHeader, type TensorEntry } from '../io/safetensors.js'
import { readVideo } from '../io/video-reader.js'
import type { Planes } from './metrics.js'

/** Frames to compare, each an array [planes, height, width]. */
export interface Pictures {
  /** File, and the tensor in it. */
  readonly source: string
  /** One frame's shape. */
  readonly shape: Planes
  readonly frames: readonly Float32Array[]
  /** Largest minus smallest value that pictures may take: 2 for frames in [-1, 1]; undefined for latents, which have no bounds. */
  readonly range?: number
}

/**
 * Reads frames from a video (see `readVideo`), or latents or frames from FILE.safetensors or FILE.safetensors#key. The tensor is the one
 * named, else `latents`, else `video`, else the only one. Latents are [1, channels, frames, rows, cols] or [1, frames, channels, rows,
 * cols], the axis of 4 being the channels (the first of two); four axes are [frames, planes, rows, cols], and with 3 planes in [-1, 1].
 * @throws FileError, CheckpointError for what cannot be read
 */
export async function openPictures(source: string, key?: string): Promise<Pictures> {
  const hash = existsSync(source) ? -1 : source.lastIndexOf('#')
  const path = hash < 0 ? source : source.slice(0, hash)
  if (/\.(safetensors|st)$/i.test(path))
    return fromTensor(chooseTensor(path, hash < 0 ? key : source.slice(hash + 1)))
  const frames = await readVideo(path)
  const { width, height } = frames[0]!
  const odd = frames.findIndex(frame => frame.width !== width || frame.height !== height)
  if (odd > 0) {
    throw new FileError(
      `${path}: expected frames of one size, got ${width} × ${height} and, as frame ${odd}, ${frames[odd]!.width} × ${frames[odd]!.height}; give frames of one video`,
      path,
    )
  }
  return {
    source: path,
    shape: { planes: 3, height, width },
    frames: frames.map(({ data }) => data),
    range: 2,
  }
}

function chooseTensor(path: string, key: string | undefined): TensorEntry {
  const { tensors } = readSafetensorsHeader(path)
  const names = [...tensors.keys()]
  const chosen =
    key ??
    ['latents', 'video'].find(name => tensors.has(name)) ??
    (names.length === 1 ? names[0]! : undefined)
  const entry = chosen === undefined ? undefined : tensors.get(chosen)
  if (entry) return entry
  throw new FileError(
    `${path}: expected a tensor ${chosen ?? 'latents or video'}, got ${names.join(', ') || 'none'}; name one with --key, or as ${path}#key`,
    path,
  )
}

async function fromTensor(entry: TensorEntry): Promise<Pictures> {
  const { file, key, shape } = entry
  const source = `${file}#${key}`
  const [frames, planes, height, width, frameStride, planeStride] = layoutOf(shape, source, file)
  const data = await readFloats(entry)
  const size = height * width
  return {
    source,
    shape: { planes, height, width },
    range: shape.length === 4 && planes === 3 ? 2 : undefined,
    frames: Array.from({ length: frames }, (_, frame) => {
      const values = new Float32Array(planes * size)
      for (let plane = 0; plane < planes; plane++) {
        const from = frame * frameStride + plane * planeStride
        values.set(data.subarray(from, from + size), plane * size)
      }
      return values
    }),
  }
}

type Layout = [
  frames: number,
  planes: number,
  height: number,
  width: number,
  frameStride: number,
  planeStride: number,
]

function layoutOf(shape: readonly number[], source: string, file: string): Layout {
  const [height, width] = shape.slice(-2) as [number, number]
  const size = height * width
  if (
    shape.some(extent => extent === 0) ||
    ![4, 5].includes(shape.length) ||
    (shape.length === 5 && shape[0] !== 1)
  )
    throw new FileError(
      `${source}: expected latents [1, channels, frames, rows, cols] or [1, frames, channels, rows, cols], or frames [frames, planes, rows, cols], got [${shape.join(', ')}]; name another tensor`,
      file,
    )
  const [outer, inner] = shape.slice(-4, -2) as [number, number]
  // Channels outside, as AnimateDiff has them.
  if (shape.length === 5 && (outer === 4 || inner !== 4))
    return [inner, outer, height, width, size, inner * size]
  return [outer, inner, height, width, inner * size, size]
}
