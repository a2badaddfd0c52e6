import type { ReportData } from '../data.js'
import { type Box, gutter, margin, shareAt, type Theme, xOf } from './axes.js'
import { paintChart, paintOverview } from './chart.js'
import { describeBlock, describeStep, sayStep } from './describe.js'
import type { Browser, Canvas, Dom, Element, Pen, Pointer } from './dom.js'
import { headroom, paintArena, paintGroups, rectOf } from './map.js'
import { aliveAt, type Block, type Scale, type Timeline } from './timeline.js'
import { View } from './view.js'

declare const document: Dom
declare const window: Browser

type Pane = 'chart' | 'groups' | 'arena' | 'overview'

interface Layer {
  pane: Pane
  canvas: Canvas
  /** What does not change while the pointer moves. */
  still: Canvas
}

interface Brush {
  pane: Pane
  x: number
  y: number
  toX: number
  toY: number
}

/** One program's timeline: panes that share a time axis, a pointer and a keyboard cursor. */
export class Figure {
  private readonly view: View
  private readonly layers: Layer[]
  private step = -1
  private block?: Block
  private brush?: Brush
  private weights = false
  private stale = true
  private waiting = false

  constructor(
    private readonly root: Element,
    private readonly timeline: Timeline,
    private readonly data: ReportData,
    private readonly labels: Record<string, string>,
    private readonly theme: () => Theme,
    private readonly tip: Element,
  ) {
    this.view = new View(timeline)
    this.layers = [...root.querySelectorAll('canvas')].map(canvas => ({
      pane: canvas.dataset.pane as Pane,
      canvas: canvas as Canvas,
      still: document.createElement('canvas') as Canvas,
    }))
    for (const layer of this.layers) this.listen(layer)
    for (const button of root.querySelectorAll('button[data-do]'))
      button.addEventListener('click', () => this.act(button.dataset.do!))
    const scale = root.querySelector('select')!
    scale.addEventListener('change', () => {
      this.view.rescale(scale.value as Scale)
      this.draw()
    })
    const weights = root.querySelector('input')
    weights?.addEventListener('change', () => {
      this.weights = weights.checked
      this.draw()
    })
    this.say()
  }

  /** Draws all panes in the next frame; `still` content too unless told. */
  draw(stale = true): void {
    this.stale ||= stale
    if (this.waiting) return
    this.waiting = true
    window.requestAnimationFrame(() => {
      this.waiting = false
      this.paint()
    })
  }

  /** Shows a block's lifetime and marks it. */
  select(block: Block): void {
    this.block = block
    this.step = block.start
    this.view.show(block.start, block.end, 1)
    this.draw()
    this.say()
    this.root.scrollIntoView({ block: 'start' })
    this.root.querySelector('canvas[data-pane=arena]')!.focus()
    this.tellAtBlock()
  }

  private boxOf({ canvas }: Layer): Box {
    return { width: canvas.clientWidth, height: canvas.clientHeight }
  }

  private paint(): void {
    const theme = this.theme()
    const { view } = this
    for (const layer of this.layers) {
      const { canvas, still, pane } = layer
      const box = this.boxOf(layer)
      if (box.width === 0) return
      const ratio = window.devicePixelRatio || 1
      if (this.stale) {
        for (const each of [canvas, still]) {
          each.width = Math.round(box.width * ratio)
          each.height = Math.round(box.height * ratio)
        }
        const pen = still.getContext('2d')
        pen.setTransform(ratio, 0, 0, ratio, 0, 0)
        const { budget } = this.data
        if (pane === 'chart') paintChart(pen, view, theme, box, { budget, weights: this.weights })
        else if (pane === 'groups') paintGroups(pen, view, theme, box)
        else if (pane === 'arena') paintArena(pen, view, theme, box)
        else paintOverview(pen, view, theme, box)
      }
      const pen = canvas.getContext('2d')
      pen.setTransform(ratio, 0, 0, ratio, 0, 0)
      pen.clearRect(0, 0, box.width, box.height)
      pen.drawImage(still, 0, 0, box.width, box.height)
      if (pane !== 'overview') this.paintOver(pen, theme, layer, box)
    }
    this.stale = false
  }

