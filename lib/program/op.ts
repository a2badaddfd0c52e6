import { ProgramError } from '../errors.js'
import type { Attrs, Node, Operand } from './graph.js'
import { type Region, wholeRegion } from './region.js'
import type { DType, Tensor } from './tensor.js'
import { describeTensor } from './tensor.js'

/** A node before its output is known. */
export interface OpCall {
  readonly name: string
  readonly op: string
  readonly inputs: readonly Operand[]
  readonly attrs: Attrs
}

/** What scratch depends on besides shapes. */
export interface Target {
  readonly backend: string
  readonly threads: number
  /** Products of convolutions and matrices in bfloat16, sums in float32; else float32 alone. */
  readonly compute?: 'bf16'
  /**
   * A GPU that computes whole blocks of channels by wgmma, on input that copies bring as it lies. Norms before such products are passes of
   * their own: applied in the product they would have to be once for each tap, and cost as much as its multiplications.
   */
  readonly wgmma?: true
}

export interface Cost {
  /** Floating-point operations, a multiply-add counted as two. */
  flops: number
  /** Bytes read and written when nothing is cached. */
  bytes: number
}

/** Scratch of one command: bytes per thread, and the tile numbers that the command carries. */
export interface Scratch {
  bytesPerThread: number
  tile: readonly number[]
}

/** The rules of an operator. Slicing, halos, groups and memory all follow from them. */
export interface OpSpec {
  readonly name: string
  /** Shape rule. @throws ProgramError when shapes, dtypes or attributes do not fit. */
  infer(call: OpCall): { shape: number[]; dtype: DType }
  /** Region rule: for a wanted region of the output, the region of each input that is read, in the order of `inputs`. */
  regions(call: OpCall, output: Tensor, wanted: Region): Region[]
  /** Cost of computing a region. */
  cost(call: OpCall, output: Tensor, wanted: Region): Cost
  /** Scratch of computing a region with one command; absent: none. */
  scratch?(call: OpCall, output: Tensor, wanted: Region, target: Target): Scratch
  /** Roles whose tensor the output may overwrite, element by element, when it is read nowhere later. */
  readonly inPlace?: readonly string[]
}

const specs = new Map<string, OpSpec>()

export function defineOp(spec: OpSpec): OpSpec {
  specs.set(spec.name, spec)
  return spec
}

/** Names of all ops. */
export function opNames(): string[] {
  return [...specs.keys()]
}

/** @throws ProgramError for an op that is not defined. */
export function opSpec(name: string): OpSpec {
  const spec = specs.get(name)
  if (!spec)
    throw new ProgramError(
      `${name}: expected one of ${[...specs.keys()].join(', ')}, got an unknown op`,
      name,
    )
  return spec
}

/** Operations of a node that runs once, whole. */
export function flopsOf(node: Node): number {
  return opSpec(node.op).cost(node, node.output, wholeRegion(node.output.shape)).flops
}

/** The error of a broken rule: where, what was expected, what came. */
export function ruleError(
  call: OpCall,
  expected: string,
  got: string | Tensor | undefined,
): ProgramError {
  const value = got === undefined ? 'nothing' : typeof got === 'string' ? got : describeTensor(got)
  return new ProgramError(
    `${call.name} (${call.op}): expected ${expected}, got ${value}`,
    call.name,
  )
}
