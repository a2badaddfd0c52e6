import { FirstFit, type Placement } from './greedy.js'
import type { Problem } from './problem.js'

/** Lives longer than these shares of all time count as long. */
const longShares = [1 / 10, 1 / 4, 1 / 6, 1 / 12]

/**
 * First fit of the long lives in the order of their births, then of the others by size. A tensor in bands is a queue: its bands are born
 * one by one, wait, and die in the same order as the next tensor's are born. Laid down in that order, each finds the room of one that went.
 */
export function packInQueues(problem: Problem, enough: number): Placement | undefined {
  const { count, size, first, end, sections } = problem
  const fit = new FirstFit(problem)
  let best: Placement | undefined
  for (const share of longShares) {
    const long: number[] = []
    const short: number[] = []
    for (let i = 0; i < count; i++) (end[i]! - first[i]! > share * sections ? long : short).push(i)
    const bySize = (i: number, j: number) => size[j]! - size[i]! || i - j
    long.sort((i, j) => first[i]! - first[j]! || bySize(i, j))
    const placement = fit.place(Int32Array.from([...long, ...short.sort(bySize)]))
    if (!best || placement.height < best.height) best = placement
    if (best.height <= enough) return best
  }
  return best
}
