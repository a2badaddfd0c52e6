import { existsSync } from 'node:fs'
import { CheckpointError, FileError } from '../errors.js'
import type { Frame } from './image.js'
import { readFloats, readSafetensorsHeader, type TensorEntry } from './safetensors.js'
import { SafetensorsWriter, writeSafetensors } from './safetensors-writer.js'
import type { VideoWriter } from './video.js'

/** Finds latents: `latents`, else `noise` (see findTensor). @throws CheckpointError when the file or key is wrong. */
export function findLatents(source: string): TensorEntry {
  return findTensor(source, ['latents', 'noise'])
}

/**
 * Finds a tensor in `FILE.safetensors` or `FILE.safetensors#key`, from the header alone. Without a key it is the first of `names` that
 * there is, else the only tensor.
 * @throws CheckpointError when the file or key is wrong.
 */
export function findTensor(source: string, names: readonly string[]): TensorEntry {
  const hash = existsSync(source) ? -1 : source.lastIndexOf('#')
  const path = hash < 0 ? source : source.slice(0, hash)
  const key = hash < 0 ? undefined : source.slice(hash + 1)
  const { tensors } = readSafetensorsHeader(path)
  const keys = [...tensors.keys()]
  const chosen =
    key ?? names.find(name => tensors.has(name)) ?? (keys.length === 1 ? keys[0]! : undefined)
  const entry: TensorEntry | undefined = chosen === undefined ? undefined : tensors.get(chosen)
  if (!entry) {
    throw new CheckpointError(
      `${path}: expected a tensor ${chosen ?? names[0]}, got ${keys.join(', ') || 'none'}; name one as ${path}#key`,
      path,
    )
  }
  return entry
}

/**
 * Reads latents (see findLatents) of a known shape.
 * @throws CheckpointError when the file, key, shape or dtype is wrong.
 */
export async function readLatents(source: string, shape: readonly number[]): Promise<Float32Array> {
  const entry = findLatents(source)
  if (entry.shape.length !== shape.length || entry.shape.some((extent, i) => extent !== shape[i])) {
    throw new CheckpointError(
      `${entry.file}: ${entry.key}: expected shape [${shape.join(', ')}], got [${entry.shape.join(', ')}]; give latents of the video's size and frames`,
      entry.file,
    )
  }
  return readFloats(entry)
}

/** Writes latents as float32 under the key `latents`. @throws FileError */
export async function writeLatents(
  path: string,
  data: Float32Array,
  shape: readonly number[],
): Promise<void> {
  await writeSafetensors(path, { latents: { shape, data } })
}

/**
 * Writes decoded frames, one by one, as float32 [frames, 3, height, width] under the key `video`.
 * @throws FileError
 */
export async function openFrames(
  path: string,
  size: { frames: number; width: number; height: number },
): Promise<VideoWriter> {
  const { frames, width, height } = size
  const writer = await SafetensorsWriter.open(path, [
    { key: 'video', dtype: 'F32', shape: [frames, 3, height, width] },
  ])
  return {
    path,
    async write(frame: Frame): Promise<void> {
      if (
        frame.width !== width ||
        frame.height !== height ||
        frame.data.length !== 3 * width * height
      ) {
        throw new FileError(
          `${path}: expected a frame of ${width} × ${height}, got ${frame.width} × ${frame.height}; give frames of one size`,
          path,
        )
      }
      await writer.append(frame.data)
    },
    close: () => writer.close(),
    abort: () => writer.abort(),
  }
}
