import { formatBytes } from '../../units.js'
import {
  type Box,
  clipped,
  font,
  grid,
  gutter,
  label,
  margin,
  shareAt,
  type Theme,
  tail,
} from './axes.js'
import type { Pen } from './dom.js'
import type { View } from './view.js'

export interface ChartOptions {
  budget?: number
  /** Whether the weights stand under the arena. */
  weights: boolean
}

/** Live bytes over steps, stacked by kind, with budget, arena, lower bound and peak. */
export function paintChart(
  pen: Pen,
  view: View,
  theme: Theme,
  box: Box,
  options: ChartOptions,
): void {
  const { stage, program, stacks, steps } = view.timeline
  const under = options.weights ? stage.weightBytes : 0
  const arena = under + stage.arenaBytes
  const budget =
    options.budget === undefined
      ? undefined
      : options.budget - (options.weights ? 0 : stage.weightBytes)
  const seen = budget !== undefined && budget <= arena * 1.6
  const high = Math.max(1, (seen ? Math.max(arena, budget) : arena) * 1.16)
  const y = (bytes: number) => box.height - (bytes / high) * box.height
  pen.clearRect(0, 0, box.width, box.height)
  grid(pen, theme, box, 0, high, 0)

  const total = (step: number) => stacks.reduce((sum, { bytes }) => sum + bytes[step]!, 0)
  const totals = new Float64Array(steps).map((_, step) => total(step))
  clipped(pen, box, () => {
    if (under > 0) {
      pen.fillStyle = theme.line
      pen.fillRect(gutter, y(under), box.width, box.height)
      pen.fillStyle = theme.muted
      pen.textAlign = 'left'
      pen.textBaseline = 'bottom'
      pen.fillText(`weights ${formatBytes(under)}`, gutter + 6, box.height - 4)
    }
    let next = view.stepOf(shareAt(box, gutter))
    for (let x = gutter; x < box.width - margin; x++) {
      // Of the steps that fall into one pixel, the fullest.
      const last = view.stepOf(shareAt(box, x + 0.999))
      let most = Math.min(next, last)
      for (let step = most; step <= last; step++) if (totals[step]! > totals[most]!) most = step
      next = last
      let base = under
      for (const { kind, bytes } of stacks) {
        if (!bytes[most]) continue
        pen.fillStyle = theme.kinds[kind]!
        const bottom = y(base)
        base += bytes[most]!
        pen.fillRect(x, y(base), 1, bottom - y(base))
      }
    }
  })

  const bound = under + program.base + program.lowerBound
  const own = under + program.base + program.bytes
  const tight = own - bound <= 0.002 * own
  const what = under > 0 ? 'weights and arena' : 'arena'
  const levels: Level[] = [
    {
      y: y(own),
      colour: theme.ink,
      dashes: [],
      text: `${what} ${formatBytes(own)}${tight && box.width > 560 ? ', at the lower bound' : ''}`,
      at: 'left',
    },
  ]
  if (!tight) {
    const text = `lower bound ${formatBytes(bound)}`
    levels.push({ y: y(bound), colour: theme.muted, dashes: [2, 3], text, at: 'below' })
  }
  if (budget !== undefined) {
    const text = `budget${options.weights || !stage.weightBytes ? '' : ' less weights'} ${formatBytes(budget)}`
    if (seen) levels.push({ y: y(budget), colour: theme.danger, dashes: [6, 4], text, at: 'right' })
    else note(pen, box, theme.danger, `${text}: above this chart`)
  }
  for (const each of levels) line(pen, box, each)
  for (const { y, colour, text, at } of levels) {
    const side = at === 'left' ? 'left' : 'right'
    const x = side === 'left' ? gutter + 4 : box.width - margin - 4
    label(pen, theme, [[text, colour]], x, at === 'below' ? y + 10 : y - 9, side)
  }
  paintPeak(pen, view, theme, box, y(under + (totals[program.peak.step] ?? 0)))
}

interface Level {
  y: number
  colour: string
  dashes: readonly number[]
  text: string
  /** Above the line at either end, or below it at the right: so no two labels meet where lines coincide. */
  at: 'left' | 'right' | 'below'
}

function line(pen: Pen, box: Box, { y, colour, dashes }: Level): void {
  pen.strokeStyle = colour
  pen.lineWidth = 1
  pen.setLineDash(dashes)
  pen.beginPath()
  pen.moveTo(gutter, Math.round(y) + 0.5)
  pen.lineTo(box.width - margin, Math.round(y) + 0.5)
  pen.stroke()
  pen.setLineDash([])
}

function note(pen: Pen, box: Box, colour: string, text: string): void {
  pen.font = font
  pen.fillStyle = colour
  pen.textAlign = 'right'
  pen.textBaseline = 'top'
  pen.fillText(`↑ ${text}`, box.width - margin - 4, 3)
}

function paintPeak(pen: Pen, view: View, theme: Theme, box: Box, y: number): void {
  const { program } = view.timeline
  const { step, op, buffers } = program.peak
  if (op < 0) return
  const share = (view.shareOf(step) + view.shareOf(step + 1)) / 2
  if (share < 0 || share > 1) return
  const x = gutter + share * (box.width - gutter - margin)
  pen.fillStyle = theme.danger
  pen.strokeStyle = theme.panel
  pen.lineWidth = 2
  pen.beginPath()
  pen.arc(x, y, 5, 0, 2 * Math.PI)
  pen.fill()
  pen.stroke()
  const left = share < 0.55
  const room = Math.floor((left ? box.width - x : x - gutter) / 7) - 12
  const name = (text: string) => tail(text, Math.max(8, Math.min(52, room)))
  const largest = buffers.slice(0, 2).map((b): [string, string] => {
    const [text, bytes] = [program.strings[program.buffers.name[b]!]!, program.buffers.bytes[b]!]
    return [`${name(text)} ${formatBytes(bytes)}`, theme.muted]
  })
  const lines: [string, string][] = [
    [`peak in ${name(program.ops.name[op]!)}`, theme.ink],
    ...largest,
  ]
  label(pen, theme, lines, left ? x + 12 : x - 12, y + 14, left ? 'left' : 'right')
}

/** The whole of time, with what is shown marked. */
export function paintOverview(pen: Pen, view: View, theme: Theme, box: Box): void {
  const { live, steps } = view.timeline.program
  const most = Math.max(1, view.timeline.program.lowerBound)
  const width = box.width - gutter - margin
  pen.clearRect(0, 0, box.width, box.height)
  pen.fillStyle = theme.muted
  for (let step = 0; step < steps; step++) {
    const x = gutter + (view.marks[step]! / view.end) * width
    const next = gutter + (view.marks[step + 1]! / view.end) * width
    const height = (live[step]! / most) * (box.height - 4)
    pen.fillRect(x, box.height - height, Math.max(next - x, 0.6), height)
  }
  const [from, to] = [
    gutter + (view.from / view.end) * width,
    gutter + (view.to / view.end) * width,
  ]
  pen.globalAlpha = 0.2
  pen.fillStyle = theme.accent
  pen.fillRect(from, 0, to - from, box.height)
  pen.globalAlpha = 1
  pen.strokeStyle = theme.accent
  pen.lineWidth = 1.5
  pen.strokeRect(from + 0.75, 0.75, Math.max(to - from - 1.5, 2), box.height - 1.5)
  pen.font = font
  pen.fillStyle = theme.muted
  pen.textAlign = 'right'
  pen.textBaseline = 'middle'
  pen.fillText('overview', gutter - 6, box.height / 2)
}
