/**
 * Between diffusers' layout and ours. Latents there are [1, channels, frames, rows, cols], here [frames, rows, cols, channels];
 * images there [3, rows, cols], here [rows, cols, 3].
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
