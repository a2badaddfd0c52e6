import { type Node, operand, operands } from '../program/graph.js'
import { convGeometry, inPhases, timeKernel } from '../program/ops/conv.js'
import { broadcastShape } from '../program/ops/pointwise.js'
import { activationOf, asFour, channelsOf } from '../program/ops/shared.js'
import { type Region, regionShape } from '../program/region.js'
import { elementCount, sameShape, type Tensor } from '../program/tensor.js'
import {
  absent,
  actCode,
  binaryCode,
  type CommandWriter,
  codeBytes,
  type Extents,
  type View,
} from './commands.js'
import type { SlicedOp } from './sliced-op.js'

const act = (node: Node, key = 'act'): number => actCode[activationOf(node.attrs, key)]

const emitters: Record<string, (writer: CommandWriter, slice: SlicedOp) => void> = {
  conv2d: emitConv,
  conv_time: emitConvTime,
  linear: emitConv,

  norm_partials(writer, s) {
    const source = operand(s.node, 'source')!
    const [frames, rows] = s.extents
    writer.normPartials(s.node.id, s.index, {
      extents: [frames, rows, source.shape[2]!, channelsOf(source)],
      block: s.node.attrs.block as number,
      source: s.view('source'),
      out: s.out(),
    })
  },

  norm_fold(writer, s) {
    const partials = operands(s.node, 'partials')
    const blocks = s.node.attrs.blocks as readonly number[]
    const [frames, rows] = regionShape(s.read('partials'))
    writer.normFold(s.node.id, s.index, {
      frames: frames!,
      framesOut: s.node.attrs.over === 'frame' ? frames! : 1,
      rows: rows!,
      cols: s.node.attrs.cols as number,
      sourceChannels: partials.map((tensor, i) => tensor.shape[2]! * blocks[i]!),
      blocks,
      groups: s.node.attrs.groups as number,
      eps: s.node.attrs.eps as number,
      partials: s.views('partials'),
      gamma: s.view('gamma'),
      beta: s.view('beta'),
      out: s.out(),
    })
  },

  affine(writer, s) {
    writer.affine(s.node.id, s.index, {
      extents: s.extents,
      sourceChannels: operands(s.node, 'source').map(channelsOf),
      sources: s.views('source'),
      affine: affineView(s),
      act: act(s.node),
      out: s.out(),
    })
  },

  layer_norm(writer, s) {
    const positions = s.view('positions')
    writer.layerNorm(s.node.id, s.index, {
      extents: s.extents,
      eps: s.node.attrs.eps as number,
      source: s.view('source'),
      gamma: s.view('gamma'),
      beta: s.view('beta'),
      add:
        positions.slot < 0 ? absent : { ...positions, strides: [channelsOf(s.node.output), 0, 0] },
      out: s.out(),
    })
  },

  attention(writer, s) {
    const q = operand(s.node, 'q')!
    const headDim = channelsOf(q) / (s.node.attrs.heads as number)
    const heads = s.extents[3] / headDim
    const keyShape = asFour(regionShape(s.read('k')), 1)
    const shared = operand(s.node, 'k')!.shape.length < q.shape.length
    const key = (role: string): View => {
      const view = s.view(role)
      return shared ? { ...view, strides: [0, view.strides[1], view.strides[2]] } : view
    }
    const [frames, rows, cols] = asFour(s.wanted, [0, 1] as const)
    const pixel = rows[0] * asFour(q.shape, 1)[2] + cols[0]
    writer.attention(s.node.id, s.index, {
      extents: s.extents,
      heads,
      headDim,
      time: s.node.attrs.over === 'time',
      keyExtents: [keyShape[0], keyShape[1], keyShape[2]],
      causal: s.node.attrs.causal as boolean,
      query0: s.node.attrs.over === 'time' ? frames[0] : pixel,
      scale: 1 / Math.sqrt(headDim),
      q: s.view('q'),
      k: key('k'),
      v: key('v'),
      out: s.out(),
      ...s.scratch(),
    })
  },

  binary(writer, s) {
    const a = operand(s.node, 'a')!
    const b = operand(s.node, 'b')!
    const repeat = broadcastShape(a.shape, b.shape)!
    const view = s.view('b')
    const same = sameShape(a.shape, b.shape)
    const strides: [number, number, number] =
      same && b.kind !== 'weight' ? [...view.strides] : broadcastStrides(a, b, repeat)
    writer.binary(s.node.id, s.index, {
      op: binaryCode[s.node.attrs.op as keyof typeof binaryCode],
      extents: s.extents,
      bChannelStride: repeat[3] > 1 || s.extents[3] === 1 ? 1 : 0,
      a: s.view('a'),
      b: { ...view, strides },
      t: s.view('t'),
      out: s.out(),
    })
  },

  move(writer, s) {
    const place = { ticket: 0, source: s.view('source'), out: s.out() }
    writer.copy(s.node.id, s.index, { extents: s.extents, ...place })
  },

  unary(writer, s) {
    writer.unary(s.node.id, s.index, {
      act: act(s.node),
      extents: s.extents,
      source: s.view('source'),
      out: s.out(),
    })
  },

  combine(writer, s) {
    writer.combine(s.node.id, s.index, {
      extents: s.extents,
      coefficients: s.view('coefficients'),
      sources: s.views('source'),
      out: s.out(),
    })
  },

  resize(writer, s) {
    const source = operand(s.node, 'source')!
    const [, rows, cols] = s.read('source')
    writer.resize(s.node.id, s.index, {
      extents: s.extents,
      inSize: [source.shape[1]!, source.shape[2]!],
      outSize: [s.node.output.shape[1]!, s.node.output.shape[2]!],
      outOrigin: [s.wanted[1]![0], s.wanted[2]![0]],
      sourceOrigin: [rows![0], cols![0]],
      sourceSize: [rows![1] - rows![0], cols![1] - cols![0]],
      source: s.view('source'),
      out: s.out(),
    })
  },

  embedding(writer, s) {
    const table = operand(s.node, 'table')!
    const positions = operand(s.node, 'positions')
    writer.embedding(s.node.id, s.index, {
      tokens: s.extents[2],
      channels: s.extents[3],
      tableRows: table.shape[0]!,
      token0: 0,
      positionRows: positions ? regionShape(s.read('positions'))[0]! : 0,
      ids: s.view('ids'),
      table: s.view('table'),
      positions: s.view('positions'),
      out: s.out(),
    })
  },

  timestep(writer, s) {
    const { dim, flip, shift, maxPeriod } = s.node.attrs as {
      dim: number
      flip: boolean
      shift: number
      maxPeriod: number
    }
    const t = s.view('t')
    const out = s.out()
    for (let i = 0; i < s.extents[3] / dim; i++) {
      const at = { t: moved(t, i), out: moved(out, i * dim) }
      writer.timestep(s.node.id, s.index, { dim, flip, shift, maxPeriod, ...at })
    }
  },

  quantise(writer, s) {
    const [frames, rows, cols] = s.extents
    const channels = channelsOf(operand(s.node, 'source')!)
    writer.quantise('quantise', s.node.id, s.index, {
      extents: [frames, rows, cols, channels],
      source: s.view('source'),
      out: s.out(),
    })
  },

  dequantise(writer, s) {
    writer.quantise('dequantise', s.node.id, s.index, {
      extents: s.extents,
      source: s.view('source'),
      out: s.out(),
    })
  },

  prepend(writer, s) {
    const [start, stop] = s.wanted[0]!
    const channels = s.extents[3]
    const sum = (from: number, to: number, a: View) => {
      const row: [number, number, number] = [0, 0, channels]
      const b = { ...moved(s.view('positions'), (from - start) * channels), strides: row }
      const out = moved(s.out(), (from - start) * channels)
      const extents: Extents = [1, 1, to - from, channels]
      writer.binary(s.node.id, s.index, {
        op: binaryCode.add,
        extents,
        bChannelStride: 1,
        a: { ...a, strides: row },
        b,
        t: absent,
        out,
      })
    }
    if (start === 0) sum(0, 1, s.view('first'))
    const from = Math.max(1, start)
    if (stop > from) sum(from, stop, moved(s.view('source'), (from - 1) * channels))
  },

  tokens(writer, s) {
    writer.unary(s.node.id, s.index, {
      act: actCode.none,
      extents: s.extents,
      source: s.view('source'),
      out: s.out(),
    })
  },
}

