import { closeSync, existsSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { elementCount, type Tensor } from '../../lib/program/tensor.js'
import type { WeightSource } from '../../lib/runtime/weights.js'

/** A file of float16 weights one after another, made where there is none. Values do not matter to what packs them. */
export function checkpointOf(weights: readonly Tensor[], path: string): WeightSource {
  const places = new Map<string, { shape: readonly number[]; offset: number; bytes: number }>()
  let end = 0
  for (const { name, shape } of weights) {
    const bytes = 2 * elementCount(shape)
    places.set(name, { shape, offset: end, bytes })
    end += bytes
  }
  if (!existsSync(path)) {
    mkdirSync(dirname(path), { recursive: true })
    const file = openSync(path, 'w')
    // 1 + i / 1024 in float16
    const piece = Uint16Array.from({ length: 1 << 21 }, (_, i) => 0x3c00 + (i % 1024))
    for (let at = 0; at < end; at += piece.byteLength)
      writeSync(file, new Uint8Array(piece.buffer, 0, Math.min(piece.byteLength, end - at)))
    closeSync(file)
  }
  return {
    where: path,
    find(key) {
      const place = places.get(key)
      return place && { path, dtype: 'f16', ...place }
    },
  }
}
