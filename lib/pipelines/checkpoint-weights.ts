import { CheckpointError } from '../errors.js'
import type { Checkpoint, Component } from '../io/checkpoint.js'
import { alternativeVaeKeys } from '../models/vae.js'
import type { DType } from '../program/tensor.js'
import type { StoredWeight, WeightSource } from '../runtime/weights.js'

const dtypes: Readonly<Record<string, DType>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' }

/** Other names under which a component's weight may be stored. */
const alternatives: Readonly<Record<string, (key: string) => string[]>> = {
  text_encoder: key => [`text_model.${key}`],
  vae: alternativeVaeKeys,
}

/** Weights of components, by keys `component/key`. Headers are read when a component's first weight is asked for. */
export class ComponentWeights implements WeightSource {
  constructor(
    readonly where: string,
    private readonly component: (name: string) => Component,
  ) {}

  /** @throws CheckpointError for malformed files and dtypes other than F32, F16, BF16. */
  find(key: string): StoredWeight | undefined {
    const slash = key.indexOf('/')
    const name = key.slice(0, slash)
    const own = key.slice(slash + 1)
    const { weights } = this.component(name)
    for (const candidate of [own, ...(alternatives[name]?.(own) ?? [])]) {
      const entry = weights.get(candidate)
      if (!entry) continue
      const dtype = dtypes[entry.dtype]
      if (!dtype) {
        throw new CheckpointError(
          `${entry.file}: ${candidate}: expected dtype F32, F16 or BF16, got ${entry.dtype}; convert the weights`,
          entry.file,
        )
      }
      return {
        path: entry.file,
        dtype,
        shape: entry.shape,
        offset: entry.offset,
        bytes: entry.bytes,
      }
    }
    return undefined
  }
}

export function checkpointWeights(checkpoint: Checkpoint): ComponentWeights {
  return new ComponentWeights(checkpoint.path, name => checkpoint.component(name))
}

/**
 * Stored dtypes for a plan. Weight files' headers tell; where a folder holds no weight files (configurations alone) `assumed` is taken.
 * Given `assumed`, no file is opened at all.
 */
export function plannedDtypes(
  weights: WeightSource,
  hasWeights: (component: string) => boolean,
  assumed?: DType,
): (key: string) => DType {
  return key => {
    if (assumed) return assumed
    if (!hasWeights(key.slice(0, key.indexOf('/')))) return 'f16'
    const stored = weights.find(key)
    return stored && 'path' in stored ? stored.dtype : 'f32'
  }
}