  /** Cursor, marked block and brush. */
  private paintOver(pen: Pen, theme: Theme, { pane }: Layer, box: Box): void {
    if (this.step >= 0) {
      const x = (xOf(this.view, box, this.step) + xOf(this.view, box, this.step + 1)) / 2
      if (x >= gutter && x <= box.width - margin) {
        pen.globalAlpha = 0.55
        pen.fillStyle = theme.ink
        pen.fillRect(Math.round(x), 0, 1, box.height)
        pen.globalAlpha = 1
      }
    }
    if (pane === 'arena' && this.block) {
      const { x, y, width, height } = rectOf(this.view, box, this.block)
      const from = Math.max(x, gutter)
      pen.strokeStyle = theme.ink
      pen.lineWidth = 2
      pen.strokeRect(
        from - 1,
        y - 1,
        Math.min(x + width, box.width - margin) - from + 2,
        height + 2,
      )
    }
    if (this.brush && pane !== 'groups') {
      const { x, toX, y, toY } = this.brush
      const flat = !this.isBox(this.brush) || pane !== 'arena'
      pen.globalAlpha = 0.2
      pen.fillStyle = theme.accent
      pen.fillRect(
        Math.min(x, toX),
        flat ? 0 : Math.min(y, toY),
        Math.abs(toX - x),
        flat ? box.height : Math.abs(toY - y),
      )
      pen.globalAlpha = 1
    }
  }

  private isBox({ pane, y, toY }: Brush): boolean {
    return pane === 'arena' && Math.abs(toY - y) > 16
  }

