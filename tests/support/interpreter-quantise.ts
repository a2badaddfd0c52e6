import { type Node, operand } from '../../lib/program/index.js'
import type { Lookup } from './interpreter.js'

const block = 32
const f32 = Math.fround

/** quantise, dequantise. Stored words are opaque: here the bits of float32 values. */
export function evaluateQuantise(node: Node, lookup: Lookup): Float32Array {
  const source = operand(node, 'source')!
  const values = lookup(source)
  if (node.op === 'quantise') return narrow(values as Float32Array, source.shape[3]!)
  return widen(values as Float32Array, node.output.shape[3]!, source.shape[3]!)
}

/** Each pixel: the scales of its blocks, then a byte for each channel, filled up to whole words. */
export function narrow(values: Float32Array, channels: number): Float32Array {
  const scales = Math.ceil(channels / block)
  const words = scales + Math.ceil(channels / 4)
  const pixels = values.length / channels
  const out = new Float32Array(pixels * words)
  const bytes = new Int8Array(out.buffer)
  for (let p = 0; p < pixels; p++) {
    for (let b = 0; b < scales; b++) {
      const own = values.subarray(
        p * channels + b * block,
        p * channels + Math.min(channels, (b + 1) * block),
      )
      const largest = own.reduce((most, x) => Math.max(most, Math.abs(x)), 0)
      const inverse = largest < 1e-30 ? 0 : f32(127 / largest)
      out[p * words + b] = largest < 1e-30 ? 0 : largest / 127
      own.forEach((x, i) => {
        bytes[4 * (p * words + scales) + b * block + i] = nearestEven(f32(x * inverse))
      })
    }
  }
  return out
}

export function widen(stored: Float32Array, channels: number, words: number): Float32Array {
  const bytes = new Int8Array(stored.buffer, stored.byteOffset, stored.byteLength)
  const scales = Math.ceil(channels / block)
  return Float32Array.from({ length: (stored.length / words) * channels }, (_, i) => {
    const [p, c] = [Math.floor(i / channels), i % channels]
    return bytes[4 * (p * words + scales) + c]! * stored[p * words + Math.floor(c / block)]!
  })
}

function nearestEven(x: number): number {
  const below = Math.floor(x)
  if (x - below !== 0.5) return Math.round(x)
  return below % 2 === 0 ? below : below + 1
}
