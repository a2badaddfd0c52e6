import type { Node } from '../program/graph.js'
import { opSpec } from '../program/op.js'
import { type Region, regionVolume } from '../program/region.js'
import { dtypeBytes, sameShape, type Tensor } from '../program/tensor.js'
import {
  type AxisRange,
  firstSlice,
  type Group,
  readsAligned,
  restrict,
  runningNodes,
  type Slicing,
  slicedNodes,
} from './group.js'
import type { ProgramPlan } from './plan.js'
import type { Buffer } from './storage.js'
import type { Streaming } from './streaming.js'

/** Walks the plan as it runs and looks up the memory of every read and write. */
export class Lifetimes {
  private readonly bound: ReadonlySet<Tensor>
  private readonly pieces = new Map<Tensor, Buffer[]>()
  private readonly owned = new Map<Node, Buffer[]>()
  /** Steps, ops counted once, of a tensor's write and last read. */
  private readonly written = new Map<Tensor, number>()
  private readonly lastRead = new Map<Tensor, number>()
  private readonly groupOf = new Map<Tensor, Set<number>>()
  /** What a tensor is a copy of, where that is made in other bands than the copy: the two may lie in one memory. */
  private readonly rests = new Map<Tensor, Tensor>()

  constructor(
    private readonly plan: ProgramPlan,
    private readonly streaming: Streaming,
  ) {
    const { program, buffers, groups } = plan
    this.bound = new Set<Tensor>([
      ...Object.values(program.inputs),
      ...Object.values(program.outputs),
      ...program.weights,
      ...program.nodes.flatMap(({ output }) => (output.host ? [output] : [])),
    ])
    for (const buffer of buffers) {
      for (const tensor of buffer.tensors) push(this.pieces, tensor, buffer)
      if (buffer.node) push(this.owned, buffer.node, buffer)
    }
    const once = new Set(
      groups.flatMap(group => group.once?.map(index => group.nodes[index]!.output) ?? []),
    )
    let step = 0
    for (const group of groups) {
      const copies = new Map(group.again?.map(({ index, of }) => [group.nodes[index]!.output, of]))
      for (const [copy, of] of copies) if (once.has(of)) this.rests.set(copy, of)
      for (const node of group.nodes) {
        this.written.set(node.output, step)
        for (const { tensor } of node.inputs)
          for (const read of [tensor, copies.get(tensor) ?? tensor]) this.lastRead.set(read, step)
        for (const tensor of [node.output, ...node.inputs.map(input => input.tensor)])
          this.groupOf.set(tensor, (this.groupOf.get(tensor) ?? new Set()).add(group.id))
        step++
      }
    }
  }

  fault(): string | undefined {
    const { groups, slicings, buffers } = this.plan
    for (const buffer of buffers) {
      const shared = this.sharingFault(buffer)
      if (shared) return shared
    }
    let time = 0
    for (const group of groups) {
      const slicing = slicings[group.id]!
      const fault =
        this.streamedFault(group, slicing, time) ??
        (slicing.bands
          ? this.bandedFault(group, slicing, time)
          : this.slicedFault(group, slicing, time))
      if (fault) return fault
      time += group.nodes.length * (slicing.bands ?? 1)
    }
    return undefined
  }

  /** A streamed weight has memory of its own from before its op's first slice until after its last. */
  private streamedFault(group: Group, slicing: Slicing, time: number): string | undefined {
    const length = group.nodes.length * (slicing.bands ?? 1)
    const running = new Set(runningNodes(group, slicing))
    for (const [index, node] of group.nodes.entries()) {
      if (!running.has(node)) continue
      let [from, to] = [time + index, time + index + 1]
      if (this.loops(group)) [from, to] = [time, time + length]
      const at = group.inner.findIndex(({ first, last }) => first <= index && index <= last)
      const inner = group.inner[at]
      if (inner && slicing.inner[at]! < inner.extent) {
        from = Math.min(from, time + inner.first)
        to = Math.max(to, time + inner.last + 1)
      }
      for (const { tensor, weight } of this.streaming.of(node)) {
        const [held, ...others] = this.pieces.get(tensor) ?? []
        const sound =
          held?.kind === 'whole' &&
          others.length === 0 &&
          held.tensors.length === 1 &&
          held.bytes >= weight.bytes &&
          held.start <= from &&
          held.end >= to
        if (!sound) return `${node.name} with ${weight.bytes} bytes for ${weight.tensor.name}`
      }
    }
    return undefined
  }

