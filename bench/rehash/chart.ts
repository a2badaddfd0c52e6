/** The picture of bench/rehash.ts. */
import { counts, steps } from './cases.js'
import type { Row } from './table.js'

const inks = ['#2f6fde', '#8a5cd6', '#7a7f87', '#d9480f', '#2b8a3e']
const [width, height] = [720, 440]
const box = { left: 60, right: width - 150, top: 40, bottom: height - 50 }

/** PSNR over speed-up, a line for each policy, as SVG. */
export function chart(rows: readonly Row[]): string {
  const own = rows.filter(row => row.case.group === 'policies')
  const low = Math.floor(Math.min(...own.map(row => row.psnr)) / 5) * 5
  const high = Math.ceil(Math.max(...own.map(row => row.psnr)) / 5) * 5
  const most = Math.ceil(Math.max(...own.map(row => row.speedup)))
  const x = (speedup: number) =>
    px(box.left + ((speedup - 1) / (most - 1)) * (box.right - box.left))
  const y = (psnr: number) =>
    px(box.bottom - ((psnr - low) / (high - low)) * (box.bottom - box.top))
  const grid = [
    ...rising(1, most, 0.5).map(at => [
      `M${x(at)} ${box.top}V${box.bottom}`,
      `<text x="${x(at)}" y="${box.bottom + 18}" text-anchor="middle">${at} x</text>`,
    ]),
    ...rising(low, high, 5).map(at => [
      `M${box.left} ${y(at)}H${box.right}`,
      `<text x="${box.left - 8}" y="${y(at)}" dy="4" text-anchor="end">${at} dB</text>`,
    ]),
  ]
  const lines = [...new Set(own.map(row => row.case.name))].map((name, i) => {
    const points = own.filter(row => row.case.name === name).sort((a, b) => a.speedup - b.speedup)
    const ink = inks[i % inks.length]
    const path = points.map(row => `${x(row.speedup)} ${y(row.psnr)}`).join('L')
    const dots = points.map(
      row =>
        `<circle cx="${x(row.speedup)}" cy="${y(row.psnr)}" r="4"><title>${words(row)}</title></circle>`,
    )
    const [left, middle] = [box.right + 16, box.top + 10 + i * 20]
    return `<g fill="${ink}"><path d="M${path}" fill="none" stroke="${ink}" stroke-width="2"/>${dots.join('')}
<rect x="${left}" y="${middle - 6}" width="14" height="4"/><text x="${left + 20}" y="${middle}" fill="#1d2733">${name}</text></g>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12" fill="#1d2733">
<rect width="${width}" height="${height}" fill="#fff"/>
<text x="${box.left}" y="22" font-size="14">PSNR to the full run over speed-up of denoising: ${counts.join(', ')} full steps of ${steps}</text>
<path d="${grid.map(([line]) => line).join('')}" stroke="#1d2733" stroke-opacity=".12" fill="none"/>
${grid.map(([, label]) => label).join('\n')}
${lines.join('\n')}
</svg>
`
}

function words({ case: { name }, psnr, fullSteps, speedup }: Row): string {
  return `${name}: ${psnr.toFixed(1)} dB, ${fullSteps.toFixed(1)} full steps, ${speedup.toFixed(2)} x`
}

const px = (value: number): string => value.toFixed(1)

function rising(from: number, to: number, step: number): number[] {
  return Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => from + i * step)
}
