import { type Node, type Program, reading } from '../program/graph.js'
import { opSpec } from '../program/op.js'
import { type Region, wholeRegion, withAxis } from '../program/region.js'
import type { Tensor } from '../program/tensor.js'
import { panelWidth } from './commands.js'

/** A run of a group's ops that is sliced once more, along another axis, inside each slice of the group. */
export interface InnerGroup {
  /** Indices of its first and last op in the group. */
  readonly first: number
  readonly last: number
  readonly axis: number
  readonly extent: number
  /** Slices are multiples of this: 1 for rows; for heads, whole heads that are whole panels of packed weights. */
  readonly granule: number
}

/** An op that makes a tensor again, and what it is a copy of. */
export interface Again {
  readonly index: number
  readonly of: Tensor
}

/** Consecutive ops that run slice by slice. `axis` is the tensor axis that is sliced; absent: the group runs whole. */
export interface Group {
  readonly id: number
  readonly nodes: readonly Node[]
  readonly axis?: number
  /** Extent along the axis: the most slices. 1 without an axis. */
  readonly extent: number
  readonly inner: readonly InnerGroup[]
  /** Indices of ops that are made again in each band with the rows around it that the band's other ops read. Default: none. */
  readonly halos?: readonly number[]
  /** Ops that make tensors again. In bands that are kept they do not run, and what reads them reads what they are copies of. */
  readonly again?: readonly Again[]
  /** Indices of ops of which only copies are read: they run in the bands that are kept alone. */
  readonly once?: readonly number[]
}

/** How finely a group is sliced: the extent of one slice, and of one slice of each inner group. */
export interface Slicing {
  readonly chunk: number
  readonly inner: readonly number[]
  /** So many parts, each a point in time of its own: what they hold of whole tensors is kept in bands with lifetimes of their own. */
  readonly bands?: number
  /** So many of them, the first ones, are kept: nothing is made again in them. Default: none. */
  readonly kept?: number
}

/** Axes that groups may be sliced along, preferred first: 0 frames (or tokens), 1 rows. */
export const sliceAxes = [0, 1] as const

/**
 * Whether every slice of a node's output along `axis`, in multiples of a granule, reads an input at the same slice only. Such an input
 * may be a sub-feature of the group; any other must be whole.
 */
export function readsAligned(node: Node, input: number, axis: number, granule = 1): boolean {
  const known = alignments.get(node.output) ?? new Map<number, boolean>()
  alignments.set(node.output, known)
  const key = (granule * 64 + input) * 4 + axis
  if (!known.has(key)) known.set(key, probeAlignment(node, input, axis, granule))
  return known.get(key)!
}

/** By output: a node copied with other operands of the same shapes reads as it did. */
const alignments = new WeakMap<Tensor, Map<number, boolean>>()

function probeAlignment(node: Node, input: number, axis: number, granule: number): boolean {
  const tensor = node.inputs[input]!.tensor
  const extent = node.output.shape[axis]
  if (extent === undefined || tensor.shape.length <= axis || tensor.shape[axis] !== extent)
    return false
  const probes = new Set([0, Math.floor(extent / granule / 2) * granule, extent - granule])
  for (const start of probes) {
    const wanted = withAxis(wholeRegion(node.output.shape), axis, [start, start + granule])
    const read = opSpec(node.op).regions(node, node.output, wanted)[input]![axis]!
    if (read[0] !== start || read[1] !== start + granule) return false
  }
  return true
}

/** Whether a node computes `axis` part by part at all: no part of the output is a summary of the axis. */
function hasAxis(node: Node, axis: number): boolean {
  // Statistics [frames, 2, channels] and the like keep frames only.
  return node.output.shape.length > axis + 1 && (axis === 0 || node.output.shape.length === 4)
}

/** Axes along which a node alone can be sliced. */
export function sliceableAxes(node: Node): number[] {
  return new OpenGroup().joinable(node)
}

/** A group while it grows. */
export class OpenGroup {
  readonly nodes: Node[] = []
  axes: number[] = []
  private readonly written = new Set<Tensor>()
  /** Of which each slice has as many rows as are read there: what makes them reads nothing of its group. */
  private readonly free = new Set<Tensor>()

