import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { readSafetensorsHeader } from '../../lib/io/safetensors.js'
import { SafetensorsWriter } from '../../lib/io/safetensors-writer.js'
import type { Program } from '../../lib/program/index.js'
import { elementCount } from '../../lib/program/tensor.js'
import type { WeightSource } from '../../lib/runtime/weights.js'
import { networks } from '../../tests/support/networks.js'
import { seededTensor } from '../../tests/support/seeded.js'

/** A network as one step runs it. */
export interface Question {
  readonly name: string
  /** In tests/support/networks.ts. */
  readonly network: string
  readonly size: { frames: number; rows: number; cols: number }
  /** Runs of the program that make one step: two where guidance asks for both halves of the batch. */
  readonly halves: number
}

export const questions: readonly Question[] = [
  {
    name: 'vae',
    network: 'vae decoder',
    size: { frames: 1, rows: 512, cols: 512 },
    halves: 1,
  },
  {
    name: 'animatediff',
    network: 'animatediff unet',
    size: { frames: 16, rows: 256, cols: 256 },
    halves: 2,
  },
  { name: 'svd', network: 'svd unet', size: { frames: 14, rows: 256, cols: 256 }, halves: 2 },
]

export const titles: Readonly<Record<string, string>> = {
  animatediff: 'AnimateDiff, Stable Diffusion 1.5: a guided step, 16 frames of 256 x 256',
  svd: 'Stable Video Diffusion: a guided step, 14 frames of 256 x 256',
  vae: 'VAE: decoding a frame of 512 x 512',
}

export function programOf({ network, size }: Question): Program {
  return networks[network]!(size)
}

/**
 * The network's weights in one file, made where there is none: float32, seeded by name, so that both sides hold the same.
 * Inputs lie in it as `input/…`.
 * @returns its path
 */
export async function weightFile(program: Program, folder: string, name: string): Promise<string> {
  const path = join(folder, `${name}.safetensors`)
  if (existsSync(path)) return path
  mkdirSync(folder, { recursive: true })
  const inputs = Object.values(program.inputs)
  const tensors = [
    ...inputs.map(({ name, shape }) => ({ key: `input/${name}`, shape })),
    ...program.weights
      .filter(({ fallback }) => !fallback)
      .map(({ name, shape }) => ({ key: name, shape })),
  ]
  const writer = await SafetensorsWriter.open(
    path,
    tensors.map(({ key, shape }) => ({ key, shape, dtype: 'F32' as const })),
  )
  const piece = 1 << 22
  try {
    for (const { key, shape } of tensors) {
      const count = elementCount(shape)
      for (let at = 0; at < count; at += piece) {
        const values = seededTensor(key, shape, at, Math.min(piece, count - at))
        if (key === 'input/timestep') values.fill(500)
        if (key === 'input/added_time_ids') values.set([6, 127, 0.02])
        await writer.append(values)
      }
    }
  } catch (error) {
    await writer.abort()
    throw error
  }
  await writer.close()
  return path
}

export function weightsIn(path: string): WeightSource {
  const entries = readSafetensorsHeader(path).tensors
  return {
    where: path,
    find(key) {
      const entry = entries.get(key)
      return (
        entry && {
          path,
          dtype: 'f32',
          shape: entry.shape,
          offset: entry.offset,
          bytes: entry.bytes,
        }
      )
    },
  }
}
