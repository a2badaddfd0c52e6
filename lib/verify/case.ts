import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { CheckpointError } from '../errors.js'
import { type Component, openComponent } from '../io/checkpoint.js'
import { readFloats, readInts, readSafetensorsHeader, type TensorEntry } from '../io/safetensors.js'
import { readJson } from '../io/weight-index.js'
import { ComponentWeights } from '../pipelines/checkpoint-weights.js'

export interface RecordedTensor<T> {
  readonly shape: readonly number[]
  readonly data: T
}

/** Recorded inputs and outputs: tensors of one safetensors file, read when asked for. */
export class Recording {
  private constructor(
    readonly path: string,
    private readonly tensors: ReadonlyMap<string, TensorEntry>,
  ) {}

  /** @throws CheckpointError */
  static open(path: string): Recording {
    return new Recording(path, readSafetensorsHeader(path).tensors)
  }

  has(key: string): boolean {
    return this.tensors.has(key)
  }

  shape(key: string): readonly number[] {
    return this.entry(key).shape
  }

  /** Floats and integers alike as float32. @throws CheckpointError */
  async floats(key: string): Promise<RecordedTensor<Float32Array>> {
    const entry = this.entry(key)
    const isFloat = /^B?F\d/.test(entry.dtype)
    return {
      shape: entry.shape,
      data: isFloat ? await readFloats(entry) : Float32Array.from(await readInts(entry)),
    }
  }

  /** @throws CheckpointError */
  async ints(key: string): Promise<RecordedTensor<Int32Array>> {
    const entry = this.entry(key)
    return { shape: entry.shape, data: await readInts(entry) }
  }

  /** @throws CheckpointError unless the tensor has so many axes. */
  checkAxes(key: string, axes: readonly string[]): void {
    const { shape } = this.entry(key)
    if (shape.length === axes.length) return
    throw new CheckpointError(
      `${this.path}: ${key}: expected [${axes.join(', ')}], got [${shape.join(', ')}]; record the case again`,
      this.path,
    )
  }

  private entry(key: string): TensorEntry {
    const entry = this.tensors.get(key)
    if (entry) return entry
    throw new CheckpointError(
      `${this.path}: expected a tensor ${key}, got ${[...this.tensors.keys()].slice(0, 8).join(', ') || 'none'}; record the case again`,
      this.path,
    )
  }
}

/** A recorded case: `case.json`, `golden.safetensors`, and the checkpoint's folders. */
export class ParityCase {
  readonly weights: ComponentWeights
  private readonly components = new Map<string, Component>()
  private constructor(
    readonly path: string,
    /** `component` of case.json. */
    readonly component: string,
    readonly golden: Recording,
  ) {
    this.weights = new ComponentWeights(path, name => this.folder(name))
  }

  /** Reads case.json and a header. @throws CheckpointError */
  static open(path: string): ParityCase {
    const { component } = readJson(join(path, 'case.json'))
    if (typeof component !== 'string') {
      const file = join(path, 'case.json')
      throw new CheckpointError(
        `${file}: expected a component, got ${JSON.stringify(component)}; name one`,
        file,
      )
    }
    return new ParityCase(path, component, Recording.open(join(path, 'golden.safetensors')))
  }

  has(name: string): boolean {
    return existsSync(join(this.path, name))
  }

  /** A folder of the checkpoint. @throws CheckpointError when it is not there. */
  folder(name: string): Component {
    const known = this.components.get(name)
    if (known) return known
    const path = join(this.path, name)
    if (!existsSync(path)) {
      throw new CheckpointError(
        `${this.path}: expected a folder ${name} with config.json and weights beside case.json, got none; copy the checkpoint's folder there, or write the weights that case.json describes`,
        path,
      )
    }
    const component = openComponent(path, name)
    this.components.set(name, component)
    return component
  }
}
