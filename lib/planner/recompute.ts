import { type Node, type Program, reading } from '../program/graph.js'
import { flopsOf } from '../program/op.js'
import { type Tensor, tensorBytes } from '../program/tensor.js'
import { followsSource } from './order.js'
import { readersOf, shortestWait, waits } from './waits.js'

/** A tensor that waits for its last readers and can be made again for them. */
export interface Recomputable {
  readonly tensor: Tensor
  /** What runs again, in order: the producer, after the norm before it where that is applied apart. */
  readonly makers: readonly Node[]
  /** The node from which on it waits: the reader before the wait, or the producer; and the readers after it, in order. */
  readonly early: Node
  readonly late: readonly Node[]
  /** The first of them; where that is a norm applied apart, the last reader of what it writes, over the tensor if it can. */
  readonly until: Node
  /** Bytes that need not wait. */
  readonly bytes: number
  /** Operations spent again. */
  readonly flops: number
}

/**
 * Tensors whose producer can run again when they are read late, because all that it reads is alive then anyway (program inputs,
 * weights, tensors that wait at least as long) or small, or is a norm of what is. Two kinds:
 * - what waits long: in a UNet the first convolution's output and the downsamplings', read again as skips;
 * - what waits behind a barrier of statistics: of a temporal residual block the first convolution's output, which must be whole only
 *   because the norm behind it spans all frames. Made once for the statistics, slice by slice, and once more for its reader.
 *
 * Cheapest first, by operations per byte.
 */
export function recomputable(program: Program): Recomputable[] {
  const step = new Map(program.nodes.map((node, i) => [node, i]))
  const producers = new Map(program.nodes.map(node => [node.output, node]))
  const readers = readersOf(program)
  const lastRead = lastReads(step, readers)
  /** What a node reads that is gone at a step. */
  const goneAt = ({ inputs }: Node, at: number): Tensor[] =>
    inputs
      .map(({ tensor }) => tensor)
      .filter(read => read.kind === 'value' && read.shape.length === 4 && lastRead(read) < at)

  const found: Recomputable[] = []
  for (const { tensor, producer, uses, widest, steps } of waits(program, readers)) {
    const late = uses.slice(widest)
    const barrier = late.length === 1 && widest === 2 && uses[1]!.op === 'norm_partials'
    if (!barrier && steps < shortestWait) continue
    const readAgain = step.get(late[late.length - 1]!)!
    const before = goneAt(producer, readAgain).map(read => producers.get(read)!)
    const isNorm = before.every(
      node => node.op === 'affine' && goneAt(node, readAgain).length === 0,
    )
    if (!isNorm) continue
    const makers = [...before, producer]
    const [first] = late
    found.push({
      tensor,
      makers,
      early: barrier ? producer : uses[widest - 1]!,
      late,
      until: (first!.op === 'affine' && readers.get(first!.output)?.at(-1)) || first!,
      bytes: tensorBytes(tensor),
      flops: makers.reduce((sum, node) => sum + flopsOf(node), 0),
    })
  }
  return found.sort(byPrice)
}

/** A tensor that need never be whole: it is made once for its statistics, and again, some rows at a time, for each other reader. */
export interface Renewable {
  readonly tensor: Tensor
  /** One for each reader; where that is a shortcut, for what reads the shortcut: both are made there. */
  readonly parts: readonly Recomputable[]
  /** Bytes that need not wait, less those that must wait for it. */
  readonly bytes: number
  /** Operations spent again. */
  readonly flops: number
}

/**
 * Convolutions' outputs, over space or time, that are whole only because a norm sums over all of them. In a decoder each residual block's two
 * tensors stand side by side at full resolution; made again band by band with the rows around, neither does. Cheapest first, by operations
 * per byte.
 */
export function renewable(program: Program): Renewable[] {
  const step = new Map(program.nodes.map((node, i) => [node, i]))
  const readers = readersOf(program)
  const lastRead = lastReads(step, readers)
  const found: Renewable[] = []
  for (const { tensor, producer, uses } of waits(program, readers)) {
    const [, first, ...late] = uses
    const convolves = producer.op === 'conv2d' || producer.op === 'conv_time'
    if (!convolves || first!.op !== 'norm_partials' || late.length === 0) continue
    const targets = late.map(reader => {
      const [next, ...others] = readers.get(reader.output) ?? []
      return followsSource(reader) && next && others.length === 0
        ? { tensor: reader.output, makers: [producer, reader], until: next }
        : { tensor, makers: [producer], until: reader }
    })
    const last = Math.max(...targets.map(({ until }) => step.get(until)!))
    const waiting = producer.inputs
      .filter(({ tensor: read }) => read.kind === 'value' && lastRead(read) < last)
      .reduce((sum, { tensor: read }) => sum + tensorBytes(read), 0)
    const bytes = tensorBytes(tensor) - waiting
    if (bytes <= 0) continue
    const own = flopsOf(producer)
    const parts = targets.map((target): Recomputable => {
      return { ...target, early: producer, late: [target.until], bytes, flops: own }
    })
    found.push({ tensor, parts, bytes, flops: own * late.length })
  }
  return found.sort(byPrice)
}

/** The step of each tensor's last reader. */
function lastReads(
  step: ReadonlyMap<Node, number>,
  readers: ReadonlyMap<Tensor, readonly Node[]>,
): (tensor: Tensor) => number {
  return tensor => Math.max(...(readers.get(tensor) ?? []).map(reader => step.get(reader)!))
}

/** Operations per byte. */
function byPrice(
  a: Pick<Renewable, 'flops' | 'bytes' | 'tensor'>,
  b: Pick<Renewable, 'flops' | 'bytes' | 'tensor'>,
): number {
  return a.flops / a.bytes - b.flops / b.bytes || a.tensor.id - b.tensor.id
}

/** A program that makes tensors again, with what each of these is a copy of. */
export interface Recomputed {
  readonly program: Program
  readonly again: ReadonlyMap<Tensor, Tensor>
}

/** The program with the makers of `chosen` run again before their late readers. */
export function recompute(program: Program, chosen: readonly Recomputable[]): Recomputed {
  const all = new Map<Tensor, Tensor>()
  if (chosen.length === 0) return { program, again: all }
  let nextId = 1 + Math.max(...program.nodes.map(node => node.output.id))
  const before = new Map<Node, Node[]>()
  const replaced = new Map<Node, Map<Tensor, Tensor>>()
  for (const { tensor, makers, late } of chosen) {
    const again = new Map<Tensor, Tensor>()
    const copies = makers.map(node => {
      const output: Tensor = { ...node.output, id: nextId++, name: `${node.output.name} (again)` }
      const copy: Node = { ...reading(node, again), name: `${node.name} (again)`, output }
      again.set(node.output, output)
      all.set(output, node.output)
      return copy
    })
    before.set(late[0]!, [...(before.get(late[0]!) ?? []), ...copies])
    for (const reader of late)
      replaced.set(reader, (replaced.get(reader) ?? new Map()).set(tensor, again.get(tensor)!))
  }
  const nodes = program.nodes.flatMap(node => {
    const swap = replaced.get(node)
    return [...(before.get(node) ?? []), swap ? reading(node, swap) : node]
  })
  return { program: { ...program, nodes: nodes.map((node, id) => ({ ...node, id })) }, again: all }
}