  /** @param again tensors that are made again for one group alone */
  constructor(
    private readonly allowed: readonly number[] = sliceAxes,
    private readonly again: ReadonlyMap<Tensor, Tensor> = new Map(),
  ) {}

  /** Axes along which the node could join: the group's extent, and inputs from inside read at their own slice. */
  joinable(node: Node): number[] {
    const beyond = !this.again.has(node.output)
    return (this.nodes.length ? this.axes : [...this.allowed]).filter(axis => {
      const extent = node.output.shape[axis]!
      if (!hasAxis(node, axis) || extent < 2) return false
      if (this.nodes.length && this.nodes[0]!.output.shape[axis] !== extent) return false
      return node.inputs.every(
        ({ tensor }, i) =>
          !this.written.has(tensor) ||
          (beyond && this.free.has(tensor)) ||
          readsAligned(node, i, axis),
      )
    })
  }

  dependsOn(node: Node): boolean {
    return node.inputs.some(({ tensor }) => this.written.has(tensor))
  }

  push(node: Node, axes: number[]): void {
    if (this.again.has(node.output) && !this.dependsOn(node)) this.free.add(node.output)
    this.nodes.push(node)
    this.written.add(node.output)
    this.axes = axes
  }
}

/**
 * Groups of consecutive ops: an op joins while some axis is left along which all of them can be sliced exactly (spatial ops along
 * frames, temporal ops along rows of pixels). An op that cannot join but needs nothing of the group (projections of the text, of the
 * time embedding) moves before it.
 * @param again tensors that are made again for one group alone, which may read more rows of them than its slice has, each with what it is
 * a copy of
 */
export function formGroups(
  program: Program,
  allowed: readonly number[] = sliceAxes,
  again: ReadonlyMap<Tensor, Tensor> = new Map(),
): Group[] {
  const closed: Node[][] = []
  const axes: (number | undefined)[] = []
  let open = new OpenGroup(allowed, again)
  const close = () => {
    if (open.nodes.length) {
      closed.push(open.nodes)
      axes.push(open.axes[0])
    }
    open = new OpenGroup(allowed, again)
  }
  for (const node of program.nodes) {
    let joinable = open.joinable(node)
    if (open.nodes.length && joinable.length === 0) {
      if (!open.dependsOn(node) && !again.has(node.output)) {
        closed.push([node])
        axes.push(sliceableAxes(node)[0])
        continue
      }
      close()
      joinable = open.joinable(node)
    }
    open.push(node, joinable)
    if (joinable.length === 0) close()
  }
  close()
  const groups = closed.map((nodes, id) => makeGroup(id, nodes, axes[id]))
  return again.size === 0 ? groups : withCopies(groups, again, program)
}

/** Groups with what they make again, and what is read through copies alone. */
function withCopies(
  groups: readonly Group[],
  copies: ReadonlyMap<Tensor, Tensor>,
  program: Program,
): Group[] {
  const read = new Set(program.nodes.flatMap(({ inputs }) => inputs.map(({ tensor }) => tensor)))
  for (const output of Object.values(program.outputs)) read.add(output)
  const copied = new Set(copies.values())
  return groups.map(group => {
    const { nodes } = group
    const again = nodes.flatMap(({ output }, index) => {
      const of = copies.get(output)
      return of ? [{ index, of }] : []
    })
    const once = nodes.flatMap(({ output }, index) =>
      copied.has(output) && !read.has(output) ? [index] : [],
    )
    return { ...group, ...(again.length > 0 && { again }), ...(once.length > 0 && { once }) }
  })
}

/**
 * A group of nodes along an axis, or that runs once, with its inner groups along rows.
 * @param heads inner groups along heads where there is attention, and along rows elsewhere
 */
export function makeGroup(
  id: number,
  nodes: readonly Node[],
  axis: number | undefined,
  heads: readonly InnerGroup[] = [],
): Group {
  const extent = axis === undefined ? 1 : nodes[0]!.output.shape[axis]!
  if (axis === 1) {
    const halos = halosOf(nodes, axis)
    return { id, nodes, axis, extent, inner: [], ...(halos.length > 0 && { halos }) }
  }
  const inner: InnerGroup[] = []
  let begin = 0
  const rowsUpTo = (end: number) => {
    for (const rows of innerGroups(nodes.slice(begin, end), 1))
      inner.push({ ...rows, first: rows.first + begin, last: rows.last + begin })
  }
  for (const run of heads) {
    rowsUpTo(run.first)
    inner.push(run)
    begin = run.last + 1
  }
  rowsUpTo(nodes.length)
  return { id, nodes, axis, extent, inner }
}

