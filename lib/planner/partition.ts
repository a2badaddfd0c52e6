import type { Node, Program } from '../program/graph.js'
import type { Target } from '../program/op.js'
import { type Tensor, tensorBytes } from '../program/tensor.js'
import type { CommandCosts } from './cost.js'
import { type Group, headRuns, makeGroup, OpenGroup, type Slicing, unsliced } from './group.js'
import { GroupMemory, ScratchTable } from './group-memory.js'
import { Heap } from './heap.js'
import { aligned, boundOf, type Overlays, type Surroundings, storageOf } from './storage.js'
import type { Streaming } from './streaming.js'

/** Nodes [first, end) of the order that can be one group. */
interface Segment {
  readonly first: number
  readonly end: number
  readonly axes: readonly number[]
  /** Bytes of tensors that live across the segment and are not read in it. */
  readonly passing: number
  /** Seconds when nothing is sliced: no slicing is faster. */
  readonly seconds: number
  /** Its memory unsliced and by axis; made when first asked for. */
  memories?: readonly GroupMemory[]
  /** Fewest bytes of any slicing, and the step of the order that needs them. */
  least?: Bottleneck
}

/** The largest step of a way through a program. */
export interface Bottleneck {
  readonly bytes: number
  readonly step: number
  /** The group that it is a step of: nodes [first, end) of the order. */
  readonly first: number
  readonly end: number
}

/** Memories of segments that partitioners of variants of one program share, by their ends. */
export type SharedMemories = Map<string, readonly GroupMemory[]>

/** A way to run a segment. */
interface Way {
  readonly group: Group
  readonly slicing: Slicing
  readonly seconds: number
}

/** Groups in order with their slicings. */
export interface Partition {
  readonly groups: readonly Group[]
  readonly slicings: readonly Slicing[]
}

/**
 * Where groups begin and end, and how each is sliced. For a fixed order a group's peak is its own affair: what lives across it is whole
 * whatever the other groups are. So the fastest partition under a budget is a shortest path over the positions between ops, and the
 * least memory is the path whose largest step is smallest.
 */
export class Partitioner {
  private readonly order: readonly Node[]
  private readonly segments: readonly (readonly Segment[])[]
  private readonly bound: ReadonlySet<Tensor>
  /** Step that writes a tensor, and those that read it, in order. */
  private readonly written = new Map<Tensor, number>()
  private readonly reads = new Map<Tensor, number[]>()
  /** Bytes of whole tensors that are alive between two steps of the order. */
  private readonly crossing: Float64Array
  private narrowest?: Bottleneck

  /**
   * @param shared memories of other variants of the program
   * @param changed tensors by which this variant differs from the others
   */
  constructor(
    program: Program,
    private readonly target: Target,
    private readonly costs: CommandCosts,
    private readonly scratch = new ScratchTable(target),
    private readonly shared: SharedMemories = new Map(),
    private readonly changed: ReadonlySet<Tensor> = new Set(),
    private readonly overlays: Overlays = new Map(),
    private readonly streaming?: Streaming,
  ) {
    this.order = program.nodes
    this.bound = boundOf(program)
    this.order.forEach((node, step) => {
      this.written.set(node.output, step)
      for (const { tensor } of node.inputs) {
        const steps = this.reads.get(tensor)
        if (steps) steps.push(step)
        else this.reads.set(tensor, [step])
      }
    })
    this.crossing = new Float64Array(this.order.length + 1)
    for (const [tensor, step] of this.written) {
      if (this.bound.has(tensor)) continue
      const last = this.lastRead(tensor)
      for (let at = step + 1; at <= last; at++) this.crossing[at]! += aligned(tensorBytes(tensor))
    }
    const cuts = this.cutPoints()
    const seconds = this.order.map(node => costs.node(node))
    let alive: Tensor[] = []
    this.segments = this.order.map(({ output }, first) => {
      const found = cuts[first] ? this.segmentsFrom(first, alive, cuts, seconds) : []
      alive = alive.concat(this.bound.has(output) ? [] : output)
      alive = alive.filter(tensor => this.lastRead(tensor) > first)
      return found
    })
  }

