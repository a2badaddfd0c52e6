/** Checkpoints that are damaged on purpose, and one of true size without data. */
import { cpSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AnimateDiff } from '../../lib/index.js'
import { root } from './recorded.js'

export const embedded = `${root}models/moving-shapes`
export const unetFile = 'unet/diffusion_pytorch_model.safetensors'
export const vaeFile = 'vae/diffusion_pytorch_model.safetensors'

/** A copy of the embedded checkpoint. */
export function copyModel(folder: string): string {
  cpSync(embedded, folder, { recursive: true })
  return folder
}

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>

/** Changes a safetensors file's header; the data stay. */
export function editHeader(path: string, edit: (header: Header) => void): void {
  const bytes = readFileSync(path)
  const length = Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Header
  edit(header)
  const json = Buffer.from(JSON.stringify(header))
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(json.length))
  writeFileSync(path, Buffer.concat([size, json, bytes.subarray(8 + length)]))
}

/** Public checkpoints' configurations, at true size, without weights. */
export const fullSize = `${root}tests/fixtures/configs/animatediff-sd15`

/** The full-size checkpoint with weight files whose headers are right and whose data are holes: gigabytes that take no disk. */
export async function sparseFullSize(folder: string): Promise<string> {
  cpSync(fullSize, folder, { recursive: true })
  const headers: Record<string, Header> = {}
  const ends: Record<string, number> = {}
  const { stages } = (await AnimateDiff.load(fullSize, { device: 'cpu' })).plan()
  const weights = new Map(
    stages.flatMap(stage => stage.weights.weights).map(({ tensor }) => [tensor.name, tensor]),
  )
  for (const { name, shape } of weights.values()) {
    const component = name.slice(0, name.indexOf('/'))
    const start = ends[component] ?? 0
    const end = start + 2 * shape.reduce((a, b) => a * b, 1)
    headers[component] = {
      ...headers[component],
      [name.slice(component.length + 1)]: {
        dtype: 'F16',
        shape: [...shape],
        data_offsets: [start, end],
      },
    }
    ends[component] = end
  }
  for (const [component, header] of Object.entries(headers)) {
    const json = Buffer.from(JSON.stringify(header))
    const size = Buffer.alloc(8)
    size.writeBigUInt64LE(BigInt(json.length))
    mkdirSync(join(folder, component), { recursive: true })
    const file = join(folder, component, 'model.safetensors')
    writeFileSync(file, Buffer.concat([size, json]))
    truncateSync(file, 8 + json.length + ends[component]!)
  }
  return folder
}
