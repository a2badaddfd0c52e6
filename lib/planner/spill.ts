import type { Node, Program } from '../program/graph.js'
import { operand } from '../program/graph.js'
import { defineOp, ruleError } from '../program/op.js'
import { regionVolume } from '../program/region.js'
import { dtypeBytes, type Tensor, tensorBytes } from '../program/tensor.js'
import { shortestWait, waits } from './waits.js'

/** A tensor that waits for its last readers, and can wait in the host's memory. */
export interface Spillable {
  readonly tensor: Tensor
  /** The last node that uses it before the wait, and those that read it after. */
  readonly early: Node
  readonly late: readonly Node[]
  readonly bytes: number
}

/** Copies a tensor, slice by slice, between the device and the host. Planned for a GPU alone: the memory of a CPU is the host's. */
export const moveOp = defineOp({
  name: 'move',
  infer(call) {
    const source = operand(call, 'source')
    if (!source) throw ruleError(call, 'a source', source)
    return { shape: [...source.shape], dtype: source.dtype }
  },
  regions: (_call, _output, wanted) => [wanted],
  cost: (_call, output, wanted) => ({
    flops: 0,
    bytes: dtypeBytes[output.dtype] * regionVolume(wanted),
  }),
})

/** Features that wait long, largest first. */
export function spillable(program: Program): Spillable[] {
  return waits(program)
    .filter(({ steps }) => steps >= shortestWait)
    .map(({ tensor, uses, widest }) => {
      const [early, late] = [uses[widest - 1]!, uses.slice(widest)]
      return { tensor, early, late, bytes: tensorBytes(tensor) }
    })
    .sort((a, b) => b.bytes - a.bytes || a.tensor.id - b.tensor.id)
}

/** The program with the tensors of `chosen` moved to the host while they wait, and back for each reader apart, so that none is whole. */
export function spill(program: Program, chosen: readonly Spillable[]): Program {
  if (chosen.length === 0) return program
  let nextId = 1 + Math.max(...program.nodes.map(node => node.output.id))
  const after = new Map<Tensor, Node>()
  const before = new Map<Tensor, Node[]>()
  const replaced = new Map<Tensor, Map<Tensor, Tensor>>()
  const move = (from: Tensor, name: string, place: Pick<Tensor, 'host'>): Node => {
    const { shape, dtype } = from
    const output: Tensor = { id: nextId++, name, shape, dtype, kind: 'value', ...place }
    return {
      id: 0,
      op: moveOp.name,
      name,
      inputs: [{ role: 'source', tensor: from }],
      attrs: {},
      output,
    }
  }
  for (const { tensor, early, late } of chosen) {
    const away = move(tensor, `${tensor.name} (to the host)`, { host: true })
    after.set(early.output, away)
    for (const { output } of late) {
      const back = move(away.output, `${tensor.name} (from the host)`, {})
      before.set(output, [...(before.get(output) ?? []), back])
      replaced.set(output, (replaced.get(output) ?? new Map()).set(tensor, back.output))
    }
  }
  // Other passes may have copied the nodes: outputs tell which they are.
  const nodes = program.nodes.flatMap(node => {
    const swap = replaced.get(node.output)
    const inputs = node.inputs.map(({ role, tensor }) => ({
      role,
      tensor: swap?.get(tensor) ?? tensor,
    }))
    const away = after.get(node.output)
    return [
      ...(before.get(node.output) ?? []),
      swap ? { ...node, inputs } : node,
      ...(away ? [away] : []),
    ]
  })
  return { ...program, nodes: nodes.map((node, id) => ({ ...node, id })) }
}

/** Where the tensors that wait on the host lie there, one after another from `base` on, and the end. */
export function layoutHost(
  program: Program,
  base: number,
): { offsets: Map<Tensor, number>; end: number } {
  const offsets = new Map<Tensor, number>()
  let end = base
  for (const { output } of program.nodes) {
    if (!output.host) continue
    offsets.set(output, Math.ceil(end / hostAlignment) * hostAlignment)
    end = offsets.get(output)! + tensorBytes(output)
  }
  return { offsets, end }
}

const hostAlignment = 256
