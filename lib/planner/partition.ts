import type { Node, Program } from '../program/graph.js'
import type { Target } from '../program/op.js'
import { type Tensor, tensorBytes } from '../program/tensor.js'
import { candidates } from './budget.js'
import type { CommandCosts } from './cost.js'
import { formGroups, type Group, makeGroup, OpenGroup, type Slicing } from './group.js'
import { aligned, boundOf, type Surroundings, storageOf } from './storage.js'

/** A way to run a segment: its group, slicing, most bytes alive meanwhile, and modelled seconds. */
interface Way {
  readonly group: Group
  readonly slicing: Slicing
  readonly bytes: number
  readonly seconds: number
}

/** Nodes [first, end) of the order that can be one group. */
interface Segment {
  readonly first: number
  readonly end: number
  readonly axes: readonly number[]
  /** Ways by falling bytes and rising seconds: the Pareto front. Made when first asked for. */
  ways?: readonly Way[]
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
  /** Step that writes a tensor, and the last that reads it. */
  private readonly written = new Map<Tensor, number>()
  private readonly lastRead = new Map<Tensor, number>()

  constructor(
    program: Program,
    private readonly target: Target,
    private readonly costs: CommandCosts,
  ) {
    const greedy = formGroups(program)
    this.order = greedy.flatMap(group => group.nodes)
    this.bound = boundOf(program)
    this.order.forEach((node, step) => {
      this.written.set(node.output, step)
      for (const { tensor } of node.inputs) this.lastRead.set(tensor, step)
    })
    const cuts = this.cutPoints(greedy)
    this.segments = this.order.map((_, first) =>
      cuts[first] ? this.segmentsFrom(first, cuts) : [],
    )
  }

  /** The fastest partition of which no group needs more than `allowed` bytes; undefined where there is none. */
  fastest(allowed: number): Partition | undefined {
    return this.shortest(
      segment => {
        let best: Way | undefined
        for (const way of this.waysOf(segment))
          if (way.bytes <= allowed && (!best || way.seconds < best.seconds)) best = way
        return best
      },
      (before, way) => before + way.seconds,
    )
  }

  /** The least bytes that the largest group of any partition needs. */
  leastBytes(): number {
    let most = 0
    this.shortest(
      segment => this.waysOf(segment)[this.waysOf(segment).length - 1],
      (before, way) => Math.max(before, way.bytes),
      total => {
        most = total
      },
    )
    return most
  }

  private shortest(
    wayOf: (segment: Segment) => Way | undefined,
    add: (before: number, way: Way) => number,
    seen: (total: number) => void = () => {},
  ): Partition | undefined {
    const count = this.order.length
    const total = new Array<number>(count + 1).fill(Number.POSITIVE_INFINITY)
    const taken = new Array<{ from: number; way: Way } | undefined>(count + 1)
    total[0] = 0
    for (let first = 0; first < count; first++) {
      if (total[first] === Number.POSITIVE_INFINITY) continue
      for (const segment of this.segments[first]!) {
        const way = wayOf(segment)
        if (!way) continue
        const sum = add(total[first]!, way)
        // The longer group wins a tie: fewer whole tensors.
        if (sum < total[segment.end]!) {
          total[segment.end] = sum
          taken[segment.end] = { from: first, way }
        }
      }
    }
    if (total[count] === Number.POSITIVE_INFINITY) return undefined
    seen(total[count]!)
    const ways: Way[] = []
    for (let at = count; at > 0; at = taken[at]!.from) ways.unshift(taken[at]!.way)
    return {
      groups: ways.map(({ group }, id) => ({ ...group, id })),
      slicings: ways.map(({ slicing }) => slicing),
    }
  }

  /**
   * Positions where a group may begin: those of the greedy groups, and where few tensors cross, not counting what waits long (skips):
   * after a residual, an activation, a projection.
   */
  private cutPoints(greedy: readonly Group[]): boolean[] {
    const crossing = new Array<number>(this.order.length + 1).fill(0)
    for (const [tensor, step] of this.written) {
      const last = this.lastRead.get(tensor) ?? step
      if (tensor.shape.length < 4 || last - step > longWait) continue
      for (let at = step + 1; at <= last; at++) crossing[at]!++
    }
    const cuts = crossing.map(count => count <= mostCrossing)
    let step = 0
    for (const group of greedy) {
      cuts[step] = true
      step += group.nodes.length
    }
    cuts[this.order.length] = true
    return cuts
  }

  private segmentsFrom(first: number, cuts: readonly boolean[]): Segment[] {
    const open = new OpenGroup()
    const found: Segment[] = []
    for (let end = first; end < this.order.length; ) {
      const node = this.order[end]!
      const axes = open.joinable(node)
      if (end > first && axes.length === 0) break
      open.push(node, axes)
      end++
      if (cuts[end]) found.push({ first, end, axes })
      if (axes.length === 0) break
    }
    return found.reverse()
  }

  private waysOf(segment: Segment): readonly Way[] {
    segment.ways ??= this.makeWays(segment)
    return segment.ways
  }

  private makeWays({ first, end, axes }: Segment): Way[] {
    const nodes = this.order.slice(first, end)
    const around = this.surroundings(first, end, nodes)
    const passing = this.passingBytes(first, end)
    const ways: Way[] = []
    for (const axis of axes.length ? axes : [undefined]) {
      const group = makeGroup(0, nodes, axis)
      const storage = storageOf([group], this.target, around)
      for (const { slicing, bytes } of candidates(storage, group)) {
        ways.push({
          group,
          slicing,
          bytes: bytes + passing,
          seconds: this.costs.group(group, slicing),
        })
      }
    }
    ways.sort((a, b) => a.seconds - b.seconds || a.bytes - b.bytes)
    return ways.filter((way, i) => ways.slice(0, i).every(({ bytes }) => bytes > way.bytes))
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
      readAfter: tensor => (this.lastRead.get(tensor) ?? -1) >= end,
    }
  }

  /** Bytes of tensors that live across the segment without being read in it. */
  private passingBytes(first: number, end: number): number {
    let bytes = 0
    const touched = new Set<Tensor>(
      this.order.slice(first, end).flatMap(({ inputs }) => inputs.map(({ tensor }) => tensor)),
    )
    for (const [tensor, step] of this.written) {
      if (step >= first) break
      if (
        (this.lastRead.get(tensor) ?? -1) >= end &&
        !touched.has(tensor) &&
        !this.bound.has(tensor)
      )
        bytes += aligned(tensorBytes(tensor))
    }
    return bytes
  }
}

/** Tensors that cross a position where groups may begin: a feature, what it is blended with and what is added to both. */
const mostCrossing = 3
/** A tensor that waits this many steps is a skip, whole whatever the groups. */
const longWait = 60
