/** Recorded inputs and outputs of the fixtures, their layout, and how far a result is from them. */
import { fileURLToPath } from 'node:url'
import { readFloats, readInts, readSafetensorsHeader } from '../../lib/io/safetensors.js'
import type { TensorValues } from './interpreter.js'

/** The checkout. Tests run from dist/tests/support. */
export const root = fileURLToPath(new URL('../../..', import.meta.url))
export const fixture = (name: string): string => `${root}tests/fixtures/${name}`

export interface Recorded {
  shape: readonly number[]
  values: TensorValues
}

/** Every tensor of a safetensors file: floats widened to f32, integers narrowed to i32. */
export async function readTensors(path: string): Promise<Record<string, Recorded>> {
  const tensors: Record<string, Recorded> = {}
  for (const [key, entry] of readSafetensorsHeader(path).tensors) {
    const values = /^(F|BF)/.test(entry.dtype) ? await readFloats(entry) : await readInts(entry)
    tensors[key] = { shape: entry.shape, values }
  }
  return tensors
}

/** One element along the first axis. */
export function select({ shape, values }: Recorded, index: number): Recorded {
  const rest = shape.slice(1)
  const size = rest.reduce((a, b) => a * b, 1)
  return { shape: rest, values: values.slice(index * size, (index + 1) * size) }
}

/** Axes in another order: axis i of the result is axis order[i] of the source. */
export function transpose({ shape, values }: Recorded, order: readonly number[]): Recorded {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1))
  const to = order.map(axis => shape[axis]!)
  const out = values.slice()
  const index = new Array<number>(to.length).fill(0)
  for (let at = 0; at < out.length; at++) {
    out[at] = values[index.reduce((sum, i, axis) => sum + i * strides[order[axis]!]!, 0)]!
    for (let axis = to.length - 1; axis >= 0 && ++index[axis]! === to[axis]; axis--) index[axis] = 0
  }
  return { shape: to, values: out }
}

/** Largest difference, and it over the standard deviation of what was expected. */
export function difference(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
): { max: number; relative: number } {
  if (actual.length !== expected.length)
    throw new Error(`expected ${expected.length} values, got ${actual.length}`)
  const n = expected.length
  let mean = 0
  let squares = 0
  let max = 0
  for (let i = 0; i < n; i++) mean += expected[i]! / n
  for (let i = 0; i < n; i++) {
    squares += (expected[i]! - mean) ** 2 / n
    const off = Math.abs(actual[i]! - expected[i]!)
    if (!(off <= max)) max = off
  }
  return { max, relative: max / Math.sqrt(squares) }
}