  /**
   * The fastest partition of which no group needs more than `allowed` bytes, nor more than `roomy` where it can do with that: slack in
   * most places lets the arena be packed in what the few tight ones need. Undefined where there is none.
   */
  fastest(allowed: number, roomy = allowed): Partition | undefined {
    const { count, total, taken } = this.search<Way>()
    for (let first = 0; first < count; first++) {
      if (total[first] === Number.POSITIVE_INFINITY) continue
      for (const segment of this.segments[first]!) {
        if (total[first]! + segment.seconds >= total[segment.end]!) continue
        const way = this.fastestWay(segment, roomy) ?? this.fastestWay(segment, allowed)
        if (!way || total[first]! + way.seconds >= total[segment.end]!) continue
        total[segment.end] = total[first]! + way.seconds
        taken[segment.end] = { first, way }
      }
    }
    if (total[count] === Number.POSITIVE_INFINITY) return undefined
    const groups: Group[] = []
    const slicings: Slicing[] = []
    for (let at = count; at > 0; at = taken[at]!.first) {
      const { first, way } = taken[at]!
      // A memory that variants share knows the nodes of another one.
      groups.unshift({ ...way.group, nodes: this.order.slice(first, at) })
      slicings.unshift(way.slicing)
    }
    return { groups: groups.map((group, id) => ({ ...group, id })), slicings }
  }

  /** The least bytes that the largest group of any partition needs, and its largest step. */
  bottleneck(): Bottleneck {
    this.narrowest ??= this.findBottleneck()
    return this.narrowest
  }

  /**
   * Pairs at a bottleneck of which one could lie over the other: a whole tensor that its group writes frame by frame, and one that the
   * group is the last to read, before. Largest first.
   */
  overlaysAt({ first, end }: Bottleneck): { above: Tensor; below: Tensor }[] {
    const used = new Set<Tensor>([...this.overlays].flat())
    const featured = (tensor: Tensor) =>
      tensor.shape.length === 4 &&
      tensor.shape[0]! > 1 &&
      !this.bound.has(tensor) &&
      !used.has(tensor)
    const found: { above: Tensor; below: Tensor; bytes: number }[] = []
    for (let step = first; step < end; step++) {
      const above = this.order[step]!.output
      if (!featured(above) || this.lastRead(above) < end) continue
      for (const [below, written] of this.written) {
        if (written >= first) break
        const last = this.lastRead(below)
        if (last < first || last >= step || !featured(below)) continue
        if (below.shape[0] !== above.shape[0]) continue
        found.push({ above, below, bytes: Math.min(tensorBytes(above), tensorBytes(below)) })
      }
    }
    return found.sort(
      (a, b) => b.bytes - a.bytes || a.above.id - b.above.id || a.below.id - b.below.id,
    )
  }

  /**
   * The way whose largest step is smallest, as Dijkstra finds it. What is not above the largest step of every way is as good as it, and of
   * equals the farthest goes first, of these the longest, so that few segments are looked at where memory is no matter.
   */
  private findBottleneck(): Bottleneck {
    const { count, taken } = this.search<Bottleneck>()
    const floor = this.floor()
    const settled = new Uint8Array(count + 1)
    const edges = new Heap<{ bytes: number; segment: Segment }>(
      (a, b) =>
        a.bytes - b.bytes || b.segment.end - a.segment.end || a.segment.first - b.segment.first,
    )
    const look = (segment: Segment, bytes: number) => {
      if (!settled[segment.end]) edges.push({ bytes, segment })
    }
    const settle = (at: number, bytes: number) => {
      settled[at] = 1
      for (const segment of this.segments[at] ?? [])
        look(segment, Math.max(bytes, this.atLeast(segment)))
    }
    settle(0, floor)
    while (!settled[count]) {
      const { bytes, segment } = edges.pop()!
      if (settled[segment.end]) continue
      const least = this.leastOf(segment)
      if (least.bytes > bytes) look(segment, least.bytes)
      else {
        taken[segment.end] = { first: segment.first, way: least }
        settle(segment.end, bytes)
      }
    }
    let worst: Bottleneck = { bytes: 0, step: 0, first: 0, end: 0 }
    for (let at = count; at > 0; at = taken[at]!.first)
      if (taken[at]!.way.bytes > worst.bytes) worst = taken[at]!.way
    return worst
  }