/** Appends the command of one op in one slice, after the copies that its operands need. */
export function emit(writer: CommandWriter, slice: SlicedOp): void {
  slice.gather(writer)
  emitters[slice.node.op]!(writer, slice)
}

/** The view some elements further on. */
function moved(view: View, elements: number): View {
  return { ...view, offset: view.offset + codeBytes(view.dtype) * elements }
}

function broadcastStrides(
  a: Tensor,
  b: Tensor,
  repeat: readonly number[],
): [number, number, number] {
  const channels = channelsOf(b)
  if (a.shape.length === 4) return [repeat[0]! > 1 ? channels : 0, 0, 0]
  // A weight of a's own shape: rows one after another.
  return elementCount(b.shape) === elementCount(a.shape) ? [0, 0, channels] : [0, 0, 0]
}

/** [frames or 1, 2, channels]: frames apart, or shared; scale and shift one after the other. */
function affineView(s: SlicedOp): View {
  const affine = operand(s.node, 'affine')
  if (!affine) return absent
  const channels = affine.shape[2]!
  return s.perFrame('affine', () => [2 * channels, channels, 0])
}

function emitConv(writer: CommandWriter, s: SlicedOp): void {
  const geometry = convGeometry(s.node)
  const wanted = asFour(s.wanted, [0, 1] as const)
  const read = asFour(s.read('source'), [0, 1] as const)
  const vector = operand(s.node, 'vector')
  writer.conv(s.node.id, s.index, {
    extents: s.extents,
    kernel: [geometry.kernel, geometry.kernel],
    stride: geometry.stride,
    inSize: [geometry.inRows, geometry.inCols],
    physSize: [geometry.physRows, geometry.physCols],
    origin: [
      wanted[1][0] * geometry.stride - geometry.padTop,
      wanted[2][0] * geometry.stride - geometry.padLeft,
    ],
    sourceOrigin: [read[1][0], read[2][0]],
    sourceSize: [read[1][1] - read[1][0], read[2][1] - read[2][0]],
    sourceChannels: operands(s.node, 'source').map(channelsOf),
    sources: s.views('source'),
    out: s.out(),
    weight: s.view('weight'),
    bias: s.view('bias'),
    vector: vector ? s.perFrame('vector', () => [channelsOf(vector), 0, 0]) : absent,
    residual: s.view('residual'),
    affine: affineView(s),
    prologueAct: act(s.node, 'prologueAct'),
    act: act(s.node),
    outputs: channelsOf(s.node.output),
    compute: s.compute,
    phases: inPhases(s.node),
    ...s.scratch(),
  })
}

