/**
 * Between diffusers' layout and ours. Latents here are [frames, rows, cols, channels]; there the order depends on the pipeline. Images
 * there are [3, rows, cols], here [rows, cols, 3].
 */

/** [outer, inner] to [inner, outer]. */
function transpose(values: Float32Array, outer: number, inner: number): Float32Array {
  const result = new Float32Array(values.length)
  for (let i = 0; i < outer; i++) {
    for (let j = 0; j < inner; j++) result[j * outer + i] = values[i * inner + j]!
  }
  return result
}

/** [channels, ...positions] to [...positions, channels]. */
export function channelsLast(values: Float32Array, channels: number): Float32Array {
  return transpose(values, channels, values.length / channels)
}

/** [...positions, channels] to [channels, ...positions]. */
export function channelsFirst(values: Float32Array, channels: number): Float32Array {
  return transpose(values, values.length / channels, channels)
}

/** Extents of latents: [frames, rows, cols, channels]. */
export type LatentExtents = readonly [frames: number, rows: number, cols: number, channels: number]

/** The order of a pipeline's latents in diffusers, in which noise is drawn and files hold them. */
export interface LatentOrder {
  /** Names of its axes after the batch's 1, for messages; `channels` stands where their number does. */
  readonly axes: readonly ['channels' | 'frames', 'channels' | 'frames', 'rows', 'cols']
  shape(extents: LatentExtents): number[]
  /** To channels last. */
  read(values: Float32Array, extents: LatentExtents): Float32Array
  /** From channels last. */
  write(values: Float32Array, extents: LatentExtents): Float32Array
}

/** [1, channels, frames, rows, cols]: AnimateDiff. */
export const channelsOutside: LatentOrder = {
  axes: ['channels', 'frames', 'rows', 'cols'],
  shape: ([frames, rows, cols, channels]) => [1, channels, frames, rows, cols],
  read: (values, extents) => channelsLast(values, extents[3]),
  write: (values, extents) => channelsFirst(values, extents[3]),
}

/** [1, frames, channels, rows, cols]: Stable Video Diffusion. */
export const framesOutside: LatentOrder = {
  axes: ['frames', 'channels', 'rows', 'cols'],
  shape: ([frames, rows, cols, channels]) => [1, frames, channels, rows, cols],
  read: (values, extents) =>
    eachFrame(values, extents[0], frame => channelsLast(frame, extents[3])),
  write: (values, extents) =>
    eachFrame(values, extents[0], frame => channelsFirst(frame, extents[3])),
}

function eachFrame(
  values: Float32Array,
  frames: number,
  convert: (frame: Float32Array) => Float32Array,
): Float32Array {
  const result = new Float32Array(values.length)
  const size = values.length / frames
  for (let at = 0; at < values.length; at += size)
    result.set(convert(values.subarray(at, at + size)), at)
  return result
}
