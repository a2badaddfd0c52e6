/**
 * Brute force over plans: every way to cut a program's order into groups, every axis a group may be sliced along, every number of
 * slices, for each of its inner groups too. What lives when is told here, from region rules and the order of reads, by code that shares
 * nothing with the planner but the definition of a group (`OpenGroup`, `makeGroup`), the cost of commands and the packing of offsets.
 */
import { packBuffers } from '../../lib/planner/arena.js'
import type { CommandCosts } from '../../lib/planner/cost.js'
import { type Group, makeGroup, OpenGroup, type Slicing } from '../../lib/planner/group.js'
import { Heap } from '../../lib/planner/heap.js'
import type { Buffer } from '../../lib/planner/storage.js'
import type { Node, Program } from '../../lib/program/graph.js'
import { opSpec, type Target } from '../../lib/program/op.js'
import { type Region, regionVolume, wholeRegion } from '../../lib/program/region.js'
import { dtypeBytes, type Tensor } from '../../lib/program/tensor.js'

/** A group with its slices, and what it costs. */
export interface Choice {
  readonly first: number
  readonly end: number
  readonly group: Group
  readonly chunk: number
  readonly inner: readonly number[]
  /** Most bytes alive while it runs, all of the program's tensors counted. */
  readonly bytes: number
  readonly seconds: number
}

export interface BestPlan {
  readonly groups: readonly Group[]
  readonly slicings: readonly Slicing[]
  readonly buffers: readonly Buffer[]
  readonly offsets: readonly number[]
  /** Bytes of its packed arena. */
  readonly bytes: number
  readonly seconds: number
}

/** A buffer's share of a group's steps. */
interface Live {
  readonly tensors: Tensor[]
  readonly node?: Node
  readonly kind: 'whole' | 'slice' | 'inner' | 'scratch'
  readonly bytes: number
  start: number
  end: number
}

const lineBytes = 64
const aligned = (bytes: number): number => Math.ceil(bytes / lineBytes) * lineBytes

/** All plans of a program in its given order. */
export class PlanOracle {
  readonly choices: readonly (readonly Choice[])[]
  private readonly order: readonly Node[]
  private readonly bound: ReadonlySet<Tensor>
  private readonly written = new Map<Tensor, number>()
  private readonly reads = new Map<Tensor, number[]>()

  constructor(
    program: Program,
    private readonly target: Target,
    private readonly costs: CommandCosts,
  ) {
    this.order = program.nodes
    this.bound = new Set([
      ...Object.values(program.inputs),
      ...Object.values(program.outputs),
      ...program.weights,
    ])
    this.order.forEach((node, step) => {
      this.written.set(node.output, step)
      for (const { tensor } of node.inputs) {
        const known = this.reads.get(tensor)
        if (known) known.push(step)
        else this.reads.set(tensor, [step])
      }
    })
    this.choices = this.order.map((_, first) => [...this.choicesFrom(first)])
  }

  /** Least bytes alive at the worst step of any plan. */
  leastLive(): number {
    return this.shortest((before, { bytes }) => Math.max(before, bytes), 0)[0]!
  }

  /** The plan that slices nothing, one op a group: its seconds, and most bytes alive. */
  unsliced(): { bytes: number; seconds: number } {
    const whole = this.order.map(
      (_, first) =>
        this.choices[first]!.find(
          ({ end, group, chunk, inner }) =>
            end === first + 1 &&
            chunk === group.extent &&
            inner.every((part, i) => part === group.inner[i]!.extent),
        )!,
    )
    return {
      bytes: Math.max(...whole.map(({ bytes }) => bytes)),
      seconds: whole.reduce((sum, { seconds }) => sum + seconds, 0),
    }
  }

  /**
   * The fastest plan whose packed arena stays within `allowed` bytes; undefined where there is none. Plans are tried from the fastest on.
   * Of two choices for the same ops the one that is neither smaller nor faster is left out: it could help packing only by accident.
   * @throws Error after `mostPackings` plans whose bytes alive would fit and whose packing does not
   */
  best(allowed: number): BestPlan | undefined {
    const fitting = this.choices.map(list => list.filter(({ bytes }) => bytes <= allowed))
    const rest = this.shortest((before, { seconds }) => before + seconds, 0, fitting)
    if (!Number.isFinite(rest[0]!)) return undefined
    const queue = new Heap<{ at: number; spent: number; least: number; taken: Choice[] }>(
      (a, b) => a.least - b.least || b.at - a.at,
    )
    queue.push({ at: 0, spent: 0, least: rest[0]!, taken: [] })
    for (let packed = 0; ; ) {
      const plan = queue.pop()
      if (!plan) return undefined
      if (plan.at === this.order.length) {
        const found = this.pack(plan.taken, plan.spent)
        if (found.bytes <= allowed) return found
        if (++packed === mostPackings)
          throw new Error(`expected a packing within ${allowed} bytes in ${packed} plans`)
        continue
      }
      for (const choice of fitting[plan.at]!) {
        const spent = plan.spent + choice.seconds
        const least = spent + rest[choice.end]!
        if (Number.isFinite(least))
          queue.push({ at: choice.end, spent, least, taken: [...plan.taken, choice] })
      }
    }
  }

