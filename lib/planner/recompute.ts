import type { Node, Program } from '../program/graph.js'
import { flopsOf } from '../program/op.js'
import { type Tensor, tensorBytes } from '../program/tensor.js'
import { readersOf, shortestWait, waits } from './waits.js'

/** A tensor that waits for its last readers and can be made again for them. */
export interface Recomputable {
  readonly tensor: Tensor
  readonly producer: Node
  /** The node from which on it waits: the reader before the wait, or the producer; and the readers after it, in order. */
  readonly early: Node
  readonly late: readonly Node[]
  /** Bytes that need not wait. */
  readonly bytes: number
  /** Operations spent again. */
  readonly flops: number
}

/**
 * Tensors whose producer can run again when they are read late, because all that it reads is alive then anyway (program inputs,
 * weights, tensors that wait at least as long) or small. Two kinds:
 * - what waits long: in a UNet the first convolution's output and the downsamplings', read again as skips;
 * - what waits behind a barrier of statistics: of a temporal residual block the first convolution's output, which must be whole only
 *   because the norm behind it spans all frames. Made once for the statistics, slice by slice, and once more for its reader.
 *
 * Cheapest first, by operations per byte.
 */
export function recomputable(program: Program): Recomputable[] {
  const step = new Map(program.nodes.map((node, i) => [node, i]))
  const readers = readersOf(program)
  const lastRead = (tensor: Tensor) =>
    Math.max(...(readers.get(tensor) ?? []).map(reader => step.get(reader)!))

  const found: Recomputable[] = []
  for (const { tensor, producer, uses, widest, steps } of waits(program, readers)) {
    const late = uses.slice(widest)
    const barrier = late.length === 1 && widest === 2 && uses[1]!.op === 'norm_partials'
    if (!barrier && steps < shortestWait) continue
    const readAgain = step.get(late[late.length - 1]!)!
    const alive = producer.inputs.every(
      ({ tensor: read }) =>
        read.kind !== 'value' || read.shape.length < 4 || lastRead(read) >= readAgain,
    )
    if (!alive) continue
    found.push({
      tensor,
      producer,
      early: barrier ? producer : uses[widest - 1]!,
      late,
      bytes: tensorBytes(tensor),
      flops: flopsOf(producer),
    })
  }
  return found.sort((a, b) => a.flops / a.bytes - b.flops / b.bytes || a.tensor.id - b.tensor.id)
}

/** The program with the producers of `chosen` run again before their late readers. */
export function recompute(program: Program, chosen: readonly Recomputable[]): Program {
  if (chosen.length === 0) return program
  let nextId = 1 + Math.max(...program.nodes.map(node => node.output.id))
  const before = new Map<Node, Node[]>()
  const replaced = new Map<Node, Map<Tensor, Tensor>>()
  for (const { tensor, producer, late } of chosen) {
    const output: Tensor = { ...tensor, id: nextId++, name: `${tensor.name} (again)` }
    const copy: Node = { ...producer, name: `${producer.name} (again)`, output }
    before.set(late[0]!, [...(before.get(late[0]!) ?? []), copy])
    for (const reader of late)
      replaced.set(reader, (replaced.get(reader) ?? new Map()).set(tensor, output))
  }
  const nodes = program.nodes.flatMap(node => {
    const swap = replaced.get(node)
    const rewired = swap
      ? {
          ...node,
          inputs: node.inputs.map(({ role, tensor }) => ({
            role,
            tensor: swap.get(tensor) ?? tensor,
          })),
        }
      : node
    return [...(before.get(node) ?? []), rewired]
  })
  return { ...program, nodes: nodes.map((node, id) => ({ ...node, id })) }
}
