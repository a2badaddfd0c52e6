/**
 * The floor of a network's memory: the largest, over its points, of the tensors that must live there. Computed from region rules and the
 * order of reads alone; nothing of the planner's groups, storage or search is used, so that it can be held against them.
 *
 * The model: ops run in runs of consecutive ops, slice by slice along one axis (frames, or rows), each slice as thin as can be. Inside a
 * run an op may read what the run writes only near its own slice (a convolution's halo, kept as a rolling window), so a norm over the
 * video ends every run, a norm over frames every run of rows. What a run reads or leaves behind is whole. Of a slice of frames the same is
 * asked again: its ops run in runs of rows of one frame. Then at a run must live
 *   what passes by it, what it reads far from its slice, and the larger of what dies in it and what it leaves (written over what dies).
 * Slices themselves count as nothing. The floor is the least, over all ways to cut the order into runs, of the largest run.
 * A tensor that can be made again from what lives then anyway does not count while it waits, as far as a share of the operations allows.
 */
import { expandNorms } from '../lib/planner/expand.js'
import { narrowActivations } from '../lib/planner/narrow.js'
import type { Node, Program } from '../lib/program/graph.js'
import { opSpec } from '../lib/program/op.js'
import { wholeRegion, withAxis } from '../lib/program/region.js'
import { type DType, type Tensor, tensorBytes } from '../lib/program/tensor.js'

export interface Floor {
  readonly bytes: number
  /** First and last op of the run that needs them. */
  readonly from: string
  readonly to: string
  /** Tensors that live there, largest first. */
  readonly tensors: readonly { readonly name: string; readonly bytes: number }[]
  /** Tensors made again, and their share of the operations. */
  readonly again: readonly string[]
  readonly share: number
}

/** A tensor from the step that writes it to the last that reads it. */
interface Life {
  readonly tensor: Tensor
  readonly bytes: number
  readonly from: number
  readonly to: number
}

/** A wait of a tensor, and what it costs to make the tensor again at its end. */
interface Wait {
  readonly tensor: Tensor
  readonly before: number
  readonly after: number
  readonly flops: number
}

const frames = 0
const rows = 1
/** Most rows or frames that a convolution reads for one of its own, through an upsampling or not. */
const widestHalo = 4
/** Ops in a row that are run again for one tensor. */
const longestChain = 3

/** @param share most operations to spend on making tensors again, as a share of the program's */
export function floorOf(program: Program, activations: DType, share: number): Floor {
  return new Floors(narrowActivations(expandNorms(program), activations), share).find()
}

class Floors {
  private readonly nodes: readonly Node[]
  private readonly step = new Map<Node, number>()
  private readonly writer = new Map<Tensor, Node>()
  private readonly uses = new Map<Tensor, number[]>()
  private readonly flops: number
  /** For each op, where the longest run along frames and along rows that begins with it ends. */
  private readonly ends: readonly (readonly [number, number])[]
  private lives: Life[] = []
  private alive: Life[][] = []
  private born: Life[][] = []
  private readonly frameCount: number

  constructor(
    program: Program,
    private readonly share: number,
  ) {
    const bound = new Set(Object.values(program.outputs))
    const fromFeature = new Set<Tensor>()
    // What depends on no feature (projections of the text and of the time) can stand anywhere, and is small.
    const ordered = program.nodes.filter(({ inputs, output }) => {
      const feature = output.shape.length === 4 || inputs.some(i => fromFeature.has(i.tensor))
      if (feature) fromFeature.add(output)
      return feature
    })
    this.nodes = advance(ordered)
    this.flops = program.nodes.reduce((sum, node) => sum + flopsOf(node), 0)
    this.nodes.forEach((node, step) => {
      this.step.set(node, step)
      if (!bound.has(node.output)) this.writer.set(node.output, node)
      for (const tensor of new Set(node.inputs.map(input => input.tensor)))
        if (this.writer.has(tensor)) this.uses.set(tensor, [...(this.uses.get(tensor) ?? []), step])
    })
    this.frameCount = Math.max(1, ...this.nodes.map(({ output }) => output.shape[0]!))
    this.ends = this.nodes.map((_, first) => [this.endOf(first, frames), this.endOf(first, rows)])
  }