  /** Tensors in one buffer follow each other; where one is written as the other is read last, element by element. */
  private sharingFault({ tensors, name }: Buffer): string | undefined {
    for (let i = 1; i < tensors.length; i++) {
      const [before, after] = [tensors[i - 1]!, tensors[i]!]
      if (!sameShape(before.shape, after.shape) || before.dtype !== after.dtype)
        return `tensors of one shape in ${name}`
      const write = this.written.get(after) ?? -1
      const read = this.lastRead.get(before) ?? -1
      if (read > write && this.rests.get(after) !== before)
        return `${before.name} read before ${after.name} takes its memory`
      const group = this.plan.groups.find(({ nodes }) => nodes.some(n => n.output === after))!
      const looped = this.loops(group)
      const writer = group.nodes.find(({ output }) => output === after)!
      for (const node of group.nodes) {
        for (const [input, { tensor, role }] of node.inputs.entries()) {
          if (tensor !== before) continue
          if (looped && !readsAligned(node, input, group.axis!))
            return `${node.name} to read only what it has not overwritten of ${before.name}`
          const loop = group.inner.find(
            ({ first, last }) =>
              within(group, node, first, last) && within(group, writer, first, last),
          )
          if (loop && !readsAligned(node, input, loop.axis, loop.granule))
            return `${node.name} to read only its own inner slice of ${before.name}`
          if (node.output === after && !opSpec(node.op).inPlace?.includes(role))
            return `${node.name} not to overwrite its ${role}`
        }
      }
    }
    return undefined
  }

  private loops(group: Group): boolean {
    const slicing = this.plan.slicings[group.id]!
    return slicing.bands !== undefined || slicing.chunk < group.extent
  }

  private slicedFault(group: Group, slicing: Slicing, time: number): string | undefined {
    const end = time + group.nodes.length
    for (const [index, node] of group.nodes.entries()) {
      const { outer, ranges } = firstSlice(group, slicing, index)
      const wanted = restrict(node.output, ranges)
      const reads = opSpec(node.op).regions(node, node.output, wanted)
      const uses = [
        { tensor: node.output, region: wanted },
        ...node.inputs.map(({ tensor }, i) => ({ tensor, region: reads[i]! })),
      ]
      for (const { tensor, region } of uses) {
        if (this.bound.has(tensor)) continue
        const held = this.pieces.get(tensor) ?? []
        // What crosses a loop is needed in all its rounds.
        let [from, to] = [time + index, time + index + 1]
        if (this.loops(group) && (this.groupOf.get(tensor)?.size ?? 0) > 1) [from, to] = [time, end]
        for (const [i, inner] of group.inner.entries()) {
          const within = inner.first <= index && index <= inner.last
          const apart = held.every(({ kind }) => kind !== 'inner')
          if (within && apart && slicing.inner[i]! < inner.extent) {
            from = Math.min(from, time + inner.first)
            to = Math.max(to, time + inner.last + 1)
          }
        }
        const lent = this.lent(held, group, slicing, time)
        const fault = this.heldFault(tensor, region, lent ?? held, from, to, outer, ranges)
        if (fault) return `${node.name} with ${fault}`
      }
      const fault = this.scratchFault(node, wanted, time + index, undefined)
      if (fault) return fault
    }
    return undefined
  }

  /**
   * The buffer of a tensor with the lifetime of the one that it is tied to, where a sliced group reads the lower of the two frame by
   * frame ahead of writing the upper: (i + 1)t ≤ n(t - e) + (i + 1)e for frames of e and t bytes that end at one place, or t < e.
   */
  private lent(
    held: readonly Buffer[],
    group: Group,
    slicing: Slicing,
    time: number,
  ): Buffer[] | undefined {
    const { buffers, offsets } = this.plan
    const [own] = held
    const end = time + group.nodes.length
    if (held.length !== 1 || !own || own.kind !== 'whole' || !this.loops(group)) return undefined
    const host = buffers.find(
      ({ kind, tied, start, end: stop }) =>
        kind === 'whole' && tied && own.tensors.includes(tied.to) && start <= time && stop >= end,
    )
    if (!host || slicing.bands !== undefined || group.axis !== 0) return undefined
    const [at, base] = [offsets[buffers.indexOf(own)]!, offsets[buffers.indexOf(host)]!]
    const writes = ({ tensors }: Buffer) =>
      group.nodes.findIndex(({ output }) => tensors.includes(output))
    const reads = ({ tensors }: Buffer) =>
      group.nodes.findLastIndex(({ inputs }) =>
        inputs.some(input => tensors.includes(input.tensor)),
      )
    const [below, above] = writes(own) < 0 ? [own, host] : [host, own]
    const sizes = [...below.tensors, ...above.tensors].every(
      ({ shape }) => shape[0] === group.extent,
    )
    const placed =
      above.bytes >= below.bytes
        ? host === above && at + own.bytes === base + host.bytes
        : host === below && at === base
    const inner = (index: number) =>
      group.inner.findIndex(({ first, last }) => first <= index && index <= last)
    const [read, write] = [reads(below), writes(above)]
    const ordered =
      writes(below) < 0 && read < write && (inner(read) < 0 || inner(read) !== inner(write))
    const aligned = group.nodes.every(node =>
      node.inputs.every(
        (input, i) => !below.tensors.includes(input.tensor) || readsAligned(node, i, 0),
      ),
    )
    const lasts = own === below ? own.end >= time : own.start <= end
    if (!(sizes && placed && ordered && aligned && lasts)) return undefined
    return [{ ...own, start: Math.min(own.start, time), end: Math.max(own.end, end) }]
  }

