import * as assert from 'uvu/assert'
import { absent, CommandWriter, dtypeCode, type View } from '../../../lib/planner/commands.js'
import { native } from '../../../lib/runtime/native.js'
import { roundTo } from '../../support/interpreter-math.js'
import { randomNumbers } from '../../support/random-program.js'

export type Extents = readonly [frames: number, rows: number, cols: number, channels: number]
export type FloatType = 'f32' | 'f16' | 'bf16'

/** An operand of the memory that a test lays out: its view, and its elements by position. */
export interface Operand {
  view: View
  extents: Extents
  get(frame: number, row: number, col: number, channel: number): number
}

export interface Layout {
  dtype?: FloatType
  /** Elements left free behind each pixel, row and frame. */
  gaps?: readonly [number, number, number]
  /** Values; a bit pattern that no kernel writes where there is none. */
  fill?: () => number
}

/** Where commands run: tests/cuda runs these files again on a GPU's kernels. */
export const device = process.env.SLUICE_TEST_DEVICE ?? 'cpu'
/** A GPU's kernels keep their scratch to themselves. */
const usesScratch = device === 'cpu'

/** How the tests of products store activations: float32, or what a GPU computes with. */
export const activations = (process.env.SLUICE_TEST_DTYPE ?? 'f32') as FloatType

/** Part of the names of the cases that run; all without one. */
export const onlyCases = process.env.SLUICE_TEST_CASES ?? ''

const untouched = 0x7fc0dead
const capacity = 16 << 20
const mostThreads = 3

/** Values of about unit size, the same for a seed. */
export function normals(seed: number): () => number {
  const uniform = randomNumbers(seed)
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform())
}

/** The bits of a float16 or bfloat16 nearest to a value. */
export function halfBits(value: number, dtype: 'f16' | 'bf16'): number {
  const rounded = roundTo(value, dtype)
  const word = new Uint32Array(Float32Array.of(rounded).buffer)[0]!
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0 // rounding to 0 keeps the sign
  if (dtype === 'bf16') return sign | ((word >>> 16) & 0x7fff)
  const size = Math.abs(rounded)
  if (Number.isNaN(rounded)) return sign | 0x7e00
  if (size === Number.POSITIVE_INFINITY) return sign | 0x7c00
  if (size < 2 ** -14) return sign | (size * 2 ** 24)
  return sign | (((word & 0x7fffffff) - 0x38000000) >>> 13)
}

/** The value of a bit pattern of float16 or bfloat16. */
export function halfValue(bits: number, dtype: 'f16' | 'bf16'): number {
  if (dtype === 'bf16') return new Float32Array(Uint32Array.of(bits << 16).buffer)[0]!
  const sign = bits & 0x8000 ? -1 : 1
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023]
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY
  if (exponent === 0) return sign * fraction * 2 ** -24
  return sign * (1024 + fraction) * 2 ** (exponent - 25)
}

/** The arena of one test: operands one behind another, scratch at the end. */
export class Memory {
  private readonly buffer = new ArrayBuffer(capacity)
  readonly words = new Uint32Array(this.buffer).fill(untouched)
  readonly floats = new Float32Array(this.buffer)
  readonly halves = new Uint16Array(this.buffer)
  private end = 0
  private scratchBegin = capacity

  take(bytes: number): number {
    const offset = this.end
    this.end = Math.ceil((offset + bytes) / 64) * 64
    assert.ok(this.end <= capacity, 'the memory of a test is full')
    return offset
  }

  operand(extents: Extents, { dtype = 'f32', gaps = [0, 0, 0], fill }: Layout = {}): Operand {
    const [frames, rows, cols, channels] = extents
    const pixel = channels + gaps[0]
    const row = cols * pixel + gaps[1]
    const frame = rows * row + gaps[2]
    const size = dtype === 'f32' ? 4 : 2
    const offset = this.take(frames * frame * size)
    const index = (f: number, y: number, x: number, c: number) =>
      offset / size + f * frame + y * row + x * pixel + c
    const get = (f: number, y: number, x: number, c: number) =>
      dtype === 'f32'
        ? this.floats[index(f, y, x, c)]!
        : halfValue(this.halves[index(f, y, x, c)]!, dtype)
    if (fill) {
      for (const [f, y, x, c] of positions(extents)) {
        if (dtype === 'f32') this.floats[index(f, y, x, c)] = fill()
        else this.halves[index(f, y, x, c)] = halfBits(fill(), dtype)
      }
    }
    const view = { slot: 0, dtype: dtypeCode[dtype], offset, strides: [frame, row, pixel] } as const
    return { view, extents, get }
  }

