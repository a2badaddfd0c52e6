import type { Node, Program } from '../program/graph.js'
import { opSpec, type Target } from '../program/op.js'
import { regionShape } from '../program/region.js'
import { dtypeBytes, elementCount, sameShape, type Tensor, tensorBytes } from '../program/tensor.js'
import {
  type AxisRange,
  firstSlice,
  type Group,
  readsAligned,
  restrict,
  type Slicing,
} from './group.js'
import type { Streaming } from './streaming.js'

/** Offsets are multiples of this: a cache line and the widest vector. */
export const alignment = 64

/** Memory that one or more tensors share (in place), alive over times [start, end) of the program's order. */
export interface Buffer {
  readonly id: number
  readonly tensors: readonly Tensor[]
  /** What it is, for reports: a tensor's name, or `scratch of <op>`. */
  readonly name: string
  readonly bytes: number
  readonly start: number
  readonly end: number
  /**
   * A whole tensor; a band of one; a sub-feature of a group's slice or of an inner slice (each reused by the next); scratch; a slab, into
   * which an operand that lies in several bands is gathered.
   */
  readonly kind: 'whole' | 'band' | 'slice' | 'inner' | 'scratch' | 'slab'
  /** Of two whole tensors of which one lies over the other: the other one's first tensor. They end at one place, or begin at one. */
  readonly tied?: Tie
  /** What a band holds of its tensors. */
  readonly band?: AxisRange
  /** The node that scratch or a slab belongs to, and the slab's operand. */
  readonly node?: Node
  readonly input?: number
  /** In a group of bands: the slice that a sub-feature, scratch or slab belongs to. */
  readonly slice?: number
}

export interface Tie {
  readonly to: Tensor
  readonly end: 'top' | 'bottom'
}

/** The grouped program with what does not depend on slice counts: which tensors are whole, and which share memory. */
export interface Storage {
  readonly groups: readonly Group[]
  readonly nodes: readonly Node[]
  /** First step of each group; one more entry: the number of steps. */
  readonly starts: readonly number[]
  /** Tensors of the program's own memory, by sharing: the first is the owner. */
  readonly shared: readonly SharedTensor[]
  readonly owner: ReadonlyMap<Tensor, SharedTensor>
  readonly target: Target
  /** Weights that come with their ops; their tensors are among `shared`. */
  readonly streaming?: Streaming
}

/** Where a tensor lives: across groups, inside one group's slice, or inside one inner slice. */
interface Home {
  readonly group?: Group
  /** Index of the inner group. */
  readonly inner?: number
}

export interface SharedTensor {
  tensors: Tensor[]
  home: Home
  /** Groups that write or read it. */
  groups: Set<number>
  /** Steps of first write and last read. */
  first: number
  last: number
  /** The one that lies over it, or under it. */
  tied?: SharedTensor
}

/** Whether, of two that are tied, the first holds the memory of both in the group that reads one and writes the other. */
export function hides(first: SharedTensor, second: SharedTensor): boolean {
  const [a, b] = [tensorBytes(first.tensors[0]!), tensorBytes(second.tensors[0]!)]
  return a > b || (a === b && first.first > second.first)
}

/** What surrounds a part of a program whose storage is decided alone. */
export interface Surroundings {
  /** Tensors that live elsewhere: program inputs and outputs, weights. */
  readonly bound: ReadonlySet<Tensor>
  /** Tensors written before the part. */
  readonly before: readonly Tensor[]
  /** Whether something after the part reads a tensor. */
  readAfter(tensor: Tensor): boolean
  readonly overlays?: Overlays
  readonly streaming?: Streaming
  /** The op after the part, whose streamed weights come while the part's last op runs. */
  readonly next?: Node
}

/**
 * Whole tensors, each with another that it is laid over: one that its group reads frame by frame, ahead of where it writes this one
 * frame by frame. With n frames of e and t bytes, frame i of the one written must end where frame i of the other ends or before:
 * (i + 1)t ≤ n(t - e) + (i + 1)e where t ≥ e, so both end at one place; where t < e both begin at one.
 */
export type Overlays = ReadonlyMap<Tensor, Tensor>

