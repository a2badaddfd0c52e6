import type { Node, Program } from '../program/graph.js'
import type { Target } from '../program/op.js'
import { asFour } from '../program/ops/shared.js'
import { type Region, regionShape, wholeRegion } from '../program/region.js'
import { dtypeBytes, type Tensor } from '../program/tensor.js'
import { dtypeCode, slotArena, slotBound, slotHost, type View } from './commands.js'
import { type Group, restrict, type SlicedNode, type Slicing } from './group.js'
import { layoutHost } from './spill.js'
import type { Buffer } from './storage.js'
import { hostBase, type StreamedOperand, Streaming } from './streaming.js'
import type { WeightLayout } from './weights.js'

/** What lowering needs of a planned program. */
export interface Lowerable {
  readonly program: Program
  readonly groups: readonly Group[]
  readonly slicings: readonly Slicing[]
  readonly buffers: readonly Buffer[]
  readonly offsets: readonly number[]
  readonly target: Target
}

/** Inputs and outputs of a program in the order of their slots. Outputs are written `name`, inputs that share a name come first. */
export function boundTensors(program: Program): { name: string; tensor: Tensor }[] {
  const entries = [
    ...Object.entries(program.inputs),
    ...Object.entries(program.outputs).map(([name, tensor]) => [`out:${name}`, tensor] as const),
  ]
  return entries.map(([name, tensor]) => ({ name, tensor }))
}

/** What a buffer holds of a tensor. */
interface Piece {
  readonly offset: number
  readonly buffer: Buffer
}

/** Where tensors live. */
export class Places {
  private readonly bound = new Map<Tensor, number>()
  private readonly hosted = new Map<Tensor, number>()
  private readonly pieces = new Map<Tensor, Piece[]>()
  private readonly owned = new Map<string, number>()

  readonly streaming: Streaming

  constructor(
    readonly plan: Lowerable,
    readonly layout: WeightLayout,
    base: number,
  ) {
    this.streaming = new Streaming(layout, plan.target.backend)
    const hosted = layoutHost(plan.program, hostBase(layout, plan.target))
    for (const [tensor, offset] of hosted.offsets) this.hosted.set(tensor, offset)
    boundTensors(plan.program).forEach(({ tensor }, i) => this.bound.set(tensor, slotBound + i))
    plan.buffers.forEach((buffer, i) => {
      const offset = base + plan.offsets[i]!
      for (const tensor of buffer.tensors)
        this.pieces.set(tensor, [...(this.pieces.get(tensor) ?? []), { offset, buffer }])
      if (buffer.node) this.owned.set(ownKey(buffer.node, buffer.input, buffer.slice), offset)
    })
  }

  /** The view of `region` of a tensor, which lies in one piece. */
  view(tensor: Tensor, region: Region, sliced: SlicedNode): View {
    const hosted = this.hosted.get(tensor)
    if (hosted !== undefined)
      return viewOf(tensor, region, wholeRegion(tensor.shape), slotHost, hosted)
    const slot = this.bound.get(tensor)
    if (slot !== undefined) return viewOf(tensor, region, wholeRegion(tensor.shape), slot, 0)
    const { offset, buffer } = this.piecesOf(tensor, region, sliced)[0]!
    return viewOf(tensor, region, storedRegion(tensor, buffer, sliced), slotArena, offset)
  }

  /** The pieces that hold a region: several where a tensor lies in bands. */
  piecesOf(tensor: Tensor, region: Region, sliced: SlicedNode): Piece[] {
    const pieces = this.pieces.get(tensor) ?? []
    return pieces.filter(({ buffer }) => {
      if (buffer.slice !== undefined) return buffer.slice === sliced.slice
      if (!buffer.band) return true
      const { axis, range } = buffer.band
      return range[0] < region[axis]![1] && region[axis]![0] < range[1]
    })
  }

  /** Where a streamed weight lies while its op runs, and from which time on. */
  streamed({ tensor }: StreamedOperand): { offset: number; start: number } {
    const { offset, buffer } = this.pieces.get(tensor)![0]!
    return { offset, start: buffer.start }
  }

  /** Offset of the scratch of a node (without `input`), or of the slab of one of its operands. */
  ownedBy(sliced: SlicedNode, input?: number): number {
    return (this.owned.get(ownKey(sliced.node, input, sliced.slice)) ??
      this.owned.get(ownKey(sliced.node, input, undefined)))!
  }
}

const ownKey = (node: Node, input: number | undefined, slice: number | undefined): string =>
  `${node.id} ${input} ${slice}`

/** What a buffer holds of a tensor: a band, a sub-feature of this slice, or all. */
export function storedRegion(tensor: Tensor, buffer: Buffer, sliced: SlicedNode): Region {
  if (buffer.band) return restrict(tensor, [buffer.band])
  return restrict(
    tensor,
    buffer.kind === 'inner' ? sliced.ranges : buffer.kind === 'slice' ? sliced.outer : [],
  )
}

/** A region inside what is stored, row-major, from a byte offset. */
export function viewOf(
  tensor: Tensor,
  region: Region,
  stored: Region,
  slot: number,
  offset: number,
): View {
  const strides = stridesOf(regionShape(stored))
  const first = region.reduce(
    (sum, [start], axis) => sum + (start - stored[axis]![0]) * strides[axis]!,
    0,
  )
  const [frame, row, col] = asFour(strides, 0)
  return {
    slot,
    dtype: dtypeCode[tensor.dtype],
    offset: offset + first * dtypeBytes[tensor.dtype],
    strides: [frame, row, col],
  }
}

export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length)
  let stride = 1
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride
    stride *= shape[axis]!
  }
  return strides
}