  /** float32 values one after another, as an operand without strides. */
  vector(values: ArrayLike<number>): View {
    const offset = this.take(values.length * 4)
    this.floats.set(values, offset / 4)
    return { slot: 0, dtype: dtypeCode.f32, offset, strides: [0, 0, 0] }
  }

  scratch(bytesPerThread: number): View {
    const offset = this.take(bytesPerThread * mostThreads)
    this.scratchBegin = Math.min(this.scratchBegin, offset)
    return { slot: 0, dtype: dtypeCode.f32, offset, strides: [0, 0, 0] }
  }

  /** The fields of a command that name its scratch, of which it uses so much for each thread. */
  scratchFields(scratch: View, scratchBytes: number): { scratch: View; scratchBytes: number } {
    return usesScratch ? { scratch, scratchBytes } : { scratch: absent, scratchBytes: 0 }
  }

  /** Runs commands over a copy of this memory; the words before the scratch as they are afterwards. */
  async run(write: (writer: CommandWriter) => void, threads = 1): Promise<Uint32Array> {
    const writer = new CommandWriter()
    write(writer)
    const bytes = this.end
    const stream = native().loadStream(device, writer.finish(), Float64Array.of(bytes, 0, 0))
    const arena = native().createBlock(device, bytes)
    try {
      arena.write(0, this.words.subarray(0, bytes / 4))
      await stream.run(arena, null, new Float64Array(0), threads).done
      const out = new Uint32Array(Math.min(bytes, this.scratchBegin) / 4)
      arena.read(0, out)
      return out
    } finally {
      arena.release()
    }
  }
}

/** Every position of a box, channels fastest. */
export function* positions([frames, rows, cols, channels]: Extents): Generator<
  [number, number, number, number]
> {
  for (let f = 0; f < frames; f++)
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < cols; x++) for (let c = 0; c < channels; c++) yield [f, y, x, c]
}

/** The view of the same operand from a position on. */
export function from(view: View, frame: number, row = 0, col = 0): View {
  const [f, y, x] = view.strides
  const size = view.dtype === dtypeCode.f32 ? 4 : 2
  return { ...view, offset: view.offset + (frame * f + row * y + col * x) * size }
}

export interface Check {
  memory: Memory
  out: Operand
  /** The command, whole. */
  whole: (writer: CommandWriter) => void
  /** The same work as several commands. */
  sliced?: (writer: CommandWriter) => void
  expected: (frame: number, row: number, col: number, channel: number) => number
  /** Largest difference in float32, relative to 1 + |expected|. */
  tolerance: number
}

/** What rounding inputs, weights and results to a narrow type may add to a difference. */
const rounding = { f32: 0, f16: 4e-3, bf16: 3e-2 } as const

/**
 * Checks a result against a reference, that nothing beside it was written, and that threads and
 * slices change no bit of it.
 */
export async function check(what: string, c: Check): Promise<void> {
  const before = c.memory.words
  const once = await c.memory.run(c.whole)
  const narrow = c.out.view.dtype !== dtypeCode.f32
  const dtype = narrow ? activations : 'f32'
  const elements = narrow ? new Uint16Array(once.buffer) : once
  const untouched = narrow ? new Uint16Array(before.buffer) : before
  const floats = new Float32Array(once.buffer)
  const valueAt = (i: number) => (dtype === 'f32' ? floats[i]! : halfValue(elements[i]!, dtype))
  const [frame, row, pixel] = c.out.view.strides
  const own = new Uint8Array(elements.length)
  for (const [f, y, x, channel] of positions(c.out.extents)) {
    const index = c.out.view.offset / (narrow ? 2 : 4) + f * frame + y * row + x * pixel + channel
    own[index] = 1
    const expected = c.expected(f, y, x, channel)
    const error = Math.abs(valueAt(index) - expected) / (1 + Math.abs(expected))
    if (!(error <= c.tolerance + rounding[activations])) {
      assert.unreachable(`${what} at ${f},${y},${x},${channel}: ${valueAt(index)}, not ${expected}`)
    }
  }
  const strayed = elements.findIndex((bits, i) => !own[i] && bits !== untouched[i])
  assert.is(strayed, -1, `${what}: wrote element ${strayed} beside its output`)
  for (let threads = 2; usesScratch && threads <= mostThreads; threads++) {
    sameBits(`${what}, ${threads} threads`, await c.memory.run(c.whole, threads), once)
  }
  if (c.sliced) {
    for (const threads of usesScratch ? [1, 2] : [1]) {
      sameBits(`${what}, sliced`, await c.memory.run(c.sliced, threads), once)
    }
  }
}

export function sameBits(what: string, actual: Uint32Array, expected: Uint32Array): void {
  assert.is(actual.length, expected.length)
  const at = actual.findIndex((word, i) => word !== expected[i])
  assert.is(at, -1, `${what}: word ${at} differs`)
}
