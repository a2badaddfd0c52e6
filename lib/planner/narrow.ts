import type { Program } from '../program/graph.js'
import type { DType, Tensor } from '../program/tensor.js'
import { statistics } from './expand.js'

/**
 * The program with activations stored in a narrower type (float16 or bfloat16, as on a GPU): shapes and ops as they were. Statistics
 * and the program's own inputs and outputs keep their types.
 */
export function narrowActivations(program: Program, dtype: DType): Program {
  if (dtype === 'f32') return program
  const kept = new Set<Tensor>(Object.values(program.outputs))
  const narrow = new Map<Tensor, Tensor>()
  const nodes = program.nodes.map(node => {
    const inputs = node.inputs.map(({ role, tensor }) => ({
      role,
      tensor: narrow.get(tensor) ?? tensor,
    }))
    if (kept.has(node.output) || statistics.has(node.op) || node.output.dtype !== 'f32')
      return { ...node, inputs }
    const output = { ...node.output, dtype }
    narrow.set(node.output, output)
    return { ...node, inputs, output }
  })
  return { ...program, nodes }
}