/** Ops whose output others of a run read beyond their own slice. */
export function halosOf(nodes: readonly Node[], axis: number): number[] {
  const beyond = new Set<Tensor>()
  for (const node of nodes)
    for (const [i, { tensor }] of node.inputs.entries())
      if (!readsAligned(node, i, axis)) beyond.add(tensor)
  return nodes.flatMap(({ output }, i) => (beyond.has(output) ? [i] : []))
}

/** The rows of an op's output that the others of its group read in one of its slices. */
function haloRange(group: Group, index: number, outer: readonly AxisRange[]): AxisRange {
  const axis = group.axis!
  const { output } = group.nodes[index]!
  let [start, stop] = [output.shape[axis]!, 0]
  for (const node of group.nodes.slice(index + 1)) {
    const regions = opSpec(node.op).regions(node, node.output, restrict(node.output, outer))
    for (const [i, { tensor }] of node.inputs.entries()) {
      if (tensor !== output) continue
      start = Math.min(start, regions[i]![axis]![0])
      stop = Math.max(stop, regions[i]![axis]![1])
    }
  }
  return { axis, range: [start, stop] }
}

/**
 * Runs of projections and the attention that reads them, which can go head by head: of queries, keys and values only those of some heads
 * are there at a time. Weights are packed in panels, so that a slice is whole panels too.
 */
export function headRuns(nodes: readonly Node[]): InnerGroup[] {
  const found: InnerGroup[] = []
  nodes.forEach((node, last) => {
    const { shape } = node.output
    if (node.op !== 'attention' || node.attrs.over === 'time' || shape.length !== 4) return
    const read = new Set<Tensor>(node.inputs.map(({ tensor }) => tensor))
    let first = last
    while (first > 0 && nodes[first - 1]!.op === 'linear' && read.has(nodes[first - 1]!.output))
      first--
    const extent = shape[3]!
    const granule = leastMultiple(panelWidth, extent / (node.attrs.heads as number))
    if (first < last && extent % granule === 0 && extent > granule)
      found.push({ first, last, axis: 3, extent, granule })
  })
  return found
}

function leastMultiple(a: number, b: number): number {
  let multiple = b
  while (multiple % a !== 0) multiple += b
  return multiple
}

/** Runs of ops inside a group that can be sliced along `axis` too: feed-forwards and projections along the rows of a frame. */
function innerGroups(nodes: readonly Node[], axis: number): InnerGroup[] {
  const found: InnerGroup[] = []
  let first = 0
  let written = new Set<Tensor>()
  let extent = 0
  const close = (end: number) => {
    if (end - first > 1) found.push({ first, last: end - 1, axis, extent, granule: 1 })
  }
  nodes.forEach((node, i) => {
    const rows = node.output.shape[axis]!
    const able = hasAxis(node, axis) && rows > 1
    const joins =
      able &&
      (i === first || rows === extent) &&
      node.inputs.every(
        ({ tensor }, input) => !written.has(tensor) || readsAligned(node, input, axis),
      )
    if (!joins) {
      close(i)
      first = able ? i : i + 1
      written = new Set()
    }
    if (able) {
      extent = rows
      written.add(node.output)
    }
  })
  close(nodes.length)
  return found
}

/** A part of an axis. */
export interface AxisRange {
  readonly axis: number
  readonly range: readonly [start: number, stop: number]
}

/** One op in one slice: the ranges of the group's slice and, inside an inner group, of the inner slice. */
export interface SlicedNode {
  /** As it runs here: in a band that is kept it may read others than its group's op does. */
  readonly node: Node
  /** Of the op in its group. */
  readonly index: number
  readonly outer: readonly AxisRange[]
  readonly ranges: readonly AxisRange[]
  /** Running number of the slice in its group. */
  readonly slice: number
}

