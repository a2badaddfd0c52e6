import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { CheckpointError } from '../errors.js'
import type { FileDtype } from './dtypes.js'
import { readSafetensorsHeader, type TensorEntry } from './safetensors.js'

/** The tensors of one component: where each lies, its dtype and shape. Data are not read. */
export class WeightIndex {
  /** Bytes of all tensors, as stored. */
  readonly bytes: number
  constructor(
    /** The component's folder. */
    readonly path: string,
    readonly files: readonly string[],
    private readonly entries: ReadonlyMap<string, TensorEntry>,
  ) {
    this.bytes = [...entries.values()].reduce((sum, entry) => sum + entry.bytes, 0)
  }

  get size(): number {
    return this.entries.size
  }

  keys(): IterableIterator<string> {
    return this.entries.keys()
  }

  values(): IterableIterator<TensorEntry> {
    return this.entries.values()
  }

  has(key: string): boolean {
    return this.entries.has(key)
  }

  get(key: string): TensorEntry | undefined {
    return this.entries.get(key)
  }
}

/**
 * The tensor under the first of `keys` that the checkpoint holds, with this shape and one of these dtypes.
 * @throws CheckpointError when it is missing or differs.
 */
export function requireTensor(
  index: WeightIndex,
  keys: string | readonly string[],
  shape: readonly number[],
  dtypes: readonly FileDtype[] = ['F32', 'F16', 'BF16'],
): TensorEntry {
  const names = typeof keys === 'string' ? [keys] : keys
  const found = names.find(key => index.has(key))
  if (found === undefined) {
    throw new CheckpointError(
      `${index.path}: expected a tensor ${names.join(' or ')} [${shape.join(', ')}], got none of that name among ${index.size}; ` +
        'check that config.json belongs to these weights',
      index.path,
    )
  }
  const entry = index.get(found)!
  const wrong = (expected: string, got: string, fix: string): never => {
    throw new CheckpointError(
      `${entry.file}: ${found}: expected ${expected}, got ${got}; ${fix}`,
      entry.file,
    )
  }
  if (entry.shape.length !== shape.length || entry.shape.some((extent, i) => extent !== shape[i])) {
    wrong(
      `shape [${shape.join(', ')}]`,
      `[${entry.shape.join(', ')}]`,
      'check that config.json belongs to these weights',
    )
  }
  if (!dtypes.includes(entry.dtype))
    wrong(`dtype ${dtypes.join(', ')}`, entry.dtype, 'convert the weights')
  return entry
}

/** Names under which diffusers and transformers save a component's weights. */
const stems = ['diffusion_pytorch_model', 'model']

/** The variants preferred, in this order, when a component has no plain file. */
const knownVariants = ['fp16', 'bf16']

/**
 * Indexes a component's weights: one file, or shards by an index, in plain form or a variant such as `fp16`.
 * `variant` is taken where it exists; without it, or where it does not exist, plain files come first.
 * @throws CheckpointError when there is no safetensors file, or a file is malformed.
 */
export function readWeightIndex(folder: string, variant?: string): WeightIndex {
  const source = findWeights(folder, variant)
  if (source.endsWith('.json')) return readShards(folder, source)
  const { path, tensors } = readSafetensorsHeader(join(folder, source))
  return new WeightIndex(folder, [path], tensors)
}