  /** Whole tensors alone: at each step, those of the segment around it that has the fewest; of all steps the most. */
  floor(): number {
    const fewest = new Float64Array(this.order.length).fill(Number.POSITIVE_INFINITY)
    for (const segment of this.segments.flat()) {
      const bytes = this.atLeast(segment)
      for (let step = segment.first; step < segment.end; step++)
        fewest[step] = Math.min(fewest[step]!, bytes)
    }
    return fewest.reduce((most, bytes) => Math.max(most, bytes), 0)
  }

  /** What whole tensors alone need at the ends of a segment. */
  private atLeast({ first, end, passing }: Segment): number {
    return Math.max(passing, this.crossing[first]!, this.crossing[end]!)
  }

  private leastOf(segment: Segment): Bottleneck {
    if (!segment.least) {
      let best: Bottleneck | undefined
      for (const memory of this.memoriesOf(segment)) {
        const { bytes, step } = memory.least()
        if (!best || segment.passing + bytes < best.bytes)
          best = {
            bytes: segment.passing + bytes,
            step: segment.first + step,
            first: segment.first,
            end: segment.end,
          }
      }
      segment.least = best!
    }
    return segment.least
  }

  private search<T>() {
    const count = this.order.length
    const total = new Float64Array(count + 1).fill(Number.POSITIVE_INFINITY)
    total[0] = 0
    return { count, total, taken: new Array<{ first: number; way: T } | undefined>(count + 1) }
  }

  /** The fastest slicing of a segment within a limit. Coarser is faster: the first that fits along an axis ends the search there. */
  private fastestWay(segment: Segment, allowed: number): Way | undefined {
    if (this.atLeast(segment) > allowed || (segment.least?.bytes ?? 0) > allowed) return undefined
    const limit = allowed - segment.passing
    let best: Way | undefined
    for (const memory of this.memoriesOf(segment)) {
      const { group } = memory
      const whole = unsliced(group)
      // The group that runs once, its inner runs sliced, comes first.
      for (const chunk of group.axis === undefined ? [1] : chunksOf(group.extent).slice(1)) {
        const peaks = memory.peaks({ ...whole, chunk })
        if (peaks.bytes <= limit && group.axis === undefined)
          return { group, slicing: whole, seconds: segment.seconds }
        if (peaks.outside > limit) continue
        const slicing = innerWithin(memory, { ...whole, chunk }, peaks.inner, limit)
        if (!slicing) continue
        const seconds = this.costs.group(group, slicing)
        if (!best || seconds < best.seconds) best = { group, slicing, seconds }
        if (peaks.bytes <= limit) break
      }
    }
    return best
  }

  /**
   * Positions where a group may begin: in a short program all of them; else those where the longest groups end, and where few tensors
   * cross, not counting what waits long (skips): after a residual, an activation, a projection.
   */
  private cutPoints(): boolean[] {
    const { length } = this.order
    if (length <= shortProgram) return new Array<boolean>(length + 1).fill(true)
    const crossing = new Array<number>(length + 1).fill(0)
    for (const [tensor, step] of this.written) {
      const last = this.lastRead(tensor)
      if (tensor.shape.length < 4 || last - step > longWait) continue
      for (let at = step + 1; at <= last; at++) crossing[at]!++
    }
    const cuts = crossing.map(count => count <= mostCrossing)
    let open = new OpenGroup()
    this.order.forEach((node, step) => {
      let axes = open.joinable(node)
      if (axes.length === 0) {
        cuts[step] = true
        open = new OpenGroup()
        axes = open.joinable(node)
      }
      open.push(node, axes)
    })
    cuts[length] = true
    return cuts
  }

  /** Segments that begin at a position where tensors are alive, shortest first. */
  private segmentsFrom(
    first: number,
    alive: readonly Tensor[],
    cuts: readonly boolean[],
    seconds: readonly number[],
  ): Segment[] {
    const passing = this.passingFrom(first, alive)
    const open = new OpenGroup()
    const found: Segment[] = []
    let sum = 0
    for (let end = first; end < this.order.length; ) {
      const node = this.order[end]!
      const axes = open.joinable(node)
      if (end > first && axes.length === 0) break
      open.push(node, axes)
      sum += seconds[end]!
      end++
      if (cuts[end]) found.push({ first, end, axes, passing: passing(end), seconds: sum })
      if (axes.length === 0) break
    }
    return found
  }

  private memoriesOf(segment: Segment): readonly GroupMemory[] {
    segment.memories ??= this.sharedMemoriesOf(segment)
    return segment.memories
  }

