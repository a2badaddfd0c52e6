/**
 * The seeded weights of the recorded cases: each value is a function of the tensor's name, its shape and the element's index.
 * h = FNV-1a 64 of the name; x = splitmix64(h + index); u = (x >> 40) / 2^23 - 1. The rule per kind of tensor: `valueRule`.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { SafetensorsWriter } from '../../lib/io/safetensors-writer.js'

export interface CaseModule {
  config: Record<string, unknown>
  /** Name of the weight file. */
  file: string
  /** Shape of each tensor by its name. */
  tensors: Record<string, number[]>
}

export interface RecordedCase {
  component: string
  note: string
  modules: Record<string, CaseModule>
}

export function readCase(caseDir: string): RecordedCase {
  return JSON.parse(readFileSync(join(caseDir, 'case.json'), 'utf8')) as RecordedCase
}

/** Values of a seeded tensor, from `start` on. */
export function seededTensor(
  name: string,
  shape: readonly number[],
  start = 0,
  count = volume(shape) - start,
): Float32Array {
  const { scale, offset } = valueRule(name, shape)
  const out = new Float32Array(count)
  fillUniform(hashName(name), start, out, scale, offset)
  return out
}

/**
 * Writes a case's checkpoint in diffusers' layout: for each module a folder with `config.json` and its weights.
 * @returns outDir
 */
export async function materialise(caseDir: string, outDir: string): Promise<string> {
  const chunk = 1 << 20
  for (const [folder, module] of Object.entries(readCase(caseDir).modules)) {
    mkdirSync(join(outDir, folder), { recursive: true })
    writeFileSync(join(outDir, folder, 'config.json'), JSON.stringify(module.config))
    const specs = Object.entries(module.tensors).map(([key, shape]) => ({
      key,
      dtype: 'F32' as const,
      shape,
    }))
    const writer = await SafetensorsWriter.open(join(outDir, folder, module.file), specs, {
      format: 'pt',
    })
    try {
      for (const { key, shape } of specs) {
        const total = volume(shape)
        for (let at = 0; at < total; at += chunk)
          await writer.append(seededTensor(key, shape, at, Math.min(chunk, total - at)))
      }
    } catch (error) {
      await writer.abort()
      throw error
    }
    await writer.close()
  }
  return outDir
}

function volume(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1)
}

/** value = offset + scale * u */
function valueRule(name: string, shape: readonly number[]): { scale: number; offset: number } {
  if (name.endsWith('mix_factor')) return { scale: 1, offset: 0 }
  if (shape.length <= 1)
    return name.endsWith('weight') ? { scale: 0.2, offset: 1 } : { scale: 0.1, offset: 0 }
  if (name.endsWith('embedding.weight')) return { scale: Math.sqrt(3) * 0.5, offset: 0 }
  return { scale: Math.sqrt(3 / volume(shape.slice(1))), offset: 0 }
}

function hashName(name: string): bigint {
  let hash = 0xcbf29ce484222325n
  for (const byte of Buffer.from(name))
    hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn
  return hash
}

/** splitmix64 of seed + index in halves of 32 bits: BigInt arithmetic takes 50 times as long. */
function fillUniform(
  seed: bigint,
  start: number,
  out: Float32Array,
  scale: number,
  offset: number,
): void {
  const first = (seed + BigInt(start) + 0x9e3779b97f4a7c15n) & 0xffffffffffffffffn
  const baseHigh = Number(first >> 32n)
  const baseLow = Number(first & 0xffffffffn)
  for (let i = 0; i < out.length; i++) {
    const sum = baseLow + i
    let low = sum >>> 0
    let high = (baseHigh + (sum >= 2 ** 32 ? 1 : 0)) >>> 0
    low = (low ^ ((low >>> 30) | (high << 2))) >>> 0
    high = (high ^ (high >>> 30)) >>> 0
    high = productHigh(high, low, 0xbf58476d, 0x1ce4e5b9)
    low = Math.imul(low, 0x1ce4e5b9) >>> 0
    low = (low ^ ((low >>> 27) | (high << 5))) >>> 0
    high = (high ^ (high >>> 27)) >>> 0
    high = productHigh(high, low, 0x94d049bb, 0x133111eb)
    // x ^ (x >> 31) leaves, of the upper 24 bits wanted, only bit 32 and above: the low half falls away.
    high = (high ^ (high >>> 31)) >>> 0
    const u = (high >>> 8) / 2 ** 23 - 1
    out[i] = offset + scale * u
  }
}

/** Upper 32 bits of a product modulo 2^64, from halves; the carry out of the low halves by 16-bit parts. */
function productHigh(aHigh: number, aLow: number, bHigh: number, bLow: number): number {
  const a0 = aLow & 0xffff
  const a1 = aLow >>> 16
  const b0 = bLow & 0xffff
  const b1 = bLow >>> 16
  const middle = a1 * b0 + ((a0 * b0) >>> 16)
  const other = a0 * b1 + (middle & 0xffff)
  const carry = a1 * b1 + (middle >>> 16) + (other >>> 16)
  return (carry + Math.imul(aHigh, bLow) + Math.imul(aLow, bHigh)) >>> 0
}
