import type { Node, Program } from '../program/graph.js'
import type { Tensor } from '../program/tensor.js'
import { statistics } from './expand.js'

/** A feature with its longest wait between two uses. */
export interface Wait {
  readonly tensor: Tensor
  readonly producer: Node
  /** The producer, then its readers, in order. */
  readonly uses: readonly Node[]
  /** Index of the use that ends the wait. */
  readonly widest: number
  /** Steps from the use before. */
  readonly steps: number
}

/** Steps between two uses under which a tensor is not worth making again or moving. */
export const shortestWait = 24

/** Nodes that read each tensor, in order. */
export function readersOf(program: Program): Map<Tensor, Node[]> {
  const readers = new Map<Tensor, Node[]>()
  for (const node of program.nodes)
    for (const tensor of new Set(node.inputs.map(input => input.tensor)))
      readers.set(tensor, [...(readers.get(tensor) ?? []), node])
  return readers
}

/** Features that are read, in the order in which they are written: no outputs of the program, no statistics. */
export function waits(program: Program, readers = readersOf(program)): Wait[] {
  const step = new Map(program.nodes.map((node, i) => [node, i]))
  const outputs = new Set(Object.values(program.outputs))
  const found: Wait[] = []
  for (const producer of program.nodes) {
    const tensor = producer.output
    if (outputs.has(tensor) || statistics.has(producer.op) || tensor.shape.length < 4) continue
    const uses = [producer, ...(readers.get(tensor) ?? [])]
    if (uses.length < 2) continue
    const wait = (i: number) => step.get(uses[i]!)! - step.get(uses[i - 1]!)!
    let widest = 1
    for (let i = 2; i < uses.length; i++) if (wait(i) > wait(widest)) widest = i
    found.push({ tensor, producer, uses, widest, steps: wait(widest) })
  }
  return found
}