  /** For each position, the best that a path from it to the end reaches. */
  private shortest(
    add: (after: number, choice: Choice) => number,
    end: number,
    choices = this.choices,
  ): number[] {
    const least = new Array<number>(this.order.length + 1).fill(Number.POSITIVE_INFINITY)
    least[this.order.length] = end
    for (let at = this.order.length - 1; at >= 0; at--)
      for (const choice of choices[at]!)
        least[at] = Math.min(least[at]!, add(least[choice.end]!, choice))
    return least
  }

  private *choicesFrom(first: number): Generator<Choice> {
    const open = new OpenGroup()
    for (let end = first; end < this.order.length; ) {
      const node = this.order[end]!
      const axes = open.joinable(node)
      if (end > first && axes.length === 0) return
      open.push(node, axes)
      end++
      const nodes = this.order.slice(first, end)
      const found: Choice[] = []
      for (const axis of axes.length ? axes : [undefined]) {
        const group = makeGroup(0, nodes, axis)
        for (const chunk of chunks(group.extent)) {
          for (const inner of combinations(group.inner.map(({ extent }) => chunks(extent)))) {
            const bytes = this.peak(first, end, group, chunk, inner)
            const seconds = this.costs.group(group, { chunk, inner })
            found.push({ first, end, group, chunk, inner, bytes, seconds })
          }
        }
      }
      found.sort((a, b) => a.seconds - b.seconds || a.bytes - b.bytes)
      let least = Number.POSITIVE_INFINITY
      for (const choice of found) {
        if (choice.bytes >= least) continue
        least = Math.min(least, choice.bytes)
        yield choice
      }
      if (axes.length === 0) return
    }
  }

  private peak(
    first: number,
    end: number,
    group: Group,
    chunk: number,
    inner: readonly number[],
  ): number {
    const live = new Array<number>(end - first).fill(0)
    for (const { bytes, start, end: stop } of this.alive(first, end, group, chunk, inner))
      for (let step = start; step < stop; step++) live[step - first]! += aligned(bytes)
    return Math.max(...live)
  }

  /**
   * What is alive while steps [first, end) run as a group. `merged` tells whose memory a tensor took, here and in the groups before.
   */
  private alive(
    first: number,
    end: number,
    group: Group,
    chunk: number,
    inner: readonly number[],
    merged = new Map<Tensor, Tensor>(),
  ): Live[] {
    const looped = chunk < group.extent
    const runs = group.inner.map((run, i) => ({
      start: first + run.first,
      end: first + run.last + 1,
      looped: inner[i]! < run.extent,
    }))
    const runAt = (step: number) => runs.findIndex(run => run.start <= step && step < run.end)
    /** -2: whole; -1: a slice of it; otherwise a slice inside that inner group. */
    const home = (tensor: Tensor): number => {
      const at = this.written.get(tensor)!
      const uses = this.reads.get(tensor) ?? []
      if (at < first || at >= end || uses.some(step => step < first || step >= end)) return -2
      const run = runAt(at)
      return run >= 0 && uses.every(step => runAt(step) === run) ? run : -1
    }
    const live = new Map<Tensor, Live>()
    for (const [tensor, at] of this.written) {
      const uses = this.reads.get(tensor) ?? []
      const last = Math.max(at, ...uses)
      if (this.bound.has(tensor) || last < first || at >= end) continue
      const where = home(tensor)
      let start = Math.max(at, first)
      let stop = Math.min(last + 1, end)
      if (where === -2 && looped) [start, stop] = [first, end]
      runs.forEach((run, i) => {
        if (!run.looped || where === i || start >= run.end || stop <= run.start) return
        start = Math.min(start, run.start)
        stop = Math.max(stop, run.end)
      })
      const region = regionOf(
        tensor,
        where === -2 ? undefined : group.axis,
        [0, chunk],
        where < 0 ? undefined : group.inner[where]!.axis,
        where < 0 ? undefined : [0, inner[where]!],
      )
      const bytes = regionVolume(region) * dtypeBytes[tensor.dtype]
      const over =
        at >= first ? this.replaced(this.order[at]!, at, first, group, chunk, inner) : undefined
      const taken = over && home(over) === where ? over : tensor
      const root = merged.get(taken) ?? taken
      merged.set(tensor, root)
      const kind = where === -2 ? 'whole' : where === -1 ? 'slice' : 'inner'
      const known = live.get(root)
      if (!known) {
        const tensors = root === tensor ? [tensor] : [root, tensor]
        live.set(root, { tensors, kind, bytes, start, end: stop })
        continue
      }
      known.tensors.push(tensor)
      known.start = Math.min(known.start, start)
      known.end = Math.max(known.end, stop)
    }
    const scratches: Live[] = []
    group.nodes.forEach((node, i) => {
      const at = runOf(group, i)
      const region = regionOf(
        node.output,
        group.axis,
        [0, chunk],
        at < 0 ? undefined : group.inner[at]!.axis,
        at < 0 ? undefined : [0, inner[at]!],
      )
      const scratch = opSpec(node.op).scratch?.(node, node.output, region, this.target)
      const bytes = (scratch?.bytesPerThread ?? 0) * this.target.threads
      const start = first + i
      if (bytes > 0)
        scratches.push({ tensors: [], node, kind: 'scratch', bytes, start, end: start + 1 })
    })
    return [...live.values(), ...scratches]
  }