/**
 * Frames become rows and the pixels of a frame, which follow each other in memory whatever rows are read, become columns: one frame,
 * kernel 3x1, one affine and one vector for all.
 */
function emitConvTime(writer: CommandWriter, s: SlicedOp): void {
  const [frames, rows, cols] = operand(s.node, 'source')!.shape as [number, number, number, number]
  const [wantedFrames, wantedRows] = s.wanted as [Region[0], Region[0]]
  const [readFrames] = s.read('source') as [Region[0]]
  const pixels = (wantedRows[1] - wantedRows[0]) * cols
  const asRows = (view: View): View => ({ ...view, strides: [0, view.strides[0], view.strides[2]] })
  writer.conv(s.node.id, s.index, {
    extents: [1, s.extents[0], pixels, s.extents[3]],
    kernel: [timeKernel, 1],
    stride: 1,
    inSize: [frames, rows * cols],
    physSize: [frames, rows * cols],
    origin: [wantedFrames[0] - 1, wantedRows[0] * cols],
    sourceOrigin: [readFrames[0], wantedRows[0] * cols],
    sourceSize: [readFrames[1] - readFrames[0], pixels],
    sourceChannels: operands(s.node, 'source').map(channelsOf),
    sources: s.views('source').map(asRows),
    out: asRows(s.out()),
    weight: s.view('weight'),
    bias: s.view('bias'),
    vector: s.perFrame('vector', () => [0, 0, 0]),
    residual: asRows(s.view('residual')),
    affine: affineView(s),
    prologueAct: act(s.node, 'prologueAct'),
    act: act(s.node),
    outputs: channelsOf(s.node.output),
    compute: s.compute,
    ...s.scratch(),
  })
}
