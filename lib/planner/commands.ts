/**
 * The command stream's words, field for field the structs of src/core/commands.h: the only file that knows their order.
 * Each function appends one command; `View` is an operand with its place resolved.
 */

/** Must equal kCommandVersion in src/core/commands.h. */
export const commandVersion = 6

export const dtypeCode = { f32: 0, f16: 1, bf16: 2, i32: 3 } as const
/** Bytes of an element of a dtype code. */
export const codeBytes = (code: number): number =>
  code === dtypeCode.f16 || code === dtypeCode.bf16 ? 2 : 4
export const actCode = {
  none: 0,
  silu: 1,
  gelu: 2,
  quick_gelu: 3,
  geglu: 4,
  gelu_tanh: 5,
  sigmoid: 6,
} as const
export const binaryCode = { add: 0, sub: 1, mul: 2, lerp: 3 } as const
const opcode = {
  conv: 1,
  normPartials: 2,
  normFold: 3,
  affine: 4,
  layerNorm: 5,
  attention: 6,
  binary: 7,
  unary: 8,
  combine: 9,
  resize: 10,
  embedding: 11,
  timestep: 12,
  quantise: 13,
  dequantise: 14,
  copy: 15,
  join: 16,
  fetch: 17,
} as const

export const slotArena = 0
export const slotWeights = 1
/** Memory of the host beside the device's; copies alone reach it. */
export const slotHost = 2
/** Slots from here are bound anew for each run. */
export const slotBound = 3

/** Output channels of one panel of packed weights. */
export const panelWidth = 16

/** An operand seen as [frames, rows, cols, channels]: slot, dtype code, byte offset, element strides (channels contiguous). */
export interface View {
  slot: number
  dtype: number
  offset: number
  strides: readonly [number, number, number]
}

export const absent: View = { slot: -1, dtype: 0, offset: 0, strides: [0, 0, 0] }

type Pair<T> = readonly [T, T]
export type Extents = readonly [frames: number, rows: number, cols: number, channels: number]

export interface ConvFields {
  extents: Extents
  kernel: Pair<number>
  stride: number
  /** Logical and stored size of the whole input. */
  inSize: Pair<number>
  physSize: Pair<number>
  /** Logical input position under output (0,0), tap (0,0). */
  origin: Pair<number>
  /** Stored position of the source views' element (0,0), and their extent. */
  sourceOrigin: Pair<number>
  sourceSize: Pair<number>
  sourceChannels: readonly number[]
  sources: readonly View[]
  out: View
  weight: View
  bias: View
  vector: View
  residual: View
  affine: View
  prologueAct: number
  act: number
  /** Channels of the whole output, of which the region may have some. */
  outputs: number
  /** 0: float32; 1: products of bfloat16. */
  compute: number
  tile: readonly number[]
  scratch: View
  scratchBytes: number
}

/** Builds a stream in one growing array. */
export class CommandWriter {
  private words = new Int32Array(1 << 14)
  private floats = new Float32Array(this.words.buffer)
  private length = 0
  private start = 0
  /** First word of each command, for tools. */
  readonly starts: number[] = []

  /** The stream so far, a copy. */
  finish(): Int32Array {
    return this.words.slice(0, this.length)
  }

  conv(node: number, slice: number, f: ConvFields): void {
    this.begin(opcode.conv, node, slice)
    this.ints(f.extents)
    this.ints(f.kernel)
    this.int(f.stride)
    for (const pair of [f.inSize, f.physSize, f.origin, f.sourceOrigin, f.sourceSize])
      this.ints(pair)
    this.pairOf(f.sourceChannels)
    this.views(f.sources, 2)
    for (const view of [f.out, f.weight, f.bias, f.vector, f.residual, f.affine]) this.view(view)
    this.int(f.prologueAct)
    this.int(f.act)
    this.int(f.outputs)
    this.int(f.compute)
    this.ints(f.tile)
    this.view(f.scratch)
    this.int(f.scratchBytes)
    this.end()
  }

