import { ProgramError } from '../errors.js'

/** Element types of tensors. Activations on the CPU are f32; weights keep the checkpoint's type. */
export type DType = 'f32' | 'f16' | 'bf16' | 'i32'

export const dtypeBytes: Record<DType, number> = { f32: 4, f16: 2, bf16: 2, i32: 4 }

/**
 * A tensor of a program: shape and dtype known, no data. Row-major, channels last: features are [frame, row, column, channel],
 * token sequences [token, channel], vectors [channel].
 */
export interface Tensor {
  readonly id: number
  readonly name: string
  readonly shape: readonly number[]
  readonly dtype: DType
  readonly kind: 'input' | 'weight' | 'value'
  /** Kept in the host's memory, beside a GPU. The planner's doing. */
  readonly host?: boolean
}

/** A weight: `name` is its key in the checkpoint, `shape` its shape there, `dtype` how it is stored. */
export interface WeightTensor extends Tensor {
  readonly kind: 'weight'
  /** Values to use where the checkpoint has no such key (computed tables). */
  readonly fallback?: () => Float32Array
}

export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1)
}

export function tensorBytes(tensor: Pick<Tensor, 'shape' | 'dtype'>): number {
  return elementCount(tensor.shape) * dtypeBytes[tensor.dtype]
}

export function formatShape(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`
}

/** `name f32[16, 64, 64, 320]`, for messages. */
export function describeTensor(tensor: Tensor): string {
  return `${tensor.name} ${tensor.dtype}${formatShape(tensor.shape)}`
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((extent, axis) => extent === b[axis])
}

/** @throws ProgramError unless every extent is a positive integer and the tensor has 1 to `axes` axes. */
export function checkShape(shape: readonly number[], where: string, axes = 4): void {
  if (
    shape.length < 1 ||
    shape.length > axes ||
    !shape.every(n => Number.isSafeInteger(n) && n > 0)
  ) {
    throw new ProgramError(
      `${where}: expected 1 to ${axes} positive integer extents, got ${formatShape(shape)}`,
      where,
    )
  }
}
