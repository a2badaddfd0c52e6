import { test } from 'uvu'
import {
  absent,
  actCode,
  type CommandWriter,
  dtypeCode,
  panelWidth,
  type View,
} from '../../../lib/planner/commands.js'
import { activate, gelu, roundTo } from '../../support/interpreter-math.js'
import { type Act, type Case, cases } from './conv-cases.js'
import { pairs, phased } from './conv-cases-cpu.js'
import {
  activations,
  check,
  device,
  type FloatType,
  from,
  halfBits,
  halfValue,
  Memory,
  normals,
  type Operand,
  onlyCases,
} from './support.js'

/** Products of bfloat16, where the command takes its input channels in pairs. */
const narrow = process.env.SLUICE_TEST_COMPUTE === 'bf16'

const ceil16 = (n: number) => Math.ceil(n / 16) * 16
const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0)

/** Panels of random weights: [panel][k][lane], zero beyond the columns that `used` names. */
function weights(
  memory: Memory,
  next: () => number,
  dtype: FloatType,
  columns: number,
  depth: number,
  used: (column: number) => boolean,
  operand: (value: number) => number,
) {
  const size = dtype === 'f32' ? 4 : 2
  const offset = memory.take(columns * depth * size)
  const values = new Float64Array(columns * depth)
  for (let o = 0; o < columns; o++) {
    for (let k = 0; k < depth; k++) {
      const value = used(o) ? next() / Math.sqrt(depth) : 0
      const at =
        offset / size + (Math.floor(o / panelWidth) * depth + k) * panelWidth + (o % panelWidth)
      if (dtype === 'f32') {
        memory.floats[at] = value
        values[o * depth + k] = operand(memory.floats[at]!)
      } else {
        memory.halves[at] = halfBits(value, dtype)
        values[o * depth + k] = operand(halfValue(memory.halves[at]!, dtype))
      }
    }
  }
  const view: View = { slot: 0, dtype: dtypeCode[dtype], offset, strides: [0, 0, 0] }
  return { view, at: (column: number, k: number) => values[column * depth + k]! }
}