/** Tensors that live outside a program's own memory. */
export function boundOf(program: Program): Set<Tensor> {
  return new Set<Tensor>([
    ...Object.values(program.inputs),
    ...Object.values(program.outputs),
    ...program.weights,
    ...program.nodes.flatMap(({ output }) => (output.host ? [output] : [])),
  ])
}

/** Decides what is whole and what is a sub-feature, and lets outputs overwrite inputs that die with them. */
export function assignStorage(
  program: Program,
  groups: readonly Group[],
  target: Target,
  overlays?: Overlays,
  streaming?: Streaming,
): Storage {
  const readAfter = () => false
  const bound = boundOf(program)
  return storageOf(groups, target, { bound, before: [], readAfter, overlays, streaming })
}

/** The storage of some groups inside their surroundings. */
export function storageOf(groups: readonly Group[], target: Target, around: Surroundings): Storage {
  const nodes = groups.flatMap(group => group.nodes)
  const starts: number[] = []
  const groupOf = new Map<Node, Group>()
  const stepOf = new Map<Node, number>()
  const readers = new Map<Tensor, Node[]>()
  const copyOf = new Map<Tensor, Tensor>()
  const once = new Set<Tensor>()
  for (const group of groups) {
    starts.push(stepOf.size)
    for (const { index, of } of group.again ?? []) copyOf.set(group.nodes[index]!.output, of)
    for (const index of group.once ?? []) once.add(group.nodes[index]!.output)
    for (const node of group.nodes) {
      groupOf.set(node, group)
      stepOf.set(node, stepOf.size)
      for (const { tensor } of node.inputs) {
        reads(node, tensor)
        // In bands that are kept, what reads a copy reads the original, but for what makes copies itself.
        if (copyOf.has(tensor) && !copyOf.has(node.output)) reads(node, copyOf.get(tensor)!)
      }
    }
  }
  starts.push(stepOf.size)
  const lastRead = (tensor: Tensor, least: number): number => {
    if (around.readAfter(tensor)) return nodes.length
    return Math.max(least, ...(readers.get(tensor) ?? []).map(reader => stepOf.get(reader)!))
  }

  const shared: SharedTensor[] = []
  const owner = new Map<Tensor, SharedTensor>()
  for (const tensor of around.before) {
    if (!readers.has(tensor)) continue
    const uses = new Set((readers.get(tensor) ?? []).map(reader => groupOf.get(reader)!.id))
    const entry = {
      tensors: [tensor],
      home: {},
      groups: uses,
      first: -1,
      last: lastRead(tensor, -1),
    }
    shared.push(entry)
    owner.set(tensor, entry)
  }
  for (const node of nodes) {
    const output = node.output
    if (around.bound.has(output)) continue
    const uses = readers.get(output) ?? []
    const home = around.readAfter(output) ? {} : homeOf(node, uses)
    const first = stepOf.get(node)!
    const last = lastRead(output, first)
    // A copy of what is made in some bands alone is made in the others, and lies in their memory.
    const original = once.has(copyOf.get(output)!) ? owner.get(copyOf.get(output)!) : undefined
    const over = original ?? overwritable(node, home)
    if (over) {
      over.tensors.push(output)
      over.last = Math.max(over.last, last)
      touch(over, node, uses)
      owner.set(output, over)
    } else {
      const entry: SharedTensor = { tensors: [output], home, first, last, groups: new Set() }
      touch(entry, node, uses)
      shared.push(entry)
      owner.set(output, entry)
    }
  }
  for (const [above, below] of around.overlays ?? []) tie(owner.get(above), owner.get(below))
  const { streaming, next } = around
  if (streaming) {
    nodes.forEach((node, step) => {
      stream(node, step, groupOf.get(node)!.id)
    })
    if (next && streaming.lead > 0) stream(next, nodes.length)
  }
  return { groups, nodes, starts, shared, owner, target, ...(streaming && { streaming }) }

  function reads(node: Node, tensor: Tensor): void {
    const known = readers.get(tensor)
    if (known) known.push(node)
    else readers.set(tensor, [node])
  }

  /** Weights of a node are whole from where they may come until it has run, in all its slices. */
  function stream(node: Node, step: number, group?: number): void {
    for (const { tensor } of streaming!.of(node)) {
      const first = Math.max(0, step - streaming!.lead)
      const uses = new Set(group === undefined ? [] : [group])
      const entry: SharedTensor = { tensors: [tensor], home: {}, first, last: step, groups: uses }
      shared.push(entry)
      owner.set(tensor, entry)
    }
  }

  /** Lets one entry lie over another that its group reads for the last time, where slices of frames allow it. */
  function tie(above: SharedTensor | undefined, below: SharedTensor | undefined): void {
    if (!above || !below || above === below || above.tied || below.tied) return
    if (above.home.group || below.home.group || below.last >= above.first) return
    const [reader, writer] = [nodes[below.last]!, nodes[above.first]!]
    const group = groupOf.get(writer)!
    const inner = innerOf(writer)
    if (groupOf.get(reader) !== group || group.axis !== 0) return
    if (below.first >= starts[group.id]! || above.last < starts[group.id + 1]!) return
    if ((tensorBytes(above.tensors[0]!) - tensorBytes(below.tensors[0]!)) % alignment !== 0) return
    if (inner !== undefined && inner === innerOf(reader)) return
    const aligned = group.nodes.every(node =>
      below.tensors.every(tensor => readsOwnSlice(node, tensor, 0)),
    )
    if (!aligned) return
    above.tied = below
    below.tied = above
  }

  function touch(entry: SharedTensor, writer: Node, uses: readonly Node[]): void {
    for (const node of [writer, ...uses]) entry.groups.add(groupOf.get(node)!.id)
  }

  function innerOf(node: Node): number | undefined {
    const group = groupOf.get(node)!
    const index = stepOf.get(node)! - starts[group.id]!
    const at = group.inner.findIndex(({ first, last }) => first <= index && index <= last)
    return at < 0 ? undefined : at
  }

  function homeOf(node: Node, uses: readonly Node[]): Home {
    const group = groupOf.get(node)!
    if (!uses.every(reader => groupOf.get(reader) === group)) return {}
    const inner = innerOf(node)
    return inner !== undefined && uses.every(reader => innerOf(reader) === inner)
      ? { group, inner }
      : { group }
  }

  /** The storage of an input that this node reads last, element by element, and that no other slice reads. */
  function overwritable(node: Node, home: Home): SharedTensor | undefined {
    const group = groupOf.get(node)!
    for (const role of opSpec(node.op).inPlace ?? []) {
      const candidates = node.inputs.filter(input => input.role === role)
      if (candidates.length !== 1) continue
      const tensor = candidates[0]!.tensor
      const entry = owner.get(tensor)
      if (!entry) continue
      // A sub-feature that ends as a whole tensor (a shortcut under its residual) lies in that tensor's slice from the start.
      const promoted = !home.group && entry.home.group === group
      if (!promoted && (entry.home.group !== home.group || entry.home.inner !== home.inner))
        continue
      if (tensor.dtype !== node.output.dtype || !sameShape(tensor.shape, node.output.shape))
        continue
      if (
        entry.last !== stepOf.get(node)! ||
        node.inputs.filter(input => input.tensor === tensor).length !== 1
      )
        continue
      const near = (readers.get(tensor) ?? []).filter(reader => groupOf.get(reader) === group)
      if (
        group.axis !== undefined &&
        !near.every(reader => readsOwnSlice(reader, tensor, group.axis!))
      )
        continue
      const inner = innerOf(node)
      const nearest = inner === undefined ? [] : near.filter(reader => innerOf(reader) === inner)
      const { axis, granule } = group.inner[inner!] ?? { axis: 0, granule: 1 }
      if (!nearest.every(reader => readsOwnSlice(reader, tensor, axis, granule))) continue
      if (promoted) entry.home = {}
      return entry
    }
    return undefined
  }
}