  find(): Floor {
    const chosen: Wait[] = []
    let spent = 0
    for (;;) {
      this.setLives(chosen)
      const floor = this.leastLargest()
      const affordable = this.waitsAcross(floor.first, floor.end, chosen).filter(
        ({ flops }) => spent + flops <= this.share * this.flops,
      )
      const cheapest = affordable.reduce<Wait | undefined>(
        (best, wait) => (!best || perByte(wait) < perByte(best) ? wait : best),
        undefined,
      )
      if (!cheapest) {
        const living = this.lives
          .filter(({ from, to }) => from < floor.end && to >= floor.first)
          .filter(({ from, to }) => from < floor.first || to >= floor.end)
          .sort((a, b) => b.bytes - a.bytes)
        return {
          bytes: floor.bytes,
          from: this.nodes[floor.first]!.name,
          to: this.nodes[floor.end - 1]!.name,
          tensors: living.map(({ tensor, bytes }) => ({ name: tensor.name, bytes })),
          again: chosen.map(({ tensor }) => tensor.name),
          share: spent / this.flops,
        }
      }
      chosen.push(cheapest)
      spent += cheapest.flops
    }
  }

  /** The way to cut the order into runs whose largest run is least: that run. */
  private leastLargest(): { first: number; end: number; bytes: number } {
    const count = this.nodes.length
    const best = new Array<number>(count + 1).fill(Number.POSITIVE_INFINITY)
    const worst = new Array<{ first: number; end: number; bytes: number }>(count + 1)
    best[0] = 0
    worst[0] = { first: 0, end: 1, bytes: 0 }
    for (let first = 0; first < count; first++) {
      for (const axis of [frames, rows] as const) {
        for (let end = first + 1; end <= this.ends[first]![axis]; end++) {
          const limit = best[end]!
          if (best[first]! >= limit) break
          const bytes = this.run(first, end, axis, limit)
          const largest = Math.max(best[first]!, bytes)
          if (largest >= limit) continue
          best[end] = largest
          worst[end] = bytes > best[first]! ? { first, end, bytes } : worst[first]!
        }
      }
    }
    return worst[count]!
  }

  /** Bytes that must live at a run; the search for the best way inside a frame ends at `limit`. */
  private run(first: number, end: number, axis: number, limit: number): number {
    const slices = axis === frames ? this.frameCount : 1
    const others = (slices - 1) / slices
    let passing = 0
    let far = 0
    let dying = 0
    let left = 0
    for (const life of this.alive[first]!) {
      if (life.to >= end) passing += life.bytes
      else if (this.readFar(life.tensor, first, end, axis)) far += life.bytes
      else dying += life.bytes
    }
    for (let at = first; at < end; at++)
      for (const life of this.born[at]!) if (life.to >= end) left += life.bytes
    if (slices === 1) return passing + far + Math.max(dying, left)
    const held = passing + far + others * Math.max(dying, left)
    return held >= limit ? held : held + this.frame(first, end, limit - held)
  }

  /** As `leastLargest`, for one frame of the ops of a run of frames, in runs of rows. */
  private frame(first: number, end: number, limit: number): number {
    const best = new Array<number>(end - first + 1).fill(limit)
    best[0] = 0
    for (let from = first; from < end; from++) {
      const before = best[from - first]!
      if (before >= limit) continue
      for (let to = from + 1; to <= Math.min(end, this.ends[from]![rows]); to++) {
        if (before >= best[to - first]!) continue
        let passing = 0
        let dying = 0
        let left = 0
        for (const life of this.alive[from]!) {
          // What passes by all frames was counted whole.
          if (life.from < first && life.to >= end) continue
          if (life.to >= to) passing += life.bytes
          else if (this.readFar(life.tensor, from, to, rows)) passing += life.bytes
          else dying += life.bytes
        }
        for (let at = from; at < to; at++)
          for (const life of this.born[at]!) if (life.to >= to) left += life.bytes
        const bytes = (passing + Math.max(dying, left)) / this.frameCount
        best[to - first] = Math.min(best[to - first]!, Math.max(before, bytes))
      }
    }
    return best[end - first]!
  }

  /** Where the longest run from `first` along an axis ends: one op at least. */
  private endOf(first: number, axis: number): number {
    const written = new Set<Tensor>()
    for (let at = first; at < this.nodes.length; at++) {
      const node = this.nodes[at]!
      const able = sliceable(node, axis)
      const near = node.inputs.every(
        ({ tensor }, input) => !written.has(tensor) || readsNear(node, input, axis),
      )
      if (!able || !near) return Math.max(at, first + 1)
      written.add(node.output)
    }
    return this.nodes.length
  }

  private readFar(tensor: Tensor, first: number, end: number, axis: number): boolean {
    return this.uses.get(tensor)!.some(step => {
      if (step < first || step >= end) return false
      const node = this.nodes[step]!
      return node.inputs.some((input, i) => input.tensor === tensor && !readsNear(node, i, axis))
    })
  }