async function conv(what: string, seed: number, c: Case): Promise<void> {
  const memory = new Memory()
  const next = normals(seed)
  const { frames = 1, stored, size = stored, kernel = [1, 1], stride = 1, sources, channels } = c
  const [above, left, below, right] = c.padding ?? [0, 0, 0, 0]
  const rows = Math.floor((size[0] + above + below - kernel[0]) / stride) + 1
  const cols = Math.floor((size[1] + left + right - kernel[1]) / stride) + 1
  const inputs = sum(sources)
  // By phases a window is two stored pixels high and wide, under one of four sets of weights.
  const [high, wide] = c.phases ? [2, 2] : kernel
  const depth = high * wide * inputs
  const pairs = c.act === 'geglu'
  const columns = pairs ? 2 * ceil16(channels) : ceil16(channels)
  const half = (column: number) => (pairs ? Math.floor(column / 32) * 16 + (column % 16) : column)

  const inPairs = narrow && inputs % 2 === 0 && channels > 4
  const operand = (value: number) => (inPairs ? roundTo(value, 'bf16') : value)

  const source = sources.map((n, i) =>
    memory.operand([frames, ...stored, n], {
      dtype: activations,
      gaps: c.aligned ? [8 * i, 8, 16] : [3 * i, 5, 7],
      fill: next,
    }),
  )
  const weight = weights(
    memory,
    next,
    c.weights ?? 'f32',
    columns,
    depth * (c.phases ? 4 : 1),
    o => half(o) < channels,
    operand,
  )
  const numbers = (n: number) => Float32Array.from({ length: n }, next)
  const bias = c.bias ? memory.vector(numbers(pairs ? columns : channels)) : absent
  const perFrame = (n: number, each: boolean, dtype: FloatType): Operand =>
    memory.operand([each ? frames : 1, 1, 1, n], {
      dtype,
      gaps: [c.aligned ? 8 : 2, 0, 0],
      fill: next,
    })
  const strided = (operand: Operand, each: boolean): View => ({
    ...operand.view,
    strides: [each ? operand.view.strides[0] : 0, 0, 0],
  })
  const vector = c.vector ? perFrame(channels, c.vector === 'each frame', activations) : undefined
  const affine = c.affine ? perFrame(2 * inputs, c.affine === 'each frame', 'f32') : undefined
  const outLayout = {
    dtype: activations,
    gaps: c.aligned ? ([8, 16, 8] as const) : ([1, 2, 3] as const),
  }
  const residual =
    c.residual && memory.operand([frames, rows, cols, channels], { ...outLayout, fill: next })
  const out =
    c.residual === 'in place'
      ? residual!
      : memory.operand([frames, rows, cols, channels], outLayout)
  const [tileRows, tileCols, free] = c.tile ?? [3, 4, 1]
  const packed = (outputs: number, axis: 0 | 1) =>
    c.phases ? Math.floor(outputs / 2) + 2 : (outputs - 1) * stride + kernel[axis]
  const plain = kernel[0] * kernel[1] === 1 && size[0] === stored[0] && size[1] === stored[1]
  const inPlace =
    plain &&
    !c.affine &&
    (c.prologue ?? 'none') === 'none' &&
    channels > 4 &&
    !inPairs &&
    !(pairs && sources.length > 1)
  const packedBytes =
    4 * packed(tileRows, 0) * packed(tileCols, 1) * (inputs + free) * (c.together ?? 1)
  const scratch = memory.scratch(packedBytes)
  const scratchFields = inPlace
    ? { scratch: absent, scratchBytes: 0 }
    : memory.scratchFields(scratch, packedBytes)

  /** Output rows [begin, end) of frames [first, first + count). */
  const write = (
    writer: CommandWriter,
    first: number,
    count: number,
    begin: number,
    end: number,
    tile: readonly number[],
  ) =>
    writer.conv(0, 0, {
      extents: [count, end - begin, cols, channels],
      kernel,
      stride,
      inSize: size,
      physSize: stored,
      origin: [begin * stride - above, -left],
      sourceOrigin: [0, 0],
      sourceSize: stored,
      sourceChannels: sources,
      sources: source.map(s => from(s.view, first)),
      out: from(out.view, first, begin),
      weight: weight.view,
      bias,
      vector: vector ? from(strided(vector, c.vector === 'each frame'), first) : absent,
      residual: residual ? from(residual.view, first, begin) : absent,
      affine: affine ? from(strided(affine, c.affine === 'each frame'), first) : absent,
      prologueAct: actCode[c.prologue ?? 'none'],
      act: actCode[c.act ?? 'none'],
      outputs: channels,
      compute: Number(narrow),
      phases: c.phases,
      tile,
      ...scratchFields,
    })

  // The reference reads the memory as it is before the run.
  const initial = memory.floats.slice()
  const input = (f: number, r: number, q: number, channel: number): number => {
    const y = Math.floor((r * stored[0]) / size[0])
    const x = Math.floor((q * stored[1]) / size[1])
    const second = channel >= sources[0]!
    const value = source[Number(second)]!.get(f, y, x, second ? channel - sources[0]! : channel)
    const g = c.affine === 'each frame' ? f : 0
    const scaled = affine
      ? value * affine.get(g, 0, 0, channel) + affine.get(g, 0, 0, inputs + channel)
      : value
    return operand(activate(scaled, c.prologue ?? 'none'))
  }
  const windows = new Map<string, Float64Array>()
  const windowAt = (f: number, y: number, x: number): Float64Array => {
    const key = `${f},${y},${x}`
    let window = windows.get(key)
    if (!window) {
      window = new Float64Array(depth)
      // Of a stored pixel, either logical one stands for it.
      const at = (position: number, pad: number, tap: number) =>
        c.phases ? 2 * (Math.floor((position - pad) / 2) + tap) : position * stride + tap - pad
      for (let ky = 0; ky < high; ky++) {
        for (let kx = 0; kx < wide; kx++) {
          const [r, q] = [at(y, above, ky), at(x, left, kx)]
          if (r < 0 || r >= size[0] || q < 0 || q >= size[1]) continue
          for (let i = 0; i < inputs; i++) {
            window[(ky * wide + kx) * inputs + i] = input(f, r, q, i)
          }
        }
      }
      windows.set(key, window)
    }
    return window
  }
  const product = (window: Float64Array, column: number, phase = 0): number => {
    let total = c.bias ? initial[bias.offset / 4 + column]! : 0
    for (let k = 0; k < depth; k++) total += window[k]! * weight.at(column, phase * depth + k)
    return total
  }
  const expected = (f: number, y: number, x: number, o: number): number => {
    const window = windowAt(f, y, x)
    if (pairs) {
      const column = Math.floor(o / 16) * 32 + (o % 16)
      return product(window, column) * gelu(product(window, column + 16))
    }
    const even = (position: number, pad: number) => Number((position - pad) % 2 === 0)
    const phase = c.phases ? 2 * even(y, above) + even(x, left) : 0
    let total = product(window, o, phase)
    if (vector) total += vector.get(c.vector === 'each frame' ? f : 0, 0, 0, o)
    if (residual) total += residual.get(f, y, x, o)
    return activate(total, (c.act ?? 'none') as Act)
  }

  const cut = Math.ceil(rows / 3)
  await check(what, {
    memory,
    out,
    expected,
    // What the prologue leaves may lie so near a tie that it is rounded the other way.
    tolerance: inPairs && (affine || c.prologue) ? 2e-3 : 1e-5,
    whole: writer => write(writer, 0, frames, 0, rows, [tileRows, tileCols, inputs + free]),
    sliced: writer => {
      for (let f = 0; f < frames; f++) {
        const tile = f % 2 ? [1, tileCols, inputs + free] : [tileRows, 1, inputs]
        if (cut < rows) write(writer, f, 1, cut, rows, tile)
        write(writer, f, 1, 0, cut, tile)
      }
    },
  })
}

const all = { ...cases, ...(narrow && pairs), ...(device === 'cpu' && phased) }
Object.entries(all).forEach(([name, shape], i) => {
  if (name.includes(onlyCases)) test(`conv: ${name}`, () => conv(name, i + 1, shape))
})

test.run()