  private listen(layer: Layer): void {
    const { canvas, pane } = layer
    const at = (event: Pointer) => {
      const { left, top } = canvas.getBoundingClientRect()
      return { x: event.clientX - left, y: event.clientY - top }
    }
    canvas.addEventListener('pointerdown', event => {
      if (event.button !== 0) return
      const { x, y } = at(event)
      canvas.setPointerCapture(event.pointerId)
      this.brush = { pane, x, y, toX: x, toY: y }
      if (pane === 'overview') this.centre(layer, x)
    })
    canvas.addEventListener('pointermove', event => {
      const { x, y } = at(event)
      if (this.brush) {
        this.brush.toX = x
        this.brush.toY = y
      }
      if (pane !== 'overview') this.point(layer, x, y, event)
      else if (this.brush) this.centre(layer, x)
    })
    canvas.addEventListener('pointerup', () => {
      const { brush } = this
      this.brush = undefined
      if (brush && pane !== 'overview' && Math.abs(brush.toX - brush.x) > 5)
        this.zoomTo(layer, brush)
    })
    canvas.addEventListener('pointercancel', () => {
      this.brush = undefined
    })
    canvas.addEventListener('pointerleave', () => {
      if (this.brush) return
      this.tip.hidden = true
      this.block = undefined
      this.step = -1
      this.draw(false)
      this.say()
    })
    canvas.addEventListener('dblclick', () => this.act('fit'))
    canvas.addEventListener('blur', () => {
      this.tip.hidden = true
    })
    canvas.addEventListener(
      'wheel',
      event => {
        const zooms = event.ctrlKey || event.metaKey
        const pans = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)
        if (!zooms && !pans) return
        event.preventDefault()
        if (zooms)
          this.view.zoom(Math.exp(-event.deltaY / 300), shareAt(this.boxOf(layer), at(event).x))
        else this.view.pan((event.deltaX || event.deltaY) / this.boxOf(layer).width)
        this.draw()
      },
      { passive: false },
    )
    if (pane !== 'overview') canvas.addEventListener('keydown', event => this.key(event))
  }

  private centre(layer: Layer, x: number): void {
    const { view } = this
    const middle = shareAt(this.boxOf(layer), x) * view.end
    view.pan((middle - (view.from + view.to) / 2) / (view.to - view.from))
    this.draw()
  }

  private zoomTo(layer: Layer, brush: Brush): void {
    const { view } = this
    const box = this.boxOf(layer)
    const [a, b] = [brush.x, brush.toX].map(x => shareAt(box, x)).sort((p, q) => p - q) as [
      number,
      number,
    ]
    if (this.isBox(brush)) {
      const span = view.high - view.low
      const [low, high] = [brush.y, brush.toY]
        .map(
          y =>
            view.low +
            (1 - Math.min(1, Math.max(0, (y - headroom) / (box.height - headroom)))) * span,
        )
        .sort((p, q) => p - q) as [number, number]
      view.low = low
      view.high = Math.max(high, low + 64)
    }
    view.zoom(1 / Math.max(b - a, 1e-4), a / (1 - (b - a) || 1))
    this.draw()
  }

  private point(layer: Layer, x: number, y: number, event: Pointer): void {
    const box = this.boxOf(layer)
    const inside = x >= gutter && x <= box.width - margin
    this.step = inside ? this.view.stepOf(shareAt(box, x)) : -1
    this.block = inside && layer.pane === 'arena' ? this.hit(box, x, y) : undefined
    this.draw(false)
    this.say()
    if (!inside || this.brush) this.tip.hidden = true
    else this.tell(layer.pane, event.clientX, event.clientY)
  }

  /** The block under a point; thin ones are met from a few pixels away. */
  private hit(box: Box, x: number, y: number): Block | undefined {
    let best: Block | undefined
    let nearest = 4
    for (const block of this.timeline.blocks) {
      const rect = rectOf(this.view, box, block)
      const dx = Math.max(rect.x - x, x - rect.x - rect.width, 0)
      const dy = Math.max(rect.y - y, y - rect.y - rect.height, 0)
      const distance = Math.max(dx, dy)
      if (distance < nearest || (distance === 0 && nearest === 0 && block.bytes < best!.bytes)) {
        best = block
        nearest = distance
      }
    }
    return best
  }

  private key(event: Pointer): void {
    const jump = event.shiftKey ? 10 : 1
    const moves: Record<string, () => void> = {
      ArrowRight: () => this.move(jump),
      ArrowLeft: () => this.move(-jump),
      Home: () => this.move(-this.timeline.steps),
      End: () => this.move(this.timeline.steps),
      ArrowUp: () => this.climb(1),
      ArrowDown: () => this.climb(-1),
      '+': () => this.act('nearer'),
      '=': () => this.act('nearer'),
      '-': () => this.act('farther'),
      '0': () => this.act('fit'),
      p: () => this.act('peak'),
      Escape: () => this.act('fit'),
    }
    const move = moves[event.key]
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    move()
  }

  /** The keyboard's cursor: a step, and a block alive there. */
  private move(by: number): void {
    const from = this.step < 0 ? this.timeline.program.peak.step : this.step + by
    this.step = Math.max(0, Math.min(this.timeline.steps - 1, from))
    this.view.reveal(this.step)
    const { block } = this
    if (!block || this.step < block.start || block.end <= this.step) this.block = undefined
    this.afterKey()
  }

  private climb(by: number): void {
    if (this.step < 0) this.step = this.timeline.program.peak.step
    const alive = aliveAt(this.timeline, this.step)
    const largest = alive.reduce(
      (most, block) => (block.bytes > most.bytes ? block : most),
      alive[0]!,
    )
    const at = this.block ? alive.indexOf(this.block) + by : alive.indexOf(largest)
    this.block = alive[Math.max(0, Math.min(alive.length - 1, at))]
    this.afterKey()
  }

  private afterKey(): void {
    this.draw(false)
    this.draw()
    this.say()
    const spoken = this.block
      ? describeBlock(this.block, this.timeline, this.labels).join('. ')
      : this.sayStep()
    this.root.querySelector('[aria-live]')!.textContent = spoken
    this.tellAtBlock()
  }

  /** Shows the marked block's tip beside it. */
  private tellAtBlock(): void {
    const layer = this.layers.find(({ pane }) => pane === 'arena')!
    const { left, top } = layer.canvas.getBoundingClientRect()
    const box = this.boxOf(layer)
    if (!this.block) {
      this.tip.hidden = true
      return
    }
    const rect = rectOf(this.view, box, this.block)
    const x = Math.max(gutter, Math.min(box.width - margin, xOf(this.view, box, this.step)))
    this.tell('arena', left + x, top + Math.max(0, Math.min(box.height, rect.y + rect.height / 2)))
  }

  private act(what: string): void {
    const { view, timeline } = this
    const { step } = timeline.program.peak
    const share = this.step < 0 ? 0.5 : Math.min(1, Math.max(0, view.shareOf(this.step)))
    if (what === 'fit') view.fit()
    else if (what === 'nearer') view.zoom(2, share)
    else if (what === 'farther') view.zoom(0.5, share)
    else if (what === 'left') view.pan(-0.5)
    else if (what === 'right') view.pan(0.5)
    else if (what === 'peak') {
      this.step = step
      view.show(Math.max(0, step - 8), Math.min(timeline.steps, step + 9), 0)
    }
    this.draw()
    this.say()
  }

  /** The line under the panes: what the cursor is on. */
  private say(): void {
    this.root.querySelector('.readout')!.textContent = this.sayStep()
  }

  private sayStep(): string {
    return this.step < 0
      ? 'Point at the picture, or focus it and use the arrow keys.'
      : sayStep(this.timeline, this.step)
  }

  private tell(pane: Pane, x: number, y: number): void {
    const lines =
      pane === 'arena'
        ? this.block && describeBlock(this.block, this.timeline, this.labels)
        : describeStep(this.timeline, this.step, pane)
    if (!lines || this.step < 0) {
      this.tip.hidden = true
      return
    }
    this.tip.replaceChildren(
      ...lines.map((line, i) => {
        const element = document.createElement(i === 0 ? 'strong' : 'span')
        element.textContent = line
        return element
      }),
    )
    this.tip.hidden = false
    const { offsetWidth, offsetHeight } = this.tip
    const left = x + 16 + offsetWidth > window.innerWidth ? x - offsetWidth - 12 : x + 16
    const top = Math.max(4, Math.min(y + 14, window.innerHeight - offsetHeight - 4))
    this.tip.style.left = `${Math.max(4, left)}px`
    this.tip.style.top = `${top}px`
  }
}
