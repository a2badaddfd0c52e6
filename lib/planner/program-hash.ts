import { createHash } from 'node:crypto'
import type { Attrs, Program } from '../program/graph.js'
import type { Tensor } from '../program/tensor.js'

/**
 * What each tensor of a program holds, as a hash: equal for tensors that are computed in the same way from the same inputs and weights,
 * whatever their names, their order, and how often they are computed.
 */
export function valueHashes(program: Program): Map<Tensor, string> {
  const hashes = new Map<Tensor, string>()
  for (const [name, { shape, dtype }] of Object.entries(program.inputs))
    hashes.set(program.inputs[name]!, digest(['input', name, shape, dtype]))
  for (const weight of program.weights)
    hashes.set(weight, digest(['weight', weight.name, weight.shape]))
  for (const { op, attrs, inputs, output } of program.nodes) {
    const read = inputs.map(({ role, tensor }) => [role, hashes.get(tensor) ?? 'unknown'] as const)
    // A tensor that was moved is the tensor.
    if (op === 'move') hashes.set(output, read[0]![1]!)
    else hashes.set(output, digest([op, sorted(attrs), read, output.shape, output.dtype]))
  }
  return hashes
}

/** A program's inputs and the values of its outputs, as a hash. */
export function programHash(program: Program, hashes = valueHashes(program)): string {
  const named = (tensors: Readonly<Record<string, Tensor>>) =>
    Object.entries(tensors)
      .map(([name, tensor]) => [name, hashes.get(tensor) ?? 'unknown'])
      .sort(([a], [b]) => (a! < b! ? -1 : 1))
  return digest([named(program.inputs), named(program.outputs)])
}

function sorted(attrs: Attrs): unknown[] {
  return Object.entries(attrs)
    .filter(([, value]) => value !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
}

function digest(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('base64url')
}
