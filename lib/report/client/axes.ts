import { formatBytes } from '../../units.js'
import type { Pen } from './dom.js'
import type { View } from './view.js'

export interface Theme {
  ink: string
  muted: string
  line: string
  panel: string
  accent: string
  danger: string
  kinds: Record<string, string>
  axes: Record<string, string>
}

export interface Box {
  width: number
  height: number
}

/** Space for the labels of the vertical axis, in pixels. */
export const gutter = 76

export const margin = 10

export const font = '11px system-ui, sans-serif'

/** Horizontal pixel at which a step begins. */
export function xOf(view: View, box: Box, step: number): number {
  return gutter + view.shareOf(step) * (box.width - gutter - margin)
}

/** Share of the plot's width at a pixel. */
export function shareAt(box: Box, x: number): number {
  return Math.min(1, Math.max(0, (x - gutter) / (box.width - gutter - margin)))
}

/** Round byte counts from `low` to `high`, in binary units, at most `most`. */
export function ticks(low: number, high: number, most: number): number[] {
  const span = high - low
  const unit = 1024 ** Math.max(0, Math.floor(Math.log(span / 2) / Math.log(1024)))
  const factors = [0.25, 0.5, 1, 2, 4, 5, 10, 20, 25, 50, 100, 128, 256, 512]
  const factor = factors.find(f => span / (f * unit) <= most) ?? 1024
  const step = Math.max(1, factor * unit)
  const found: number[] = []
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) found.push(at)
  return found
}

/** Draws inside the plot only. */
export function clipped(pen: Pen, box: Box, draw: () => void): void {
  pen.save()
  pen.beginPath()
  pen.rect(gutter, 0, box.width - gutter - margin, box.height)
  pen.clip()
  draw()
  pen.restore()
}

export function grid(
  pen: Pen,
  theme: Theme,
  box: Box,
  low: number,
  high: number,
  top: number,
): void {
  pen.font = font
  pen.textAlign = 'right'
  pen.textBaseline = 'middle'
  for (const at of ticks(low, high, 6)) {
    const y = box.height - ((at - low) / (high - low)) * (box.height - top)
    pen.fillStyle = theme.line
    pen.fillRect(gutter, Math.round(y), box.width - gutter - margin, 1)
    pen.fillStyle = theme.muted
    if (y > 6) pen.fillText(formatBytes(at), gutter - 6, Math.min(y, box.height - 6))
  }
}

/** Lines of text with their colours, on a patch of the panel's colour, so that they read over anything. */
export function label(
  pen: Pen,
  theme: Theme,
  lines: [text: string, colour: string][],
  x: number,
  y: number,
  align: 'left' | 'right',
): void {
  pen.font = font
  const width = Math.max(...lines.map(([text]) => pen.measureText(text).width))
  pen.globalAlpha = 0.9
  pen.fillStyle = theme.panel
  pen.fillRect(align === 'left' ? x - 4 : x - width - 4, y - 8, width + 8, 15 * lines.length)
  pen.globalAlpha = 1
  pen.textAlign = align
  pen.textBaseline = 'middle'
  lines.forEach(([text, colour], i) => {
    pen.fillStyle = colour
    pen.fillText(text, x, y + 15 * i)
  })
}

/** The end of a long name tells more than its begin. */
export function tail(text: string, most: number): string {
  return text.length <= most ? text : `…${text.slice(text.length - most + 1)}`
}
