import type { Node, Program } from '../program/graph.js'
import { opSpec } from '../program/op.js'
import { wholeRegion } from '../program/region.js'
import { type Tensor, tensorBytes } from '../program/tensor.js'
import { statistics } from './expand.js'

/** A tensor that waits long for its last readers and is cheap to make again: most often a skip. */
export interface Recomputable {
  readonly tensor: Tensor
  readonly producer: Node
  /** Readers after the long wait, in order; the producer runs again before the first. */
  readonly late: readonly Node[]
  /** Bytes that need not wait. */
  readonly bytes: number
  /** Operations spent again. */
  readonly flops: number
}

/**
 * Tensors whose producer can run again when they are read late, because all that it reads is alive then anyway: program inputs,
 * weights, and tensors that wait at least as long. In a UNet: the first convolution's output and the downsamplings'.
 * Cheapest first, by operations per byte. At most `share` of the program's operations together.
 */
export function recomputable(program: Program, share: number): Recomputable[] {
  const step = new Map(program.nodes.map((node, i) => [node, i]))
  const readers = new Map<Tensor, Node[]>()
  for (const node of program.nodes)
    for (const tensor of new Set(node.inputs.map(input => input.tensor)))
      readers.set(tensor, [...(readers.get(tensor) ?? []), node])
  const outputs = new Set(Object.values(program.outputs))
  const lastRead = (tensor: Tensor) =>
    Math.max(...(readers.get(tensor) ?? []).map(reader => step.get(reader)!))
  const flopsOf = (node: Node) =>
    opSpec(node.op).cost(node, node.output, wholeRegion(node.output.shape)).flops
  const total = program.nodes.reduce((sum, node) => sum + flopsOf(node), 0)

  const found: Recomputable[] = []
  for (const producer of program.nodes) {
    const tensor = producer.output
    const uses = [tensor, ...(readers.get(tensor) ?? [])].map((use, i) =>
      i === 0 ? step.get(producer)! : step.get(use as Node)!,
    )
    if (outputs.has(tensor) || uses.length < 2 || statistics.has(producer.op)) continue
    let widest = 1
    for (let i = 2; i < uses.length; i++)
      if (uses[i]! - uses[i - 1]! > uses[widest]! - uses[widest - 1]!) widest = i
    const wait = uses[widest]! - uses[widest - 1]!
    if (wait < shortestWait) continue
    const readAgain = uses[uses.length - 1]!
    const alive = producer.inputs.every(
      ({ tensor: read }) => read.kind !== 'value' || lastRead(read) >= readAgain,
    )
    if (!alive) continue
    found.push({
      tensor,
      producer,
      late: readers.get(tensor)!.slice(widest - 1),
      bytes: tensorBytes(tensor),
      flops: flopsOf(producer),
    })
  }
  found.sort((a, b) => a.flops / a.bytes - b.flops / b.bytes || a.tensor.id - b.tensor.id)
  let spent = 0
  return found.filter(({ flops }) => {
    if (spent + flops > share * total) return false
    spent += flops
    return true
  })
}

/** Steps between two uses under which a tensor is not worth making again. */
const shortestWait = 24

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