function readsOwnSlice(reader: Node, tensor: Tensor, axis: number, granule = 1): boolean {
  return reader.inputs.every(
    (input, i) => input.tensor !== tensor || readsAligned(reader, i, axis, granule),
  )
}

/** Scratch of a node's largest command, all threads together. */
export function scratchBytes(
  group: Group,
  slicing: Slicing,
  index: number,
  target: Target,
): number {
  const node = group.nodes[index]!
  const region = restrict(node.output, firstSlice(group, slicing, index).ranges)
  return (
    (opSpec(node.op).scratch?.(node, node.output, region, target).bytesPerThread ?? 0) *
    target.threads
  )
}

/** The buffers that are alive in a group, and for whole ones only their share of the group's steps. */
export function groupBuffers(
  storage: Storage,
  group: Group,
  slicing: Slicing,
): Omit<Buffer, 'id'>[] {
  const begin = storage.starts[group.id]!
  const end = storage.starts[group.id + 1]!
  /** With several slices, the first slice already writes and the last still reads: what crosses a loop lives as long as it. */
  const widen = (start: number, stop: number, home: Home): [number, number] => {
    let from = Math.max(start, begin)
    let to = Math.min(stop, end)
    if (!home.group && slicing.chunk < group.extent) return [begin, end]
    for (const [i, inner] of group.inner.entries()) {
      if (home.inner === i || slicing.inner[i]! >= inner.extent) continue
      const [first, last] = [begin + inner.first, begin + inner.last + 1]
      if (from >= last || to <= first) continue
      from = Math.min(from, first)
      to = Math.max(to, last)
    }
    return [from, to]
  }
  const buffers: Omit<Buffer, 'id'>[] = []
  for (const entry of storage.shared) {
    const { tensors, home, first, last, tied } = entry
    if (last < begin || first >= end) continue
    const owner = tensors[0]!
    const meet = tied && tied.last >= begin && tied.first < end && slicing.chunk < group.extent
    if (meet && hides(tied, entry)) continue
    const [start, stop] = widen(first, last + 1, home)
    const common = { tensors, name: owner.name, start, end: stop }
    if (!home.group) {
      buffers.push({
        ...common,
        kind: 'whole',
        bytes: tensorBytes(owner),
        ...(meet && { tied: tieOf(entry, tied) }),
      })
    } else {
      const slice = firstSlice(group, slicing, first - begin)
      const region = restrict(owner, home.inner === undefined ? slice.outer : slice.ranges)
      const bytes = elementCount(regionShape(region)) * dtypeBytes[owner.dtype]
      buffers.push({ ...common, kind: home.inner === undefined ? 'slice' : 'inner', bytes })
    }
  }
  group.nodes.forEach((node, i) => {
    const bytes = scratchBytes(group, slicing, i, storage.target)
    if (bytes > 0)
      buffers.push({
        tensors: [],
        name: `scratch of ${node.name}`,
        kind: 'scratch',
        node,
        bytes,
        start: begin + i,
        end: begin + i + 1,
      })
  })
  return buffers
}

