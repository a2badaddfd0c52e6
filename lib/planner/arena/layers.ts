import { FirstFit, type Placement } from './greedy.js'
import type { Problem } from './problem.js'

/** Shares of the lower bound at and above which a buffer counts as large, each tried. */
const largeShares = [0.002, 0.01]

/**
 * Packs in layers: the large buffers, few enough to be searched well, as if they were alone; then all of them again by first fit, the
 * large in the order of their offsets, the small in what is left, or the small that live long below everything. In the plan of a network a handful of
 * features and skips hold nearly all bytes, while most buffers are statistics, small projections and scratch, which only stand in a
 * search's way.
 * @param pack solves a part of the problem alone
 */
export function packInLayers(
  problem: Problem,
  enough: number,
  pack: (large: readonly number[]) => Float64Array,
): Placement | undefined {
  const { count, size, first, end, lowerBound } = problem
  const fit = new FirstFit(problem)
  let best: Placement | undefined
  for (const share of largeShares) {
    const large: number[] = []
    const small: number[] = []
    for (let i = 0; i < count; i++) (size[i]! >= share * lowerBound ? large : small).push(i)
    if (large.length === 0 || small.length === 0) continue
    const offsets = pack(large)
    const place = large.map((_, k) => k).sort((j, k) => offsets[j]! - offsets[k]! || j - k)
    const ordered = place.map(k => large[k]!)
    for (const order of orders(problem, ordered, small)) {
      const placement = fit.place(order)
      if (!best || placement.height < best.height) best = placement
      if (best.height <= enough) return best
    }
  }
  return best
}

function orders(
  { size, first, end, sections }: Problem,
  large: readonly number[],
  small: readonly number[],
): Int32Array[] {
  const life = (i: number) => end[i]! - first[i]!
  const by = (key: (i: number) => number, of: readonly number[]) =>
    [...of].sort((i, j) => key(j) - key(i) || size[j]! - size[i]! || i - j)
  const lasting = small.filter(i => life(i) * longLife >= sections)
  const passing = small.filter(i => life(i) * longLife < sections)
  return [
    [...large, ...by(life, small)],
    [...by(life, lasting), ...large, ...by(i => size[i]!, passing)],
    [...large, ...by(i => size[i]!, small)],
  ].map(order => Int32Array.from(order))
}

/** A small buffer lives long when it lives for this part of all sections. */
const longLife = 32
