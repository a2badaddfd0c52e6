import { writeFile } from 'node:fs/promises'
import { replaceFile } from '../io/atomic.js'
import { loadSharp } from '../io/sharp.js'
import type { MapDocument } from './map-file.js'

const cell = 6
const gap = 24
const label = 18
const left = 24
const top = 56
const across = 4

/** From unlike to alike: dark violet, blue, green, yellow. */
const ramp = [
  [68, 1, 84],
  [59, 82, 139],
  [33, 145, 140],
  [94, 201, 98],
  [253, 231, 37],
] as const

/** The cosine maps of a document as tiles, one a feature: step against step, from the upper left corner. */
export function mapChart({ features, scheduler, timesteps, prompts }: MapDocument): string {
  const entries = Object.entries(features)
  const steps = timesteps.length
  const side = steps * cell
  const columns = Math.min(across, entries.length)
  const rows = Math.ceil(entries.length / columns)
  // What is rarest decides little: the scale begins at the tenth part of all values.
  const values = entries.flatMap(([, { cosine }]) => cosine.flat()).sort((a, b) => a - b)
  const low = Math.min(values[Math.floor(values.length / 10)]!, 0.999)
  const pitch = Math.max(side, 210) + gap
  const width = left + columns * pitch
  const height = top + rows * (side + label + gap) + 8
  const tiles = entries.map(([name, { cosine }], i) => {
    const x = left + (i % columns) * pitch
    const y = top + Math.floor(i / columns) * (side + label + gap) + label
    const cells = cosine.flatMap((row, r) =>
      row.map(
        (value, c) =>
          `<rect x="${x + c * cell}" y="${y + r * cell}" width="${cell}" height="${cell}" fill="${colour((value - low) / (1 - low))}"/>`,
      ),
    )
    return `<text x="${x}" y="${y - 6}">${escaped(name)}</text>${cells.join('')}`
  })
  const scale = Array.from(
    { length: 100 },
    (_, i) => `<rect x="${left + i}" y="34" width="1" height="10" fill="${colour(i / 99)}"/>`,
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="DejaVu Sans, sans-serif" font-size="11" shape-rendering="crispEdges">
<rect width="${width}" height="${height}" fill="#fff"/>
<text x="${left}" y="20" font-size="13">Cosine similarity between steps: ${steps} steps of ${escaped(scheduler)}, ${prompts.length} runs</text>
${scale.join('')}
<text x="${left + 108}" y="43">${low.toFixed(3)} or less, to 1</text>
${tiles.join('\n')}
</svg>
`
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, found => `&#${found.charCodeAt(0)};`)
}

function colour(share: number): string {
  const at = Math.min(1, Math.max(0, share)) * (ramp.length - 1)
  const i = Math.min(ramp.length - 2, Math.floor(at))
  const mixed = ramp[i]!.map((from, channel) => {
    const to = ramp[i + 1]![channel]!
    return Math.round(from + (to - from) * (at - i))
  })
  return `rgb(${mixed.join(',')})`
}

/** Writes the picture as PNG, or as SVG where the file is named so. @throws FileError */
export async function writeMapPicture(path: string, document: MapDocument): Promise<void> {
  const svg = Buffer.from(mapChart(document))
  const bytes = path.toLowerCase().endsWith('.svg')
    ? svg
    : await (await loadSharp())(svg).png().toBuffer()
  await replaceFile(path, temporary => writeFile(temporary, bytes))
}
