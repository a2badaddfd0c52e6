import type { Frontier, FrontierPoint } from '../planner/frontier.js'
import { formatBytes } from '../units.js'

const size = { width: 640, height: 400 }
const margin = { left: 72, right: 24, top: 40, bottom: 56 }

/** A frontier as a self-contained SVG: predicted time over peak memory (logarithmic), a step for every point. */
export function frontierChart({ points, cost }: Frontier, title: string): string {
  const bytes = points.map(({ peakBytes }) => peakBytes)
  const [low, high] = widened(Math.log2(Math.min(...bytes)), Math.log2(Math.max(...bytes)))
  const most = Math.max(...points.map(({ seconds }) => seconds)) * 1.05
  const x = (peakBytes: number) =>
    margin.left +
    ((Math.log2(peakBytes) - low) / (high - low)) * (size.width - margin.left - margin.right)
  const y = (seconds: number) =>
    size.height - margin.bottom - (seconds / most) * (size.height - margin.top - margin.bottom)
  const bottom = size.height - margin.bottom
  const right = size.width - margin.right
  const xTicks = ticksBetween(low, high).map(
    at =>
      `<path class="grid" d="M${px(x(2 ** at))} ${margin.top}V${bottom}"/>` +
      `<text x="${px(x(2 ** at))}" y="${bottom + 18}" text-anchor="middle">${formatBytes(2 ** at)}</text>`,
  )
  const step = niceStep(most / 5)
  const yTicks = Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step).map(
    at =>
      `<path class="grid" d="M${margin.left} ${px(y(at))}H${right}"/>` +
      `<text x="${margin.left - 8}" y="${px(y(at) + 4)}" text-anchor="end">${round(at)} s</text>`,
  )
  const line = points.reduce(
    (path, { peakBytes, seconds }, i) =>
      `${path}${i === 0 ? `M${px(x(peakBytes))} ${px(y(seconds))}` : `H${px(x(peakBytes))}V${px(y(seconds))}`}`,
    '',
  )
  const marks = points.map(
    point =>
      `<circle cx="${px(x(point.peakBytes))}" cy="${px(y(point.seconds))}" r="4"><title>${escaped(describe(point))}</title></circle>`,
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size.width} ${size.height}" font-family="system-ui, sans-serif" font-size="12">
<style>
svg { background: #fff; color: #1d2733 }
text { fill: currentColor }
.grid { stroke: currentColor; stroke-opacity: .12 }
.line { fill: none; stroke: #2f6fde; stroke-width: 2 }
circle { fill: #2f6fde }
@media (prefers-color-scheme: dark) { svg { background: #14181d; color: #dfe5ec } .line { stroke: #7aa8ff } circle { fill: #7aa8ff } }
</style>
<text x="${margin.left}" y="22" font-size="14">${escaped(title)}</text>
${[...xTicks, ...yTicks].join('\n')}
<path class="line" d="${line}H${right}"/>
${marks.join('\n')}
<text x="${margin.left}" y="${size.height - 12}">peak memory; predicted time, ${escaped(cost)}</text>
</svg>
`
}

function describe({ peakBytes, seconds, slices }: FrontierPoint): string {
  return `${formatBytes(peakBytes)}, ${round(seconds)} s, ${slices === 1 ? 'no slices' : `up to ${slices} slices`}`
}

/** Room on both sides, and an axis even for a single point. */
function widened(low: number, high: number): [number, number] {
  const room = Math.max(0.15, (high - low) * 0.05)
  return [low - room, high + room]
}

/** Powers of two, or of their roots where few fall in between. */
function ticksBetween(low: number, high: number): number[] {
  const step = [1, 0.5, 0.25, 0.1, 0.05].find(step => (high - low) / step >= 3) ?? 0.05
  const first = Math.ceil(low / step)
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step)
}

function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least))
  return power * [1, 2, 5, 10].find(factor => power * factor >= least)!
}

const px = (value: number): string => value.toFixed(1)
const round = (seconds: number): string => `${Number(seconds.toPrecision(3))}`

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, found => `&#${found.charCodeAt(0)};`)
}
