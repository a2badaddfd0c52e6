import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { CheckpointError, OptionError } from '../errors.js'
import { readJson, readWeightIndex, type WeightIndex } from './weight-index.js'

export interface CheckpointOptions {
  /** Folder of a motion adapter that lies apart: with `config.json` itself, or with a folder `motion_adapter`. */
  motionAdapter?: string
  /** Variant of the weight files, `fp16` for `model.fp16.safetensors`; components without it use their plain files. */
  variant?: string
}

/** One folder of a checkpoint. Its config and its weights' headers are read when first asked for. */
export class Component {
  private configRead?: Record<string, unknown>
  private weightsRead?: WeightIndex
  constructor(
    readonly name: string,
    readonly path: string,
    private readonly variant?: string,
  ) {}

  /** `config.json`, or `scheduler_config.json` of a scheduler. @throws CheckpointError */
  get config(): Readonly<Record<string, unknown>> {
    this.configRead ??= readJson(
      join(this.path, this.name === 'scheduler' ? 'scheduler_config.json' : 'config.json'),
    )
    return this.configRead
  }

  /** `_class_name` (diffusers) or the first of `architectures` (transformers). */
  get className(): string | undefined {
    const { _class_name: name, architectures } = this.config
    if (typeof name === 'string') return name
    return Array.isArray(architectures) && typeof architectures[0] === 'string'
      ? architectures[0]
      : undefined
  }

  /** Whether the folder holds weight files of any kind, readable or not; false for configurations alone. */
  get hasWeights(): boolean {
    const files = existsSync(this.path) ? readdirSync(this.path) : []
    return files.some(name =>
      /\.(safetensors|bin|ckpt|pt|pth)$|\.safetensors\.index\.(.+\.)?json$/.test(name),
    )
  }

  /** Keys, dtypes, shapes and places of the tensors; no data. @throws CheckpointError */
  get weights(): WeightIndex {
    this.weightsRead ??= readWeightIndex(this.path, this.variant)
    return this.weightsRead
  }
}

/** A folder in diffusers' layout: `model_index.json` and one folder for each component. */
export class Checkpoint {
  private readonly components = new Map<string, Component>()
  constructor(
    readonly path: string,
    /** `_class_name` of model_index.json. */
    readonly pipeline: string,
    private readonly index: Readonly<Record<string, unknown>>,
    private readonly options: CheckpointOptions,
  ) {}

  /** Names of the components that are present, in the order of model_index.json. */
  get names(): string[] {
    const listed = Object.keys(this.index).filter(
      key => !key.startsWith('_') && Array.isArray(this.index[key]),
    )
    return [...new Set([...listed, 'motion_adapter'])].filter(name => this.has(name))
  }

  has(name: string): boolean {
    return existsSync(this.folderOf(name))
  }

  /** @throws CheckpointError when its folder is missing. */
  component(name: string): Component {
    const known = this.components.get(name)
    if (known) return known
    const path = this.folderOf(name)
    if (!this.has(name)) {
      const fix =
        name === 'motion_adapter'
          ? 'give one with the motion adapter option'
          : 'fetch the whole checkpoint'
      throw new CheckpointError(`${this.path}: expected a folder ${name}, got none; ${fix}`, path)
    }
    const component = new Component(name, path, this.options.variant)
    this.components.set(name, component)
    return component
  }

  /**
   * The motion adapter, or undefined where the unet is a UNetMotionModel, which holds its motion modules itself.
   * An adapter given apart wins over the folder inside.
   * @throws CheckpointError when there is none and the unet needs one.
   */
  motionAdapter(): Component | undefined {
    if (this.component('unet').className === 'UNetMotionModel') return undefined
    return this.component('motion_adapter')
  }

  private folderOf(name: string): string {
    const { motionAdapter } = this.options
    if (name !== 'motion_adapter' || motionAdapter === undefined) return join(this.path, name)
    const nested = join(motionAdapter, 'motion_adapter')
    return !existsSync(join(motionAdapter, 'config.json')) && existsSync(nested)
      ? nested
      : motionAdapter
  }
}

/**
 * Opens a checkpoint: reads model_index.json only.
 * @throws CheckpointError when `path` is no folder in diffusers' layout, or the motion adapter's folder does not exist.
 */
export function openCheckpoint(path: string, options: CheckpointOptions = {}): Checkpoint {
  const layout = "a folder in diffusers' layout, with model_index.json"
  if (typeof path !== 'string')
    throw new OptionError(`path: expected that of ${layout}, got ${typeof path}`)
  requireFolder(path, layout)
  if (!existsSync(join(path, 'model_index.json'))) {
    throw new CheckpointError(
      `${path}: expected ${layout}, got none; convert the checkpoint with diffusers' save_pretrained`,
      path,
    )
  }
  if (options.motionAdapter !== undefined)
    requireFolder(options.motionAdapter, 'a folder of a motion adapter, with config.json')
  const index = readJson(join(path, 'model_index.json'))
  if (typeof index._class_name !== 'string') {
    const file = join(path, 'model_index.json')
    throw new CheckpointError(
      `${file}: expected _class_name, got ${JSON.stringify(index._class_name)}; fetch it again`,
      file,
    )
  }
  return new Checkpoint(path, index._class_name, index, options)
}

/** Refuses a checkpoint of another pipeline. @throws CheckpointError */
export function requirePipeline(checkpoint: Checkpoint, pipelines: readonly string[]): void {
  if (pipelines.includes(checkpoint.pipeline)) return
  throw new CheckpointError(
    `${join(checkpoint.path, 'model_index.json')}: expected ${pipelines.join(' or ')}, got ${checkpoint.pipeline}; open it with the pipeline of that name`,
    checkpoint.path,
  )
}

/** A component in a folder of its own, outside a checkpoint. @throws CheckpointError */
export function openComponent(path: string, name: string, variant?: string): Component {
  requireFolder(path, `a folder of the component ${name}`)
  return new Component(name, path, variant)
}

function requireFolder(path: string, expected: string): void {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (stat?.isDirectory()) return
  const got = stat ? 'a file' : 'nothing there'
  const fix = stat
    ? "give the folder; single-file checkpoints need diffusers' save_pretrained first"
    : 'check the path'
  throw new CheckpointError(`${path}: expected ${expected}, got ${got}; ${fix}`, path)
}
