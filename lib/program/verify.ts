import { ProgramError } from '../errors.js'
import type { Program } from './graph.js'
import { opSpec } from './op.js'
import { describeTensor, formatShape, sameShape, type Tensor } from './tensor.js'

/**
 * Checks a whole program, after tracing and after each pass: every op's rules hold, every tensor is written once and before it is
 * read, and the outputs exist.
 * @throws ProgramError naming the op, shapes and dtypes.
 */
export function verifyProgram(program: Program): void {
  const defined = new Set<Tensor>([...Object.values(program.inputs), ...program.weights])
  const ids = new Map<number, Tensor>()
  for (const tensor of defined) remember(tensor)
  for (const node of program.nodes) {
    for (const { role, tensor } of node.inputs) {
      if (!defined.has(tensor)) {
        throw new ProgramError(
          `${node.name} (${node.op}): expected ${role} to be written before, got ${describeTensor(tensor)}`,
          node.name,
        )
      }
    }
    const { shape, dtype } = opSpec(node.op).infer(node)
    if (!sameShape(shape, node.output.shape) || dtype !== node.output.dtype) {
      const got = describeTensor(node.output)
      throw new ProgramError(
        `${node.name} (${node.op}): expected output ${dtype}${formatShape(shape)}, got ${got}`,
        node.name,
      )
    }
    if (defined.has(node.output))
      throw new ProgramError(
        `${node.name} (${node.op}): expected a new tensor, got one written twice`,
        node.name,
      )
    remember(node.output)
    defined.add(node.output)
  }
  for (const [name, tensor] of Object.entries(program.outputs)) {
    if (!defined.has(tensor))
      throw new ProgramError(
        `output ${name}: expected the result of an op, got ${describeTensor(tensor)}`,
        name,
      )
  }

  function remember(tensor: Tensor): void {
    const other = ids.get(tensor.id)
    if (other && other !== tensor) {
      throw new ProgramError(
        `${program.name}: expected ids to be unique, got ${describeTensor(other)} and ${describeTensor(tensor)}`,
        tensor.name,
      )
    }
    ids.set(tensor.id, tensor)
  }
}
