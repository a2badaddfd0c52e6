import { type Scale, stepAt, type Timeline } from './timeline.js'

/** What of time and of offsets is shown. */
export class View {
  scale: Scale = 'steps'
  /** Marks of the time axis. */
  from = 0
  to = 1
  /** Offsets in bytes. */
  low = 0
  high = 1

  constructor(readonly timeline: Timeline) {
    this.fit()
  }

  get marks(): Float64Array {
    return this.timeline.marks[this.scale]
  }

  get end(): number {
    return this.marks[this.marks.length - 1]!
  }

  get isZoomed(): boolean {
    return (
      this.from > 0 ||
      this.to < this.end ||
      this.low > 0 ||
      this.high < this.timeline.stage.arenaBytes
    )
  }

  fit(): void {
    this.from = 0
    this.to = this.end
    this.low = 0
    this.high = Math.max(1, this.timeline.stage.arenaBytes)
  }

  /** The same steps on another scale. */
  rescale(scale: Scale): void {
    const [first, last] = [this.stepOf(0), this.stepOf(1 - 1e-9)]
    const whole = this.from <= 0 && this.to >= this.end
    this.scale = scale
    this.from = whole ? 0 : this.marks[first]!
    this.to = whole ? this.end : this.marks[last + 1]!
  }

  /** Share of the width, 0 to 1 inside what is shown, at which a step begins. */
  shareOf(step: number): number {
    return (this.marks[step]! - this.from) / (this.to - this.from)
  }

  stepOf(share: number): number {
    return stepAt(this.marks, this.from + share * (this.to - this.from))
  }

  /** Nearer (above 1) or farther, the given share of the width staying where it is. */
  zoom(factor: number, share = 0.5): void {
    const width = Math.min(this.end, Math.max((this.to - this.from) / factor, this.end / 1e5))
    const anchor = this.from + share * (this.to - this.from)
    this.from = anchor - share * width
    this.to = this.from + width
    this.clamp()
  }

  pan(share: number): void {
    const width = this.to - this.from
    this.from += share * width
    this.to = this.from + width
    this.clamp()
  }

  /** Shows steps first to last - 1 with a margin on both sides. */
  show(first: number, last: number, margin = 0.25): void {
    const [from, to] = [this.marks[first]!, this.marks[last]!]
    this.from = from - margin * (to - from)
    this.to = to + margin * (to - from)
    this.clamp()
  }

  /** Puts a step into view when it is not. */
  reveal(step: number): void {
    const share = this.shareOf(step)
    if (share < 0 || share > 1) this.pan(share - 0.5)
  }

  private clamp(): void {
    const width = Math.min(this.to - this.from, this.end)
    this.from = Math.max(0, Math.min(this.from, this.end - width))
    this.to = this.from + width
  }
}
