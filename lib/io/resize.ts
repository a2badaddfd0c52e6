import { setImmediate as breathe } from 'node:timers/promises'
import type { Frame, Pixels } from './image.js'

/** Where one output position of an axis reads, and how much of each. */
interface Taps {
  readonly first: number
  readonly weights: Float64Array
}

/**
 * A picture on a square grid without aliasing, as diffusers does it for Stable Video Diffusion (`_resize_with_antialiasing`): a Gaussian
 * blur with a deviation of half the shrinking factor less one half, mirrored at the borders, then cubic interpolation between the corners.
 * Both are linear and separable, so that each axis is one weighted sum.
 */
export async function resizeAntialiased(image: Pixels, size: number): Promise<Frame> {
  const columns = tapsOf(image.width, size)
  const rows = tapsOf(image.height, size)
  // [3, height, size], then [3, size, size]
  const narrow = new Float32Array(3 * image.height * size)
  for (let y = 0; y < image.height; y++) {
    if (y % rowsAtOnce === rowsAtOnce - 1) await breathe()
    const line = 3 * image.width * y
    for (const [x, { first, weights }] of columns.entries()) {
      for (let c = 0; c < 3; c++) {
        let sum = 0
        for (let k = 0; k < weights.length; k++)
          sum += weights[k]! * image.data[line + 3 * (first + k) + c]!
        narrow[(c * image.height + y) * size + x] = sum / 127.5 - 1
      }
    }
  }
  const data = new Float32Array(3 * size * size)
  for (let c = 0; c < 3; c++) {
    for (const [y, { first, weights }] of rows.entries()) {
      for (let x = 0; x < size; x++) {
        let sum = 0
        for (let k = 0; k < weights.length; k++)
          sum += weights[k]! * narrow[(c * image.height + first + k) * size + x]!
        data[(c * size + y) * size + x] = sum
      }
    }
  }
  return { width: size, height: size, data }
}

/** Rows between two turns of the event loop: some milliseconds for a photograph. */
const rowsAtOnce = 64

function tapsOf(extent: number, size: number): Taps[] {
  const sigma = Math.max((extent / size - 1) / 2, 0.001)
  const width = Math.floor(Math.max(4 * sigma, 3)) | 1
  const half = width >> 1
  const blur = Array.from({ length: width }, (_, i) =>
    Math.exp(-((i - half) ** 2) / (2 * sigma ** 2)),
  )
  const total = blur.reduce((a, b) => a + b, 0)
  // PyTorch computes positions in float32.
  const scale = size > 1 ? Math.fround((extent - 1) / (size - 1)) : 0
  return Array.from({ length: size }, (_, i) => {
    const position = Math.fround(scale * i)
    const base = Math.floor(position)
    const shares = new Map<number, number>()
    for (const [k, cubic] of cubicWeights(position - base).entries()) {
      const center = Math.min(Math.max(base + k - 1, 0), extent - 1)
      for (let j = 0; j < width; j++) {
        const at = mirrored(center + j - half, extent)
        shares.set(at, (shares.get(at) ?? 0) + (cubic * blur[j]!) / total)
      }
    }
    const first = Math.min(...shares.keys())
    const weights = new Float64Array(Math.max(...shares.keys()) - first + 1)
    for (const [at, share] of shares) weights[at - first] = share
    return { first, weights }
  })
}

/** Keys' cubic convolution with a = -3/4 for the four neighbours of a position `t` behind the second. */
function cubicWeights(t: number): [number, number, number, number] {
  const a = -0.75
  const near = (x: number) => ((a + 2) * x - (a + 3)) * x * x + 1
  const far = (x: number) => ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
  return [far(t + 1), near(t), near(1 - t), far(2 - t)]
}

/** An index beyond a border, mirrored at the outermost pixel. */
function mirrored(index: number, extent: number): number {
  if (extent === 1) return 0
  if (index < 0) return -index
  return index < extent ? index : 2 * (extent - 1) - index
}