  private bandedFault(group: Group, slicing: Slicing, time: number): string | undefined {
    for (const { node, index, outer, ranges, slice } of slicedNodes(group, slicing)) {
      const at = time + slice * group.nodes.length + index
      const owner = group.nodes[index]!
      const wanted = restrict(node.output, ranges)
      const reads = opSpec(node.op).regions(node, node.output, wanted)
      const uses = [
        { tensor: node.output, region: wanted, input: -1 },
        ...node.inputs.map(({ tensor }, input) => ({ tensor, region: reads[input]!, input })),
      ]
      for (const { tensor, region, input } of uses) {
        if (this.bound.has(tensor)) continue
        const held = (this.pieces.get(tensor) ?? []).filter(
          ({ slice: own, band }) =>
            (own === undefined || own === slice) && (!band || touches(band, region)),
        )
        const fault = this.heldFault(tensor, region, held, at, at + 1, outer, ranges)
        if (fault) return `${node.name} with ${fault}`
        if (
          input < 0 &&
          held.some(({ kind, band }) => kind === 'slice' && band && !covers(wanted, band))
        )
          return `${node.name} to write all rows that are kept of it`
        if (held.length < 2) continue
        const slab = this.owned
          .get(owner)
          ?.find(
            ({ kind, slice: own, input: of }) => kind === 'slab' && own === slice && of === input,
          )
        const needed = regionVolume(region) * dtypeBytes[tensor.dtype]
        if (!slab || slab.bytes < needed || slab.start > at || slab.end <= at)
          return `${node.name} with ${needed} bytes to gather ${tensor.name}`
      }
      const fault = this.scratchFault(owner, wanted, at, slice)
      if (fault) return fault
    }
    return undefined
  }

  /** The region lies in buffers that are large enough and alive from `from` to `to`. */
  private heldFault(
    tensor: Tensor,
    region: Region,
    held: readonly Buffer[],
    from: number,
    to: number,
    outer: readonly AxisRange[],
    ranges: readonly AxisRange[],
  ): string | undefined {
    if (held.length === 0) return `memory for ${tensor.name}`
    let covered = 0
    for (const { kind, band, bytes, start, end } of held) {
      if (kind === 'scratch' || kind === 'slab') return `a place of its own for ${tensor.name}`
      if (start > from || end < to) return `${tensor.name} alive from ${from} to ${to}`
      const stored =
        band && (kind === 'band' || kind === 'slice')
          ? restrict(tensor, [band])
          : kind === 'inner'
            ? restrict(tensor, ranges)
            : kind === 'slice'
              ? restrict(tensor, outer)
              : restrict(tensor, [])
      if (bytes < regionVolume(stored) * dtypeBytes[tensor.dtype])
        return `${regionVolume(stored) * dtypeBytes[tensor.dtype]} bytes for ${tensor.name}`
      const part = region.map(
        ([a, b], axis) => Math.min(b, stored[axis]![1]) - Math.max(a, stored[axis]![0]),
      )
      covered += part.every(extent => extent > 0) ? part.reduce((a, b) => a * b, 1) : 0
    }
    return covered === regionVolume(region) ? undefined : `all that it needs of ${tensor.name}`
  }

  private scratchFault(
    node: Node,
    wanted: Region,
    at: number,
    slice: number | undefined,
  ): string | undefined {
    const { target } = this.plan
    const perThread = opSpec(node.op).scratch?.(node, node.output, wanted, target).bytesPerThread
    const needed = (perThread ?? 0) * target.threads
    if (needed === 0) return undefined
    const scratch = this.owned
      .get(node)
      ?.find(({ kind, slice: own }) => kind === 'scratch' && own === slice)
    return scratch && scratch.bytes >= needed && scratch.start <= at && at < scratch.end
      ? undefined
      : `${node.name} with ${needed} bytes of scratch`
  }
}

function within(group: Group, node: Node, first: number, last: number): boolean {
  const index = group.nodes.indexOf(node)
  return first <= index && index <= last
}

function touches({ axis, range }: AxisRange, region: Region): boolean {
  return range[0] < region[axis]![1] && region[axis]![0] < range[1]
}

function covers(region: Region, { axis, range }: AxisRange): boolean {
  return region[axis]![0] <= range[0] && range[1] <= region[axis]![1]
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const known = map.get(key)
  if (known) known.push(value)
  else map.set(key, [value])
}