/** The file that holds or lists the weights. */
function findWeights(folder: string, variant: string | undefined): string {
  const names = existsSync(folder) ? readdirSync(folder).sort() : []
  const candidates = [
    ...(variant === undefined ? [] : sources(variant)),
    ...sources(),
    ...knownVariants.flatMap(v => sources(v)),
  ]
  const found = candidates.find(name => names.includes(name))
  if (found !== undefined) return found
  const others = names.filter(
    name => stems.some(stem => name.startsWith(`${stem}.`)) && /\.safetensors$/.test(name),
  )
  if (others.length === 1) return others[0]!
  const pickles = names.filter(name => /\.(bin|ckpt|pt|pth)$/.test(name))
  const got =
    pickles.length > 0
      ? `only pickles (${pickles.join(', ')})`
      : others.length > 0
        ? `several variants (${others.join(', ')})`
        : 'none'
  const fix =
    pickles.length > 0
      ? 'convert them to safetensors: pickles can run code and are never opened'
      : others.length > 0
        ? 'name one with the variant option'
        : `put ${stems[0]}.safetensors or ${stems[1]}.safetensors there`
  throw new CheckpointError(
    `${folder}: expected weights in safetensors, got ${got}; ${fix}`,
    folder,
  )
}

/** File names of a variant, both spellings of a sharded one included. */
function sources(variant?: string): string[] {
  return stems.flatMap(stem =>
    variant === undefined
      ? [`${stem}.safetensors`, `${stem}.safetensors.index.json`]
      : [
          `${stem}.${variant}.safetensors`,
          `${stem}.safetensors.index.${variant}.json`,
          `${stem}.${variant}.safetensors.index.json`,
        ],
  )
}

function readShards(folder: string, name: string): WeightIndex {
  const path = join(folder, name)
  const { weight_map: map } = readJson(path)
  if (typeof map !== 'object' || map === null || Array.isArray(map)) {
    throw new CheckpointError(
      `${path}: expected a weight_map of keys to files, got ${JSON.stringify(map)}; fetch it again`,
      path,
    )
  }
  const shards = new Map<string, ReadonlyMap<string, TensorEntry>>()
  const entries = new Map<string, TensorEntry>()
  for (const [key, file] of Object.entries(map as Record<string, unknown>)) {
    // A bare name only: an index must not lead out of its folder.
    if (typeof file !== 'string' || !/^[^/\\:]+\.safetensors$/.test(file)) {
      throw new CheckpointError(
        `${path}: ${key}: expected a .safetensors file in the same folder, got ${JSON.stringify(file)}; correct the index`,
        path,
      )
    }
    let tensors = shards.get(file)
    if (!tensors) {
      tensors = readSafetensorsHeader(join(folder, file)).tensors
      shards.set(file, tensors)
    }
    const entry = tensors.get(key)
    if (!entry) {
      throw new CheckpointError(
        `${path}: ${key}: expected a tensor in ${file}, got none of that name; fetch the shards again`,
        path,
      )
    }
    entries.set(key, entry)
  }
  return new WeightIndex(
    folder,
    [...shards.keys()].map(file => join(folder, file)),
    entries,
  )
}

/** A JSON object from a file. @throws CheckpointError when it is absent or not one. */
export function readJson(path: string): Record<string, unknown> {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const got = code === 'ENOENT' || code === 'ENOTDIR' ? 'no such file' : code
    throw new CheckpointError(
      `${path}: expected a JSON file, got ${got}; check that the folder has diffusers' layout`,
      path,
      { cause: error },
    )
  }
  let value: unknown
  try {
    value = parsePythonJson(text)
  } catch (error) {
    throw new CheckpointError(
      `${path}: expected JSON, got ${(error as Error).message}; fetch it again`,
      path,
      { cause: error },
    )
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CheckpointError(
      `${path}: expected a JSON object, got ${JSON.stringify(value).slice(0, 40)}; fetch it again`,
      path,
    )
  }
  return value as Record<string, unknown>
}

/** JSON as Python writes it: -Infinity, Infinity and NaN (read as null) may stand where a number may. @throws SyntaxError */
function parsePythonJson(text: string): unknown {
  const plain = text.replace(/"(?:[^"\\]|\\.)*"|-?\bInfinity\b|\bNaN\b/g, token => {
    if (token.startsWith('"')) return token
    if (token === 'NaN') return 'null'
    // Beyond the largest float64: parsed as infinity.
    return token.replace('Infinity', '1e999')
  })
  return JSON.parse(plain)
}
