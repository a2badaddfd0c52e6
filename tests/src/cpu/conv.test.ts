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
import {
  activations,
  check,
  type FloatType,
  from,
  halfBits,
  halfValue,
  Memory,
  normals,
  type Operand,
  onlyCases,
} from './support.js'

type Act = Exclude<keyof typeof actCode, 'geglu'>

interface Case {
  frames?: number
  /** Stored rows and columns of the sources. */
  stored: readonly [number, number]
  /** Rows and columns after nearest upsampling. */
  size?: readonly [number, number]
  kernel?: readonly [number, number]
  stride?: number
  /** Zeros above, left, below, right. */
  padding?: readonly [number, number, number, number]
  sources: readonly number[]
  channels: number
  weights?: FloatType
  bias?: boolean
  vector?: 'each frame' | 'shared'
  residual?: 'apart' | 'in place'
  affine?: 'each frame' | 'shared'
  prologue?: Act
  act?: keyof typeof actCode
  /** Rows and columns of a tile, free floats behind its pixels. */
  tile?: readonly [number, number, number]
  /** Frames in a tile, where that is a whole frame. */
  together?: number
  /** Pixels begin at multiples of eight elements, so that a GPU copies them as they are. */
  aligned?: boolean
}

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
  const depth = kernel[0] * kernel[1] * inputs
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
    depth,
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
  const scratchBytes =
    4 *
    ((tileRows - 1) * stride + kernel[0]) *
    ((tileCols - 1) * stride + kernel[1]) *
    (inputs + free) *
    (c.together ?? 1)
  const scratch = memory.scratch(scratchBytes)

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
      tile,
      ...memory.scratchFields(scratch, scratchBytes),
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
      for (let ky = 0; ky < kernel[0]; ky++) {
        for (let kx = 0; kx < kernel[1]; kx++) {
          const [r, q] = [y * stride + ky - above, x * stride + kx - left]
          if (r < 0 || r >= size[0] || q < 0 || q >= size[1]) continue
          for (let i = 0; i < inputs; i++) {
            window[(ky * kernel[1] + kx) * inputs + i] = input(f, r, q, i)
          }
        }
      }
      windows.set(key, window)
    }
    return window
  }
  const product = (window: Float64Array, column: number): number => {
    let total = c.bias ? initial[bias.offset / 4 + column]! : 0
    for (let k = 0; k < depth; k++) total += window[k]! * weight.at(column, k)
    return total
  }
  const expected = (f: number, y: number, x: number, o: number): number => {
    const window = windowAt(f, y, x)
    if (pairs) {
      const column = Math.floor(o / 16) * 32 + (o % 16)
      return product(window, column) * gelu(product(window, column + 16))
    }
    let total = product(window, o)
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

const same3 = { kernel: [3, 3], padding: [1, 1, 1, 1] } as const

const cases: Record<string, Case> = {
  'one pixel, one channel': { stored: [1, 1], sources: [1], channels: 1 },
  'one pixel under a 3x3 kernel': {
    stored: [1, 1],
    ...same3,
    sources: [5],
    channels: 3,
    bias: true,
  },
  'a linear layer, odd widths': {
    stored: [1, 37],
    sources: [19],
    channels: 50,
    bias: true,
    tile: [1, 37, 0],
  },
  'a linear layer of one token': { stored: [1, 1], sources: [70], channels: 130, weights: 'f16' },
  'each activation: silu': { stored: [1, 9], sources: [20], channels: 17, act: 'silu' },
  'each activation: gelu': { stored: [1, 9], sources: [20], channels: 17, act: 'gelu', bias: true },
  'each activation: quick_gelu': { stored: [1, 9], sources: [20], channels: 17, act: 'quick_gelu' },
  'each activation: gelu_tanh': { stored: [1, 9], sources: [20], channels: 17, act: 'gelu_tanh' },
  'each activation: sigmoid': { stored: [1, 9], sources: [20], channels: 17, act: 'sigmoid' },
  'geglu, float32': {
    stored: [2, 11],
    frames: 2,
    sources: [21],
    channels: 37,
    act: 'geglu',
    bias: true,
  },
  'geglu, float16, many panels': {
    stored: [3, 7],
    sources: [48],
    channels: 200,
    act: 'geglu',
    weights: 'f16',
    bias: true,
  },
  'geglu, bfloat16, no bias': {
    stored: [1, 5],
    sources: [33],
    channels: 16,
    act: 'geglu',
    weights: 'bf16',
  },
  'two sources of uneven widths, norm and silu before': {
    ...same3,
    stored: [6, 7],
    frames: 3,
    sources: [13, 22],
    channels: 33,
    affine: 'each frame',
    prologue: 'silu',
    bias: true,
    vector: 'each frame',
    residual: 'apart',
  },
  'shared vector and affine, residual in place': {
    ...same3,
    stored: [5, 9],
    frames: 2,
    sources: [16],
    channels: 32,
    affine: 'shared',
    vector: 'shared',
    residual: 'in place',
    tile: [8, 12, 0],
    weights: 'bf16',
  },
  'each prologue: none': { stored: [3, 3], sources: [18], channels: 4, affine: 'shared' },
  'each prologue: gelu': {
    stored: [3, 3],
    sources: [18],
    channels: 4,
    affine: 'shared',
    prologue: 'gelu',
  },
  'each prologue: quick_gelu without affine': {
    stored: [3, 3],
    sources: [18],
    channels: 4,
    prologue: 'quick_gelu',
  },
  'each prologue: gelu_tanh': {
    stored: [3, 3],
    sources: [18],
    channels: 4,
    affine: 'shared',
    prologue: 'gelu_tanh',
  },
  'each prologue: sigmoid': {
    stored: [3, 3],
    sources: [18],
    channels: 4,
    affine: 'shared',
    prologue: 'sigmoid',
  },
  'stride 2, zeros below and right only': {
    stored: [8, 10],
    kernel: [3, 3],
    stride: 2,
    padding: [0, 0, 1, 1],
    sources: [12],
    channels: 20,
    weights: 'f16',
  },
  'stride 2, zeros around, odd size': {
    ...same3,
    stored: [7, 9],
    stride: 2,
    sources: [7],
    channels: 18,
    bias: true,
  },
  'patches: kernel = stride = 4': {
    stored: [12, 8],
    kernel: [4, 4],
    stride: 4,
    sources: [3],
    channels: 24,
  },
  'a kernel of one row': {
    stored: [4, 9],
    kernel: [1, 3],
    padding: [0, 1, 0, 1],
    sources: [9],
    channels: 10,
  },
  'a kernel of one column': {
    stored: [9, 4],
    kernel: [3, 1],
    padding: [1, 0, 1, 0],
    sources: [9],
    channels: 10,
  },
  'read through upsampling by 2': {
    ...same3,
    stored: [3, 5],
    size: [6, 10],
    sources: [10],
    channels: 21,
    bias: true,
  },
  'upsampling that is no multiple': {
    ...same3,
    stored: [3, 5],
    size: [7, 8],
    frames: 2,
    sources: [6, 5],
    channels: 8,
    affine: 'each frame',
    prologue: 'silu',
  },
  'few outputs: 3 of 48 inputs, rows that are no multiple of a register tile': {
    ...same3,
    stored: [7, 19],
    frames: 2,
    sources: [32, 16],
    channels: 3,
    weights: 'f16',
    bias: true,
    vector: 'each frame',
    residual: 'in place',
    affine: 'each frame',
    prologue: 'silu',
    act: 'silu',
  },
  'few outputs: 4 of several blocks': {
    ...same3,
    stored: [5, 8],
    sources: [400, 240],
    channels: 4,
    bias: true,
    tile: [5, 8, 16],
  },
  'few outputs: one, stride 2': {
    ...same3,
    stored: [9, 11],
    stride: 2,
    sources: [16],
    channels: 1,
  },
  'K of several blocks, float32': {
    ...same3,
    stored: [4, 5],
    sources: [301, 220],
    channels: 56,
    bias: true,
    residual: 'apart',
    act: 'silu',
    tile: [4, 5, 16],
  },
  'K of several blocks, float16': {
    ...same3,
    stored: [4, 5],
    sources: [521],
    channels: 70,
    weights: 'f16',
    bias: true,
    residual: 'in place',
    tile: [4, 5, 0],
  },
  'a linear layer with K of several blocks': {
    stored: [2, 9],
    sources: [400, 701],
    channels: 40,
    residual: 'apart',
    vector: 'shared',
    tile: [2, 9, 0],
  },
  'frames that share a tile': {
    ...same3,
    stored: [4, 5],
    frames: 5,
    sources: [20, 13],
    channels: 37,
    bias: true,
    vector: 'each frame',
    residual: 'apart',
    affine: 'each frame',
    prologue: 'silu',
    tile: [4, 5, 8],
    together: 2,
  },
  'frames that share a tile, of several blocks': {
    ...same3,
    stored: [4, 4],
    frames: 9,
    sources: [330],
    channels: 16,
    tile: [4, 4, 0],
    together: 9,
  },
  'whole chunks: a linear layer': {
    stored: [3, 43],
    aligned: true,
    sources: [72],
    channels: 96,
    weights: 'f16',
    bias: true,
    residual: 'in place',
  },
  'whole chunks: two sources, norm and silu before': {
    ...same3,
    stored: [6, 7],
    frames: 3,
    aligned: true,
    sources: [40, 24],
    channels: 88,
    weights: 'f16',
    affine: 'each frame',
    prologue: 'silu',
    bias: true,
    vector: 'each frame',
    residual: 'apart',
    act: 'silu',
  },
  'whole chunks: stride 2 over two sources': {
    ...same3,
    stored: [9, 11],
    frames: 2,
    stride: 2,
    aligned: true,
    sources: [8, 48],
    channels: 20,
    weights: 'bf16',
  },
  'whole chunks: read through upsampling': {
    ...same3,
    stored: [4, 6],
    size: [8, 12],
    aligned: true,
    sources: [16],
    channels: 130,
    bias: true,
    affine: 'shared',
    prologue: 'silu',
  },
  'whole chunks: geglu': {
    stored: [2, 70],
    aligned: true,
    sources: [40],
    channels: 160,
    act: 'geglu',
    weights: 'f16',
    bias: true,
  },
  'whole chunks: more tiles than a GPU has multiprocessors': {
    ...same3,
    stored: [16, 20],
    frames: 2,
    aligned: true,
    sources: [32],
    channels: 200,
    weights: 'f16',
    bias: true,
    affine: 'each frame',
    prologue: 'silu',
  },
  'whole chunks: the same without a norm': {
    ...same3,
    stored: [16, 20],
    frames: 2,
    aligned: true,
    sources: [24],
    channels: 184,
    weights: 'f16',
    act: 'silu',
  },
  // What compute capability 9.0 copies in boxes.
  'whole chunks: 64 channels at a time': {
    ...same3,
    stored: [7, 10],
    frames: 3,
    aligned: true,
    sources: [64],
    channels: 40,
    weights: 'f16',
    bias: true,
    vector: 'each frame',
    residual: 'apart',
    act: 'silu',
  },
  'whole chunks: 64 channels at a time, stride 2 over two sources': {
    ...same3,
    stored: [9, 11],
    frames: 2,
    stride: 2,
    aligned: true,
    sources: [64, 120],
    channels: 72,
    weights: 'f16',
    residual: 'in place',
  },
  'whole chunks: 64 channels at a time, through upsampling': {
    ...same3,
    stored: [5, 6],
    size: [10, 12],
    frames: 2,
    aligned: true,
    sources: [64],
    channels: 72,
    weights: 'f16',
    bias: true,
  },
  'whole chunks: 64 channels at a time, over time': {
    stored: [5, 33],
    kernel: [3, 1],
    padding: [1, 0, 1, 0],
    aligned: true,
    sources: [56],
    channels: 150,
    weights: 'f16',
    bias: true,
  },
  'whole chunks: 64 channels at a time, geglu': {
    stored: [2, 70],
    aligned: true,
    sources: [192],
    channels: 88,
    act: 'geglu',
    weights: 'f16',
    bias: true,
  },
  'whole chunks: 64 channels at a time, a linear layer': {
    stored: [3, 43],
    aligned: true,
    sources: [448],
    channels: 96,
    weights: 'bf16',
    bias: true,
    residual: 'in place',
  },
}

/** Of an even number of inputs, whose sums are in bfloat16 where that is asked for. */
const pairs: Record<string, Case> = {
  'pairs: two sources, norm and silu before': {
    ...same3,
    stored: [6, 7],
    frames: 3,
    sources: [13, 21],
    channels: 33,
    weights: 'f16',
    affine: 'each frame',
    prologue: 'silu',
    bias: true,
    vector: 'each frame',
    residual: 'apart',
  },
  'pairs: geglu': {
    stored: [2, 11],
    frames: 2,
    sources: [22],
    channels: 85,
    act: 'geglu',
    bias: true,
  },
  'pairs: read through upsampling': {
    ...same3,
    stored: [3, 5],
    size: [6, 10],
    frames: 2,
    sources: [6, 10],
    channels: 21,
    affine: 'each frame',
    prologue: 'silu',
    bias: true,
  },
  'pairs: stride 2, zeros around, odd size': {
    ...same3,
    stored: [7, 9],
    stride: 2,
    sources: [14],
    channels: 18,
    bias: true,
  },
  'pairs: K of several blocks': {
    ...same3,
    stored: [4, 5],
    sources: [301, 221],
    channels: 70,
    weights: 'bf16',
    residual: 'in place',
    act: 'silu',
    tile: [4, 5, 16],
  },
  'pairs: a linear layer with K of several blocks': {
    stored: [2, 9],
    sources: [400, 702],
    channels: 40,
    residual: 'apart',
    vector: 'shared',
    tile: [2, 9, 0],
  },
  'pairs: tiles of lines and of whole frames': {
    ...same3,
    stored: [4, 16],
    frames: 3,
    sources: [32],
    channels: 144,
    weights: 'f16',
    bias: true,
    tile: [4, 16, 0],
    together: 2,
  },
}
for (let pixels = 1; narrow && pixels <= 17; pixels++) {
  pairs[`pairs: ${pixels} pixels`] = {
    stored: [1, pixels],
    sources: [2 * pixels + 30],
    channels: 4 * pixels + 1,
    bias: true,
    tile: [1, pixels, 0],
  }
}

Object.entries({ ...cases, ...(narrow && pairs) }).forEach(([name, shape], i) => {
  if (name.includes(onlyCases)) test(`conv: ${name}`, () => conv(name, i + 1, shape))
})

test.run()
