import type { Placement } from './greedy.js'

/** Ceilings to try, as multiples of the lower bound. */
const ceilings = [1, 1.001, 1.002, 1.0035, 1.005]
/** Lives longer than these shares of all time count as long. */
const longShares = [1 / 256, 1 / 128, 1 / 64]

/** A life [start, end) and its size, in units that offsets need no rounding for. */
interface Life {
  readonly start: number
  readonly end: number
  readonly size: number
}

/**
 * Buffers in the order of their births: long lives as low as they can lie, short ones as high as they can below a ceiling. For queues of
 * bands, whose long lives end in the order in which they began: short ones between them would leave holes. The lowest found; stops at `goal`.
 */
export function packFromTwoEnds(
  lives: readonly Life[],
  lowerBound: number,
  goal: number,
): Placement {
  const births = lives
    .map((_, i) => i)
    .filter(i => lives[i]!.start < lives[i]!.end)
    .sort((i, j) => lives[i]!.start - lives[j]!.start || lives[j]!.size - lives[i]!.size || i - j)
  const time = lives.reduce((last, { end }) => Math.max(last, end), 0)
  let best: Placement | undefined
  for (const factor of ceilings) {
    const ceiling = Math.floor(factor * lowerBound)
    for (const share of longShares) {
      const placement = place(lives, births, ceiling, share * time)
      if (!best || placement.height < best.height) best = placement
      if (best.height <= Math.max(goal, ceiling)) return best
    }
  }
  return best!
}

function place(
  lives: readonly Life[],
  births: readonly number[],
  ceiling: number,
  long: number,
): Placement {
  const offsets = new Float64Array(lives.length)
  /** By offset. */
  let alive: number[] = []
  let height = 0
  for (const i of births) {
    const { start, end, size } = lives[i]!
    alive = alive.filter(j => lives[j]!.end > start)
    let [lowest, highest, top] = [-1, -1, 0]
    const gap = (above: number) => {
      if (above - top < size) return
      if (lowest < 0) lowest = top
      highest = above - size
    }
    for (const j of alive) {
      gap(offsets[j]!)
      top = Math.max(top, offsets[j]! + lives[j]!.size)
    }
    gap(ceiling)
    // Nowhere below the ceiling: above all.
    if (lowest < 0) lowest = highest = top
    const offset = end - start > long ? lowest : highest
    offsets[i] = offset
    height = Math.max(height, offset + size)
    const next = alive.findIndex(j => offsets[j]! > offset)
    alive.splice(next < 0 ? alive.length : next, 0, i)
  }
  return { offsets, height }
}