/** The ops of a group in the order in which they run. */
export function* slicedNodes(group: Group, slicing: Slicing): Generator<SlicedNode> {
  if (slicing.bands) {
    yield* bandedNodes(group, slicing.bands, slicing.kept ?? 0)
    return
  }
  let slice = 0
  for (const outer of ranges(group.axis, group.extent, slicing.chunk)) {
    let at = 0
    const whole = (index: number) => {
      return { node: group.nodes[index]!, index, outer, ranges: outer, slice }
    }
    for (const [i, inner] of group.inner.entries()) {
      for (; at < inner.first; at++) yield whole(at)
      for (const part of ranges(inner.axis, inner.extent, slicing.inner[i]!)) {
        for (let index = inner.first; index <= inner.last; index++)
          yield { ...whole(index), ranges: [...outer, ...part], slice }
        slice++
      }
      at = inner.last + 1
    }
    for (; at < group.nodes.length; at++) yield whole(at)
    slice++
  }
}

/** The ops of a group along rows, band by band: those that are kept, then those in which tensors are made again. */
function* bandedNodes(group: Group, bands: number, kept: number): Generator<SlicedNode> {
  const copies = new Map(group.again?.map(({ index, of }) => [group.nodes[index]!.output, of]))
  for (let slice = 0; slice < bands; slice++) {
    const outer: AxisRange[] = [{ axis: group.axis!, range: bandRange(group.extent, bands, slice) }]
    for (const [index, node] of group.nodes.entries()) {
      if (!runsIn(group, index, slice < kept)) continue
      const ranges = group.halos?.includes(index) ? [haloRange(group, index, outer)] : outer
      yield { node: slice < kept ? reading(node, copies) : node, index, outer, ranges, slice }
    }
  }
}

/** Whether an op of a group of bands runs in a band that is kept, or in one in which tensors are made again. */
function runsIn({ again, once }: Group, index: number, kept: boolean): boolean {
  return kept ? !again?.some(copy => copy.index === index) : !once?.includes(index)
}

function* ranges(axis: number | undefined, extent: number, chunk: number): Generator<AxisRange[]> {
  if (axis === undefined) {
    yield []
    return
  }
  for (let start = 0; start < extent; start += chunk)
    yield [{ axis, range: [start, Math.min(extent, start + chunk)] }]
}

/** The i-th of `bands` nearly equal parts of an extent. */
export function bandRange(extent: number, bands: number, i: number): readonly [number, number] {
  return [Math.floor((i * extent) / bands), Math.floor(((i + 1) * extent) / bands)]
}

/** The ranges of the first slice of a node, which is the largest. */
export function firstSlice(
  group: Group,
  slicing: Slicing,
  index: number,
): { outer: AxisRange[]; ranges: AxisRange[] } {
  const outer: AxisRange[] =
    group.axis === undefined
      ? []
      : [{ axis: group.axis, range: [0, Math.min(group.extent, slicing.chunk)] }]
  const at = group.inner.findIndex(({ first, last }) => first <= index && index <= last)
  const inner = group.inner[at]
  const ranges = inner
    ? [
        ...outer,
        { axis: inner.axis, range: [0, Math.min(inner.extent, slicing.inner[at]!)] as const },
      ]
    : outer
  return { outer, ranges }
}

/** What ranges leave of a tensor. */
export function restrict(tensor: Tensor, ranges: readonly AxisRange[]): Region {
  return ranges.reduce(
    (region, { axis, range }) => withAxis(region, axis, range),
    wholeRegion(tensor.shape),
  )
}

/** The slicing that runs a group whole. */
export function unsliced(group: Group): Slicing {
  return { chunk: group.extent, inner: group.inner.map(({ extent }) => extent) }
}

/** How often each op of a group runs. */
export function sliceCounts(group: Group, slicing: Slicing): number[] {
  const { bands, kept = 0, chunk } = slicing
  const outer = bands ?? Math.ceil(group.extent / chunk)
  return group.nodes.map((_, i) => {
    if (bands)
      return (runsIn(group, i, true) ? kept : 0) + (runsIn(group, i, false) ? bands - kept : 0)
    const at = group.inner.findIndex(({ first, last }) => first <= i && i <= last)
    return at < 0 ? outer : outer * Math.ceil(group.inner[at]!.extent / slicing.inner[at]!)
  })
}

/** The ops of a group that run at all: of what is made again or kept, one or the other may not. */
export function runningNodes(group: Group, slicing: Slicing): Node[] {
  const counts = sliceCounts(group, slicing)
  return group.nodes.filter((_, index) => counts[index]! > 0)
}