  private setLives(chosen: readonly Wait[]): void {
    const gaps = new Map(chosen.map(wait => [wait.tensor, wait]))
    this.lives = []
    for (const [tensor, node] of this.writer) {
      const uses = this.uses.get(tensor)
      if (!uses) continue
      const bytes = tensorBytes(tensor)
      const [from, to] = [this.step.get(node)!, uses.at(-1)!]
      const gap = gaps.get(tensor)
      if (!gap) this.lives.push({ tensor, bytes, from, to })
      else {
        this.lives.push({ tensor, bytes, from, to: gap.before })
        this.lives.push({ tensor, bytes, from: gap.after, to })
      }
    }
    this.alive = this.nodes.map((_, at) => this.lives.filter(l => l.from < at && l.to >= at))
    this.born = this.nodes.map((_, at) => this.lives.filter(({ from }) => from === at))
  }

  /** Waits across a run of tensors that can be made again from what lives at their end. */
  private waitsAcross(first: number, end: number, chosen: readonly Wait[]): Wait[] {
    const gone = new Set(chosen.map(({ tensor }) => tensor))
    const found: Wait[] = []
    for (const { tensor, from, to } of this.lives) {
      if (gone.has(tensor) || from >= end || to < first) continue
      const steps = [from, ...this.uses.get(tensor)!]
      for (let k = 1; k < steps.length; k++) {
        const [before, after] = [steps[k - 1]!, steps[k]!]
        if (before >= end || after < first || (before >= first && after < end)) continue
        const flops = this.flopsAgain(tensor, steps.at(-1)!, gone, longestChain)
        if (flops !== undefined) found.push({ tensor, before, after, flops })
      }
    }
    return found
  }

  /** Operations that make a tensor again at a step, from what lives there; undefined where too much is gone. */
  private flopsAgain(
    tensor: Tensor,
    at: number,
    gone: ReadonlySet<Tensor>,
    chain: number,
  ): number | undefined {
    const node = this.writer.get(tensor)!
    if (chain === 0 || node.op === 'norm_partials' || node.op === 'norm_fold') return undefined
    let flops = flopsOf(node)
    for (const { tensor: read } of node.inputs) {
      const last = this.uses.get(read)?.at(-1)
      if (!this.writer.has(read) || (!gone.has(read) && last! >= at)) continue
      // Statistics are small and stay.
      if (this.writer.get(read)!.op === 'norm_fold') continue
      const before = this.flopsAgain(read, at, gone, chain - 1)
      if (before === undefined) return undefined
      flops += before
    }
    return flops
  }
}

/** Moves the last reader of a tensor up behind the reader before it, where nothing grows by that: a shortcut beside the first convolution. */
function advance(ordered: readonly Node[]): Node[] {
  const nodes = [...ordered]
  for (const node of ordered) {
    const at = nodes.indexOf(node)
    const reads = (other: Node, tensor: Tensor) => other.inputs.some(i => i.tensor === tensor)
    for (const { tensor } of node.inputs) {
      if (tensorBytes(node.output) > tensorBytes(tensor) || tensor.kind !== 'value') continue
      if (nodes.slice(at + 1).some(other => reads(other, tensor))) continue
      const before = nodes.findLastIndex((other, i) => i < at && reads(other, tensor))
      const ready = nodes.findLastIndex(({ output }, i) => i < at && reads(node, output))
      if (before < 0 || ready > before || before + 1 >= at) continue
      nodes.splice(at, 1)
      nodes.splice(before + 1, 0, node)
      break
    }
  }
  return nodes
}

const perByte = ({ flops, tensor }: Wait): number => flops / tensorBytes(tensor)

function flopsOf(node: Node): number {
  return opSpec(node.op).cost(node, node.output, wholeRegion(node.output.shape)).flops
}

function sliceable({ output }: Node, axis: number): boolean {
  const statistics = axis === frames && output.shape.length === 3
  return (output.shape.length === 4 || statistics) && output.shape[axis]! > 1
}

const nearness = new WeakMap<Node, Map<number, boolean>>()

/** Whether an op reads an operand only near its own slice. */
function readsNear(node: Node, input: number, axis: number): boolean {
  const known = nearness.get(node) ?? new Map<number, boolean>()
  nearness.set(node, known)
  const key = 2 * input + axis
  const before = known.get(key)
  if (before !== undefined) return before
  const near = probe(node, input, axis)
  known.set(key, near)
  return near
}

function probe(node: Node, input: number, axis: number): boolean {
  const extent = node.output.shape[axis]!
  const available = node.inputs[input]!.tensor.shape[axis]
  if (available === undefined || (available === 1 && extent > 1)) return false
  const reads = [0, Math.floor(extent / 2), extent - 1].map(start => {
    const wanted = withAxis(wholeRegion(node.output.shape), axis, [start, start + 1])
    const [from, to] = opSpec(node.op).regions(node, node.output, wanted)[input]![axis]!
    return to - from
  })
  // The first slice meets only half of a halo.
  return Math.max(...reads) <= widestHalo && (reads[0]! < available || available <= 2)
}