function tieOf(entry: SharedTensor, other: SharedTensor): Tie {
  const above = entry.first > other.first ? entry : other
  const below = above === entry ? other : entry
  return { to: other.tensors[0]!, end: hides(above, below) ? 'top' : 'bottom' }
}

/** The nodes by time, for messages. */
export function nodesByTime(storage: Storage, slicings: readonly Slicing[]): Node[] {
  return storage.groups.flatMap(group =>
    Array.from({ length: slicings[group.id]!.bands ?? 1 }, () => group.nodes).flat(),
  )
}

/** Rounds up to the alignment of offsets. */
export function aligned(bytes: number): number {
  return Math.ceil(bytes / alignment) * alignment
}

/** Most bytes alive at one step, and the first such step. */
export function peakOf(buffers: readonly Omit<Buffer, 'id'>[]): { bytes: number; step: number } {
  const last = buffers.reduce((latest, { end }) => Math.max(latest, end), 0)
  const changes = new Float64Array(last + 1)
  for (const { bytes, start, end } of buffers) {
    changes[start]! += aligned(bytes)
    changes[end]! -= aligned(bytes)
  }
  let live = 0
  let peak = { bytes: 0, step: 0 }
  for (const [step, change] of changes.entries()) {
    live += change
    if (live > peak.bytes) peak = { bytes: live, step }
  }
  return peak
}
