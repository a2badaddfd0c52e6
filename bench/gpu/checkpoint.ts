/** Checkpoints of true size with seeded float16 weights, in diffusers' layout, which both sides of a comparison read. */
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { open, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { loadPipeline } from '../../lib/pipelines/load.js'
import { embedded } from '../../tests/support/checkpoints.js'
import { fixture } from '../../tests/support/recorded.js'

export type ModelName = 'animatediff' | 'svd' | 'svd-xt'

/** Folders of published configurations. */
const configurations = {
  animatediff: 'animatediff-sd15',
  svd: 'svd',
  'svd-xt': 'svd-xt',
} as const

/** Where checkpoints of a name are kept between calls. */
const done = 'made'

/**
 * Writes the checkpoint, or finds it whole from an earlier call.
 * @param configured folder of configurations in diffusers' layout; default: the published ones
 * @returns folder
 */
export async function trueSize(
  model: ModelName,
  folder: string,
  configured = fixture(`configs/${configurations[model]}`),
): Promise<string> {
  if (existsSync(join(folder, done))) return folder
  mkdirSync(folder, { recursive: true })
  cpSync(configured, folder, { recursive: true })
  if (model === 'animatediff' && !existsSync(join(folder, 'tokenizer'))) tokenizer(folder)
  const { stages } = (await loadPipeline(folder, { device: 'cpu' })).plan()
  const components: Record<string, { key: string; shape: readonly number[] }[]> = {}
  const seen = new Set<string>()
  for (const { tensor } of stages.flatMap(stage => stage.weights.weights)) {
    if (seen.has(tensor.name) || tensor.fallback) continue
    seen.add(tensor.name)
    const slash = tensor.name.indexOf('/')
    const component = tensor.name.slice(0, slash)
    components[component] ??= []
    components[component].push({ key: tensor.name.slice(slash + 1), shape: tensor.shape })
  }
  for (const [component, entries] of Object.entries(components))
    await writeHalves(join(folder, component, 'model.safetensors'), entries)
  await writeFile(join(folder, done), '')
  return folder
}

/** The embedded checkpoint's, with as many tokens as the text encoder has positions. */
function tokenizer(folder: string): void {
  cpSync(join(embedded, 'tokenizer'), join(folder, 'tokenizer'), { recursive: true })
  const file = join(folder, 'tokenizer/tokenizer_config.json')
  const config = JSON.parse(readFileSync(join(folder, 'text_encoder/config.json'), 'utf8'))
  const text = JSON.parse(readFileSync(file, 'utf8'))
  const length = config.max_position_embeddings
  writeFileSync(file, JSON.stringify({ ...text, model_max_length: length }))
}

const volume = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

/** A mebibyte of random words, from which tensors take theirs at places of their own. */
const randomWords = (() => {
  const words = new Uint32Array(1 << 18)
  let state = 0x9e3779b9
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = state
  }
  return new Uint16Array(words.buffer)
})()

/** float16 bits of a value in its normal range, or of 0. */
function halfOf(value: number): number {
  const size = Math.abs(value)
  if (size < 2 ** -14) return 0
  const exponent = Math.floor(Math.log2(size))
  const fraction = Math.min(1023, Math.round((size / 2 ** exponent - 1) * 1024))
  return (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | fraction
}

/** 2048 values that a tensor's elements are drawn from: uniform, of a spread that keeps a network's features about as large as they came. */
function tableOf(key: string, shape: readonly number[]): Uint16Array {
  const norm = shape.length <= 1 && key.endsWith('weight')
  const scale = shape.length <= 1 ? 0.1 : Math.sqrt(3 / volume(shape.slice(1)))
  return Uint16Array.from({ length: 2048 }, (_, i) =>
    halfOf((norm ? 1 : 0) + scale * ((i + 0.5) / 1024 - 1)),
  )
}

async function writeHalves(
  path: string,
  entries: readonly { key: string; shape: readonly number[] }[],
): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } }
  let end = 0
  for (const { key, shape } of entries) {
    const begin = end
    end += 2 * volume(shape)
    header[key] = { dtype: 'F16', shape, data_offsets: [begin, end] }
  }
  const json = Buffer.from(JSON.stringify(header))
  const head = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ')
  head.writeBigUInt64LE(BigInt(head.length - 8))
  json.copy(head, 8)
  const file = await open(`${path}.part`, 'w')
  try {
    await file.writeFile(head)
    const piece = new Uint16Array(1 << 22)
    for (const [number, { key, shape }] of entries.entries()) {
      const table = tableOf(key, shape)
      const total = volume(shape)
      for (let at = 0; at < total; at += piece.length) {
        const count = Math.min(piece.length, total - at)
        // An odd step through the words, so that no two tensors and no two pieces go through them alike.
        const step = 2 * ((number * 7919 + (at >>> 10)) % 65521) + 1
        for (let i = 0, word = number * 31; i < count; i++, word += step)
          piece[i] = table[randomWords[word & 0x7ffff]! & 2047]!
        await file.writeFile(Buffer.from(piece.buffer, 0, 2 * count))
      }
    }
  } finally {
    await file.close()
  }
  await rename(`${path}.part`, path)
}
