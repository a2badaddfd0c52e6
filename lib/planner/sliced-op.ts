import { type Node, operand, operands } from '../program/graph.js'
import { opSpec, type Scratch } from '../program/op.js'
import { asFour, channelsOf } from '../program/ops/shared.js'
import { intersect, type Region, regionShape } from '../program/region.js'
import type { WeightTensor } from '../program/tensor.js'
import {
  absent,
  actCode,
  type CommandWriter,
  codeBytes,
  dtypeCode,
  type Extents,
  slotArena,
  slotWeights,
  type View,
} from './commands.js'
import { restrict, type SlicedNode } from './group.js'
import { type Places, storedRegion, stridesOf, viewOf } from './places.js'
import { packedDepth, packedDType, packForm } from './weights.js'

/** One node in one slice: its regions and the views of its operands. */
export class SlicedOp {
  readonly node: Node
  readonly index: number
  readonly wanted: Region
  readonly extents: Extents
  readonly reads: Region[]
  private readonly slabs = new Map<number, View>()

  constructor(
    private readonly sliced: SlicedNode,
    private readonly places: Places,
  ) {
    this.node = sliced.node
    this.index = sliced.slice
    this.wanted = restrict(this.node.output, sliced.ranges)
    this.extents = asFour(regionShape(this.wanted), 1)
    this.reads = opSpec(this.node.op).regions(this.node, this.node.output, this.wanted)
  }

  /** The command's code for how products are computed. */
  get compute(): number {
    return this.places.plan.target.compute === 'bf16' ? 1 : 0
  }

  /** Copies operands that lie in several bands into their slabs, before the op itself. */
  gather(writer: CommandWriter): void {
    this.node.inputs.forEach(({ tensor }, input) => {
      const region = this.reads[input]!
      const pieces = this.places.piecesOf(tensor, region, this.sliced)
      if (pieces.length < 2) return
      const offset = this.places.ownedBy(this.sliced, input)
      for (const { offset: from, buffer } of pieces) {
        const part = intersect(region, storedRegion(tensor, buffer, this.sliced))
        const source = viewOf(
          tensor,
          part,
          storedRegion(tensor, buffer, this.sliced),
          slotArena,
          from,
        )
        const out = viewOf(tensor, part, region, slotArena, offset)
        writer.unary(this.node.id, this.index, {
          act: actCode.none,
          extents: asFour(regionShape(part), 1),
          source,
          out,
        })
      }
      this.slabs.set(input, viewOf(tensor, region, region, slotArena, offset))
    })
  }

  out(): View {
    return this.places.view(this.node.output, this.wanted, this.sliced)
  }

  /** The i-th operand of a role, over the region that is read. */
  view(role: string, i = 0): View {
    const at = this.indexOf(role, i)
    if (at < 0) return absent
    const tensor = this.node.inputs[at]!.tensor
    return tensor.kind === 'weight'
      ? this.weight(role, tensor as WeightTensor, at)
      : (this.slabs.get(at) ?? this.places.view(tensor, this.reads[at]!, this.sliced))
  }

  read(role: string, i = 0): Region {
    return this.reads[this.indexOf(role, i)]!
  }

  views(role: string): View[] {
    return operands(this.node, role).map((_, i) => this.view(role, i))
  }

  /** A view that repeats along frames where the operand has one for all. */
  perFrame(role: string, strideOf: (view: View) => readonly [number, number, number]): View {
    const view = this.view(role)
    if (view.slot < 0) return view
    const tensor = operand(this.node, role)!
    const [, row, col] = strideOf(view)
    const frame = tensor.shape.length > 1 && tensor.shape[0]! > 1 ? strideOf(view)[0] : 0
    return { ...view, strides: [frame, row, col] }
  }

  scratch(): { tile: readonly number[]; scratch: View; scratchBytes: number } {
    const { tile, bytesPerThread }: Scratch = opSpec(this.node.op).scratch!(
      this.node,
      this.node.output,
      this.wanted,
      this.places.plan.target,
    )
    if (bytesPerThread === 0) return { tile, scratch: absent, scratchBytes: 0 }
    return {
      tile,
      scratch: {
        slot: slotArena,
        dtype: dtypeCode.f32,
        offset: this.places.ownedBy(this.sliced),
        strides: [0, 0, 0],
      },
      scratchBytes: bytesPerThread,
    }
  }

  private indexOf(role: string, i: number): number {
    let seen = 0
    return this.node.inputs.findIndex(input => input.role === role && seen++ === i)
  }

  /** Packed weights keep no strides but a row's; a range of rows (vectors) starts at its first value. */
  private weight(role: string, tensor: WeightTensor, at: number): View {
    const form = packForm(this.node, role)
    const packed = this.places.layout.find(tensor, form)
    const streamed = this.places.streaming.of(this.node).find(({ input }) => input === at)
    const base = streamed ? this.places.streamed(streamed).offset : packed.offset
    const rowStride = channelsOf(tensor)
    const vector = role === 'positions' || role === 'b' || role === 'source'
    const region = this.reads[at]!
    const first = vector
      ? region.reduce((sum, [start], axis) => sum + start * stridesOf(tensor.shape)[axis]!, 0)
      : 0
    const code = dtypeCode[packedDType(form, packed.dtype)]
    // A range of output channels begins with a whole panel, and panels hold all of their depth.
    const outputs = role === 'weight' || role === 'bias' ? region[0]![0] : 0
    const depth = role === 'weight' ? packedDepth(form, tensor.shape) : 1
    const from = outputs * depth * codeBytes(code)
    return {
      slot: streamed ? slotArena : slotWeights,
      dtype: code,
      offset: base + from + first * 4,
      strides: [0, 0, rowStride],
    }
  }
}