  normPartials(
    node: number,
    slice: number,
    f: { extents: Extents; block: number; source: View; out: View },
  ): void {
    this.begin(opcode.normPartials, node, slice)
    this.ints(f.extents)
    this.int(f.block)
    this.view(f.source)
    this.view(f.out)
    this.end()
  }

  normFold(
    node: number,
    slice: number,
    f: {
      frames: number
      framesOut: number
      rows: number
      cols: number
      sourceChannels: readonly number[]
      blocks: readonly number[]
      groups: number
      eps: number
      partials: readonly View[]
      gamma: View
      beta: View
      out: View
    },
  ): void {
    this.begin(opcode.normFold, node, slice)
    this.ints([f.frames, f.framesOut, f.rows, f.cols])
    this.pairOf(f.sourceChannels)
    this.ints([f.blocks[0] ?? 0, f.blocks[1] ?? 0])
    this.int(f.groups)
    this.float(f.eps)
    this.views(f.partials, 2)
    for (const view of [f.gamma, f.beta, f.out]) this.view(view)
    this.end()
  }

  affine(
    node: number,
    slice: number,
    f: {
      extents: Extents
      sourceChannels: readonly number[]
      sources: readonly View[]
      affine: View
      act: number
      out: View
    },
  ): void {
    this.begin(opcode.affine, node, slice)
    this.ints(f.extents.slice(0, 3))
    this.pairOf(f.sourceChannels)
    this.views(f.sources, 2)
    this.view(f.affine)
    this.int(f.act)
    this.view(f.out)
    this.end()
  }

  layerNorm(
    node: number,
    slice: number,
    f: {
      extents: Extents
      eps: number
      source: View
      gamma: View
      beta: View
      add: View
      out: View
    },
  ): void {
    this.begin(opcode.layerNorm, node, slice)
    this.ints(f.extents)
    this.float(f.eps)
    for (const view of [f.source, f.gamma, f.beta, f.add, f.out]) this.view(view)
    this.end()
  }

  attention(
    node: number,
    slice: number,
    f: {
      /** Frames, rows and cols of q; channels unused. */
      extents: Extents
      heads: number
      headDim: number
      time: boolean
      /** Frames, rows and cols of k. */
      keyExtents: readonly [number, number, number]
      causal: boolean
      query0: number
      scale: number
      q: View
      k: View
      v: View
      out: View
      tile: readonly number[]
      scratch: View
      scratchBytes: number
    },
  ): void {
    this.begin(opcode.attention, node, slice)
    this.ints(f.extents.slice(0, 3))
    this.ints([f.heads, f.headDim, Number(f.time), ...f.keyExtents, Number(f.causal), f.query0])
    this.float(f.scale)
    for (const view of [f.q, f.k, f.v, f.out]) this.view(view)
    this.ints(f.tile)
    this.view(f.scratch)
    this.int(f.scratchBytes)
    this.end()
  }

  binary(
    node: number,
    slice: number,
    f: {
      op: number
      extents: Extents
      bChannelStride: number
      a: View
      b: View
      t: View
      out: View
    },
  ): void {
    this.begin(opcode.binary, node, slice)
    this.int(f.op)
    this.ints(f.extents)
    this.int(f.bChannelStride)
    for (const view of [f.a, f.b, f.t, f.out]) this.view(view)
    this.end()
  }

  unary(
    node: number,
    slice: number,
    f: { act: number; extents: Extents; source: View; out: View },
  ): void {
    this.begin(opcode.unary, node, slice)
    this.int(f.act)
    this.ints(f.extents)
    this.view(f.source)
    this.view(f.out)
    this.end()
  }

  combine(
    node: number,
    slice: number,
    f: { extents: Extents; coefficients: View; sources: readonly View[]; out: View },
  ): void {
    this.begin(opcode.combine, node, slice)
    this.ints(f.extents)
    this.int(f.sources.length)
    this.view(f.coefficients)
    this.views(f.sources, 4)
    this.view(f.out)
    this.end()
  }