  /** The input whose memory a node's output takes: read last here, element by element, by no other slice. */
  private replaced(
    node: Node,
    step: number,
    first: number,
    group: Group,
    chunk: number,
    inner: readonly number[],
  ): Tensor | undefined {
    for (const role of opSpec(node.op).inPlace ?? []) {
      const operands = node.inputs.filter(input => input.role === role)
      const tensor = operands[0]?.tensor
      if (!tensor || operands.length > 1 || tensor.kind !== 'value' || this.bound.has(tensor))
        continue
      if (node.inputs.filter(input => input.tensor === tensor).length > 1) continue
      const alike =
        tensor.dtype === node.output.dtype && tensor.shape.join() === node.output.shape.join()
      const uses = this.reads.get(tensor) ?? []
      if (!alike || Math.max(...uses) !== step) continue
      const run = runOf(group, step - first)
      const apart = uses.every(use => {
        if (use < first) return true
        const reader = this.order[use]!
        if (chunk < group.extent && !ownSlices(reader, tensor, group.axis!, group.extent, chunk))
          return false
        const loop = run < 0 ? undefined : group.inner[run]!
        if (!loop || inner[run]! === loop.extent || runOf(group, use - first) !== run) return true
        return ownSlices(reader, tensor, loop.axis, loop.extent, inner[run]!)
      })
      if (apart) return tensor
    }
    return undefined
  }

  private pack(choices: readonly Choice[], seconds: number): BestPlan {
    const parts: Live[] = []
    const lasting = new Map<Tensor, Live>()
    const merged = new Map<Tensor, Tensor>()
    for (const { first, end, group, chunk, inner } of choices) {
      for (const part of this.alive(first, end, group, chunk, inner, merged)) {
        const root = part.tensors[0]!
        const known = part.kind === 'whole' ? lasting.get(root) : undefined
        if (known) {
          known.start = Math.min(known.start, part.start)
          known.end = Math.max(known.end, part.end)
          for (const tensor of part.tensors)
            if (!known.tensors.includes(tensor)) known.tensors.push(tensor)
          continue
        }
        parts.push(part)
        if (part.kind === 'whole') lasting.set(root, part)
      }
    }
    const buffers = parts.map((part, id) => ({ ...part, id, name: part.tensors[0]?.name ?? '' }))
    const live = new Array<number>(this.order.length).fill(0)
    for (const { bytes, start, end } of buffers)
      for (let step = start; step < end; step++) live[step]! += aligned(bytes)
    return {
      groups: choices.map(({ group }, id) => ({ ...group, id })),
      slicings: choices.map(({ chunk, inner }) => ({ chunk, inner })),
      buffers,
      ...packBuffers(buffers, Math.max(...live)),
      seconds,
    }
  }
}

const mostPackings = 400

/** Whether each slice reads of a tensor only what lies in the same slice. */
function ownSlices(
  reader: Node,
  tensor: Tensor,
  axis: number,
  extent: number,
  chunk: number,
): boolean {
  return parts(extent, chunk).every(range => {
    const wanted = regionOf(reader.output, axis, range, undefined, undefined)
    const regions = opSpec(reader.op).regions(reader, reader.output, wanted)
    return reader.inputs.every(
      (input, i) =>
        input.tensor !== tensor ||
        (regions[i]![axis]![0] >= range[0] && regions[i]![axis]![1] <= range[1]),
    )
  })
}

const runOf = (group: Group, index: number): number =>
  group.inner.findIndex(({ first, last }) => first <= index && index <= last)

/** Slice lengths worth trying: one for each number of slices. */
function chunks(extent: number): number[] {
  return [...new Set(Array.from({ length: extent }, (_, i) => Math.ceil(extent / (i + 1))))]
}

function parts(extent: number, chunk: number): (readonly [number, number])[] {
  return Array.from(
    { length: Math.ceil(extent / chunk) },
    (_, i) => [i * chunk, Math.min(extent, (i + 1) * chunk)] as const,
  )
}

function* combinations(lists: readonly (readonly number[])[]): Generator<number[]> {
  if (lists.length === 0) {
    yield []
    return
  }
  for (const head of lists[0]!)
    for (const tail of combinations(lists.slice(1))) yield [head, ...tail]
}

function regionOf(
  tensor: Tensor,
  axis: number | undefined,
  range: readonly [number, number],
  innerAxis: number | undefined,
  innerRange: readonly [number, number] | undefined,
): Region {
  return wholeRegion(tensor.shape).map((whole, at) =>
    at === axis ? range : at === innerAxis ? innerRange! : whole,
  )
}
