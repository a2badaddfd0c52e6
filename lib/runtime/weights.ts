import { CheckpointError, OptionError } from '../errors.js'
import { dtypeCode } from '../planner/commands.js'
import type { PackedWeight, WeightLayout } from '../planner/weights.js'
import { type DType, elementCount, formatShape } from '../program/tensor.js'
import type { Addon, NativeFile, PackJob } from './addon-types.js'
import { PackForm } from './addon-types.js'

/** A weight's place: in a safetensors file, or values in memory. */
export type StoredWeight =
  | {
      readonly path: string
      readonly dtype: DType
      readonly shape: readonly number[]
      readonly offset: number
      readonly bytes: number
    }
  | { readonly values: Float32Array; readonly shape: readonly number[] }

/** Where a stage's weights come from. */
export interface WeightSource {
  /** @returns undefined where there is no such weight */
  find(key: string): StoredWeight | undefined
  /** What messages call it: the checkpoint's folder. */
  readonly where: string
}

/** Weights given as values, by key. @throws OptionError for other values */
export function weightsFromValues(values: Readonly<Record<string, Float32Array>>): WeightSource {
  if (typeof values !== 'object' || values === null)
    throw new OptionError(`weights: expected values by name, got ${typeof values}`)
  for (const [name, weight] of Object.entries(values)) {
    if (!((weight as unknown) instanceof Float32Array))
      throw new OptionError(
        `weights: expected ${name} as a Float32Array, got ${(weight as object | undefined)?.constructor?.name ?? typeof weight}`,
      )
  }
  return {
    where: 'weights',
    find: key => (values[key] ? { values: values[key], shape: [values[key].length] } : undefined),
  }
}

/** Stored dtype of a weight, for planning: float32 where it is given as values or computed. */
export function dtypeOf(source: WeightSource, key: string): DType {
  const stored = source.find(key)
  return stored && 'path' in stored ? stored.dtype : 'f32'
}

/** Finds every weight of a layout and reads none. @throws CheckpointError for a missing weight, another shape or dtype. */
export function checkWeights(layout: WeightLayout, source: WeightSource): void {
  for (const weight of [...layout.weights, ...layout.streamed]) checkWeight(weight, source)
}

function checkWeight({ tensor, dtype }: PackedWeight, source: WeightSource): StoredWeight {
  const { name, shape } = tensor
  const stored = source.find(name) ?? (tensor.fallback && { values: tensor.fallback(), shape })
  if (!stored) {
    throw new CheckpointError(
      `${source.where}: expected weight ${name} ${formatShape(shape)}, got none; the checkpoint is incomplete`,
      source.where,
    )
  }
  // Values come without axes; files may hold a 1x1 convolution as a matrix.
  const extents =
    'values' in stored
      ? elementCount
      : (axes: readonly number[]) => axes.filter(extent => extent !== 1).join()
  if (extents(stored.shape) !== extents(shape)) {
    throw new CheckpointError(
      `${source.where}: expected ${name} ${formatShape(shape)}, got ${formatShape(stored.shape)}; check that config.json belongs to these weights`,
      source.where,
    )
  }
  if ('path' in stored && (stored.dtype !== dtype || stored.dtype === 'i32')) {
    throw new CheckpointError(
      `${source.where}: expected ${name} as ${dtype} (f32, f16 or bf16), got ${stored.dtype}; convert the weights`,
      source.where,
    )
  }
  return stored
}

/** Pack jobs of weights, with the files they map; every weight is checked before the first byte is read. */
export class PackList {
  readonly jobs: PackJob[] = []
  private readonly files = new Map<string, NativeFile>()

  /** @throws CheckpointError for a missing weight, another shape or dtype. Files opened so far are closed. */
  constructor(addon: Addon, weights: readonly PackedWeight[], source: WeightSource) {
    try {
      for (const weight of weights) this.jobs.push(this.job(addon, weight, source))
    } catch (error) {
      this.close()
      throw error
    }
  }

  close(): void {
    for (const file of this.files.values()) file.close()
    this.files.clear()
  }

  private job(addon: Addon, weight: PackedWeight, source: WeightSource): PackJob {
    const { tensor, form, offset } = weight
    const shape = tensor.shape
    const vector = form === PackForm.vector || form === PackForm.vectorPairs
    const common = {
      form,
      outputs: vector ? elementCount(shape) : shape[0]!,
      inputs: vector ? 1 : (shape[1] ?? 1),
      taps: vector ? 1 : elementCount(shape.slice(2)),
      destination: offset,
    }
    const stored = checkWeight(weight, source)
    if ('values' in stored) {
      return {
        ...common,
        file: stored.values,
        sourceOffset: 0,
        sourceBytes: stored.values.byteLength,
        dtype: dtypeCode.f32,
      }
    }
    let file = this.files.get(stored.path)
    if (!file) {
      file = addon.openFile(stored.path)
      this.files.set(stored.path, file)
    }
    return {
      ...common,
      file,
      sourceOffset: stored.offset,
      sourceBytes: stored.bytes,
      dtype: dtypeCode[stored.dtype],
    }
  }
}