  resize(
    node: number,
    slice: number,
    f: {
      extents: Extents
      inSize: Pair<number>
      outSize: Pair<number>
      outOrigin: Pair<number>
      sourceOrigin: Pair<number>
      sourceSize: Pair<number>
      source: View
      out: View
    },
  ): void {
    this.begin(opcode.resize, node, slice)
    this.ints(f.extents)
    for (const pair of [f.inSize, f.outSize, f.outOrigin, f.sourceOrigin, f.sourceSize])
      this.ints(pair)
    this.view(f.source)
    this.view(f.out)
    this.end()
  }

  embedding(
    node: number,
    slice: number,
    f: {
      tokens: number
      channels: number
      tableRows: number
      token0: number
      positionRows: number
      ids: View
      table: View
      positions: View
      out: View
    },
  ): void {
    this.begin(opcode.embedding, node, slice)
    this.ints([f.tokens, f.channels, f.tableRows, f.token0, f.positionRows])
    for (const view of [f.ids, f.table, f.positions, f.out]) this.view(view)
    this.end()
  }

  timestep(
    node: number,
    slice: number,
    f: { dim: number; flip: boolean; shift: number; maxPeriod: number; t: View; out: View },
  ): void {
    this.begin(opcode.timestep, node, slice)
    this.ints([f.dim, Number(f.flip)])
    this.float(f.shift)
    this.float(f.maxPeriod)
    this.view(f.t)
    this.view(f.out)
    this.end()
  }

  /** Both ways of eight-bit storage: `channels` counts those of the plain side. */
  quantise(
    kind: 'quantise' | 'dequantise',
    node: number,
    slice: number,
    f: { extents: Extents; source: View; out: View },
  ): void {
    this.begin(opcode[kind], node, slice)
    this.ints(f.extents)
    this.view(f.source)
    this.view(f.out)
    this.end()
  }

  /** @param f.ticket 0: in order; else done at the latest by the join with this ticket or a later one */
  copy(
    node: number,
    slice: number,
    f: { ticket: number; extents: Extents; source: View; out: View },
  ): void {
    this.begin(opcode.copy, node, slice)
    this.int(f.ticket)
    this.ints(f.extents)
    this.view(f.source)
    this.view(f.out)
    this.end()
  }

  join(node: number, slice: number, ticket: number): void {
    this.begin(opcode.join, node, slice)
    this.int(ticket)
    this.end()
  }

  /** @param f.weight its place in the list of the run; @param f.halves 16-bit words that it is packed to */
  fetch(node: number, slice: number, f: { weight: number; halves: number; out: View }): void {
    this.begin(opcode.fetch, node, slice)
    this.ints([f.weight, f.halves])
    this.view(f.out)
    this.end()
  }

  private begin(code: number, node: number, slice: number): void {
    this.start = this.length
    this.starts.push(this.length)
    if (this.length + 256 > this.words.length) {
      const grown = new Int32Array(this.words.length * 2)
      grown.set(this.words)
      this.words = grown
      this.floats = new Float32Array(grown.buffer)
    }
    this.ints([code, 0, node, slice])
  }

  private end(): void {
    this.words[this.start + 1] = this.length - this.start
  }

  private int(value: number): void {
    this.words[this.length++] = value
  }

  private float(value: number): void {
    this.floats[this.length++] = value
  }

  private ints(values: readonly number[]): void {
    for (const value of values) this.words[this.length++] = value
  }

  /** Count, then two values (0 where absent). */
  private pairOf(values: readonly number[]): void {
    this.ints([values.length, values[0] ?? 0, values[1] ?? 0])
  }

  private view(view: View): void {
    this.int(view.slot)
    this.int(view.dtype)
    this.int(view.offset >>> 0)
    this.int(Math.floor(view.offset / 2 ** 32))
    this.ints(view.strides)
  }

  private views(views: readonly View[], count: number): void {
    for (let i = 0; i < count; i++) this.view(views[i] ?? absent)
  }
}