  private sharedMemoriesOf({ first, end, axes }: Segment): readonly GroupMemory[] {
    const nodes = this.order.slice(first, end)
    const changed = nodes.some(
      ({ inputs, output }) =>
        this.changed.has(output) || inputs.some(({ tensor }) => this.changed.has(tensor)),
    )
    const key = `${nodes[0]!.output.id} ${nodes.at(-1)!.output.id} ${nodes.length} ${this.streamedNext(end)?.output.id}`
    const known = changed ? undefined : this.shared.get(key)
    if (known) return known
    const around = this.surroundings(first, end, nodes)
    const heads = nodes.length <= shortSegment ? headRuns(nodes) : []
    const memories = [undefined, ...axes].flatMap(axis =>
      [makeGroup(0, nodes, axis)]
        .concat(heads.length > 0 && axis !== 1 ? makeGroup(0, nodes, axis, heads) : [])
        .map(
          group => new GroupMemory(storageOf([group], this.target, around), group, this.scratch),
        ),
    )
    if (!changed) this.shared.set(key, memories)
    return memories
  }

  private surroundings(first: number, end: number, nodes: readonly Node[]): Surroundings {
    const before = new Set<Tensor>()
    for (const { inputs } of nodes) {
      for (const { tensor } of inputs) {
        const step = this.written.get(tensor)
        if (step !== undefined && step < first && !this.bound.has(tensor)) before.add(tensor)
      }
    }
    return {
      bound: this.bound,
      before: [...before],
      readAfter: tensor => this.lastRead(tensor) >= end,
      overlays: this.overlays,
      streaming: this.streaming,
      next: this.streamedNext(end),
    }
  }

  /** The op at a position, where its weights come before it. */
  private streamedNext(end: number): Node | undefined {
    const next = this.order[end]
    const { streaming } = this
    return next && streaming && streaming.lead > 0 && streaming.of(next).length > 0
      ? next
      : undefined
  }

  private lastRead(tensor: Tensor): number {
    return this.reads.get(tensor)?.at(-1) ?? -1
  }

  /** By the end of a segment that begins at `first`: bytes that are alive there and read only after it. */
  private passingFrom(first: number, alive: readonly Tensor[]): (end: number) => number {
    const waiting = alive.map(tensor => ({
      next: this.reads.get(tensor)!.find(read => read >= first)!,
      bytes: aligned(tensorBytes(tensor)),
    }))
    return end => waiting.reduce((sum, { next, bytes }) => (next >= end ? sum + bytes : sum), 0)
  }
}

/** The fewest inner slices with which every inner group stays within a limit; undefined where even the finest do not. */
function innerWithin(
  memory: GroupMemory,
  slicing: Slicing,
  peaks: readonly number[],
  limit: number,
): Slicing | undefined {
  let found = slicing
  for (const [i, { extent, granule }] of memory.group.inner.entries()) {
    if (peaks[i]! <= limit) continue
    const chunks = chunksOf(extent / granule).map(chunk => chunk * granule)
    const within = (chunk: number) => {
      found = { ...found, inner: found.inner.map((old, j) => (i === j ? chunk : old)) }
      return memory.peaks(found).inner[i]! <= limit
    }
    // Finer slices hold less: bisect.
    let [low, high] = [1, chunks.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (within(chunks[middle]!)) high = middle
      else low = middle + 1
    }
    if (low >= chunks.length || !within(chunks[low]!)) return undefined
  }
  return found
}

/** Sizes of slices that make different counts of them, largest first: the whole extent, half of it, … one. */
function chunksOf(extent: number): number[] {
  const chunks: number[] = []
  for (let count = 1; count <= extent; count++) {
    const chunk = Math.ceil(extent / count)
    if (chunk !== chunks[chunks.length - 1]) chunks.push(chunk)
  }
  return chunks
}

/** Segments of so many ops are tried along heads too: what surrounds attention in longer ones holds more than heads save. */
const shortSegment = 10
/** Programs of so many ops are searched with groups that begin anywhere. */
const shortProgram = 48
/** Tensors that cross a position where groups may begin: a feature, what it is blended with and what is added to both. */
const mostCrossing = 3
/** A tensor that waits this many steps is a skip, whole whatever the groups. */
const longWait = 60
