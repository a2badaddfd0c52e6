import { formatBytes } from '../../units.js'
import { type Box, clipped, font, grid, gutter, margin, type Theme, tail, xOf } from './axes.js'
import type { Pen } from './dom.js'
import { type Block, kindOf } from './timeline.js'
import type { View } from './view.js'

/** Groups above, what is sliced once more inside them below; both with axis and count. */
export function paintGroups(pen: Pen, view: View, theme: Theme, box: Box): void {
  pen.clearRect(0, 0, box.width, box.height)
  const outer = box.height - 15
  pen.font = font
  pen.textAlign = 'right'
  pen.textBaseline = 'middle'
  pen.fillStyle = theme.muted
  pen.fillText('groups', gutter - 6, outer / 2)
  pen.fillText('inner', gutter - 6, outer + 8)
  clipped(pen, box, () => {
    for (const group of view.timeline.program.groups) {
      const end = group.start + group.ops * group.passes
      const [x0, x1] = [xOf(view, box, group.start), xOf(view, box, end)]
      if (x1 < gutter || x0 > box.width - margin) continue
      const sliced = group.slices > 1
      band(pen, theme, x0, x1, 1, outer - 2, sliced ? axisColour(theme, group.axis) : theme.line)
      if (sliced) fitText(pen, theme, `${group.slices} × ${group.axis}`, x0, x1, outer / 2)
      for (let pass = 0; pass < group.passes; pass++) {
        for (const { first, last, axis, slices } of group.inner) {
          const begin = group.start + pass * group.ops
          const [a, b] = [xOf(view, box, begin + first), xOf(view, box, begin + last + 1)]
          band(pen, theme, a, b, outer + 1, 13, axisColour(theme, axis))
          fitText(pen, theme, `${slices} × ${axis}`, a, b, outer + 8)
        }
      }
    }
  })
}

export function axisColour(theme: Theme, axis: string | null): string {
  return theme.axes[axis ?? ''] ?? theme.axes.other!
}

function band(
  pen: Pen,
  theme: Theme,
  x0: number,
  x1: number,
  y: number,
  height: number,
  colour: string,
): void {
  const width = Math.max(x1 - x0, 0.75)
  pen.fillStyle = colour
  pen.fillRect(x0, y, width, height)
  if (width < 3) return
  pen.fillStyle = theme.panel
  pen.fillRect(x1 - 1, y, 1, height)
}

function fitText(pen: Pen, theme: Theme, text: string, x0: number, x1: number, y: number): void {
  const [from, to] = [Math.max(x0, gutter), x1]
  pen.font = font
  if (to - from < 24 || pen.measureText(text).width > to - from - 6) return
  pen.fillStyle = theme.panel
  pen.textAlign = 'left'
  pen.textBaseline = 'middle'
  pen.fillText(text, from + 4, y)
}

export interface Rect {
  x: number
  y: number
  width: number
  height: number
}

/** Pixels above the arena's end, so that what lies there is seen. */
export const headroom = 5

/** Where a block stands in the arena map; at least a pixel high. */
export function rectOf(view: View, box: Box, block: Block): Rect {
  const scale = (box.height - headroom) / (view.high - view.low)
  const x = xOf(view, box, block.start)
  const bottom = box.height - (block.offset - view.low) * scale
  const height = Math.max(block.bytes * scale, 1)
  return { x, y: bottom - height, width: Math.max(xOf(view, box, block.end) - x, 1), height }
}

function isOutside({ x, y, width, height }: Rect, box: Box): boolean {
  return x + width < gutter || x > box.width - margin || y + height < 0 || y > box.height
}

/** The arena map: time to the right, offsets upwards. */
export function paintArena(pen: Pen, view: View, theme: Theme, box: Box): void {
  const kinds = Object.keys(theme.kinds)
  pen.clearRect(0, 0, box.width, box.height)
  grid(pen, theme, box, view.low, view.high, headroom)
  clipped(pen, box, () => {
    const rects = view.timeline.blocks.map(block => ({ block, rect: rectOf(view, box, block) }))
    for (const { block, rect } of rects) {
      if (isOutside(rect, box)) continue
      pen.fillStyle = theme.kinds[kindOf(block.kind, kinds)]!
      pen.fillRect(rect.x, rect.y, rect.width, rect.height)
      if (rect.width < 4 || rect.height < 4) continue
      pen.strokeStyle = theme.panel
      pen.lineWidth = 1
      pen.strokeRect(rect.x + 0.5, rect.y + 0.5, rect.width - 1, rect.height - 1)
    }
    for (const { block, rect } of rects)
      if (!isOutside(rect, box)) title(pen, theme, box, block, rect)
  })
}

function title(pen: Pen, theme: Theme, box: Box, block: Block, rect: Rect): void {
  const from = Math.max(rect.x, gutter)
  const room = Math.min(rect.x + rect.width, box.width - margin) - from - 8
  const middle = (Math.max(0, rect.y) + Math.min(box.height, rect.y + rect.height)) / 2
  if (room < 60 || rect.height < 14) return
  pen.font = font
  const text = tail(block.name, Math.floor(room / 5.6))
  if (pen.measureText(text).width > room) return
  pen.fillStyle = theme.panel
  pen.textAlign = 'left'
  pen.textBaseline = 'middle'
  pen.fillText(text, from + 5, rect.height < 30 ? middle : middle - 6)
  if (rect.height >= 30) pen.fillText(formatBytes(block.bytes), from + 5, middle + 8)
}
