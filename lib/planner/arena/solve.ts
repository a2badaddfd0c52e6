import { chain } from './chains.js'
import { FirstFit, greedyOrder, greedyOrders, type Order, type Placement } from './greedy.js'
import { partsOf } from './parts.js'
import { Ladder } from './portfolio.js'
import { type Problem, withoutGaps } from './problem.js'
import { Reordering } from './reorder.js'

export interface Solution extends Placement {
  /** No height below this is possible, as far as was proved. */
  lowerBound: number
  nodes: number
}

/**
 * Offsets with a height of `goal` units or less, or the best that `nodes` find: greedy first, then
 * search. Parts of time that no buffer joins are solved apart.
 */
export function solve(problem: Problem, goal: number, nodes: number): Solution {
  const parts = partsOf(problem)
  const orders = parts.map(({ problem: part }) => greedy(part, Math.max(goal, problem.lowerBound)))
  const placements: Placement[] = [...orders]
  let lowerBound = problem.lowerBound
  let spent = 0
  const byHeight = parts
    .map((_, k) => k)
    .sort((j, k) => placements[k]!.height - placements[j]!.height || j - k)
  for (const k of byHeight) {
    const enough = Math.max(goal, lowerBound)
    if (placements[k]!.height <= enough || spent >= nodes) continue
    const result = improve(parts[k]!.problem, orders[k]!, enough, nodes - spent)
    placements[k] = result
    lowerBound = Math.max(lowerBound, result.lowerBound)
    spent += result.nodes
  }
  const offsets = new Float64Array(problem.count)
  let height = 0
  parts.forEach(({ ids }, k) => {
    ids.forEach((id, i) => {
      offsets[id] = placements[k]!.offsets[i]!
    })
    height = Math.max(height, placements[k]!.height)
  })
  return { offsets, height, lowerBound, nodes: spent }
}

/** The best of the greedy orders; stops at `enough`. Keeps ties. */
export function greedy(problem: Problem, enough: number): Order {
  const fit = new FirstFit(problem)
  let best: Order | undefined
  for (let which = 0; which < greedyOrders && !(best && best.height <= enough); which++) {
    const order = greedyOrder(problem, which)
    const placement = fit.place(order)
    if (!best || placement.height < best.height) best = { ...placement, order }
  }
  return best!
}

/**
 * Branch and bound, the same with buffers joined to chains, and local search by turns, in ever
 * longer runs; no local search where branch and bound is exact and the best is far from the goal.
 */
function improve(problem: Problem, start: Order, goal: number, nodes: number): Solution {
  const solid = withoutGaps(problem)
  const exact = solid === problem && problem.alignment.every(units => units === 1)
  const many = problem.count > manyBuffers
  const ladder = new Ladder(solid, start, goal, nodes)
  const local = new Reordering(problem, start, goal)
  const chained = chain(solid)
  const chains = chained && new Ladder(chained.problem, greedy(chained.problem, goal), goal, nodes)
  const spent = () => ladder.nodes + local.nodes + (chains?.nodes ?? 0)
  const keep = (best: Placement) => {
    if (best.height < ladder.best.height) ladder.best = best
    return ladder.best.height <= goal || (exact && ladder.lowerBound >= ladder.best.height)
  }
  for (let length = nodes / 50; spent() < nodes; length *= 1.5) {
    const before = spent()
    const share = (times: number) => Math.ceil(Math.min(times * length, nodes - spent()))
    if (chained && chains) {
      chains.run(share(1))
      const offsets = Float64Array.from(chained.chainOf, k => chains.best.offsets[k]!)
      if (keep({ offsets, height: chains.best.height })) break
    }
    ladder.run(share(1))
    if (keep(ladder.best)) break
    if (!exact || many || ladder.best.height <= near * goal) {
      local.run(share(many ? 3 : 1))
      if (keep(local.best)) break
    }
    if (spent() === before) break
  }
  return {
    ...ladder.best,
    lowerBound: exact ? ladder.lowerBound : problem.lowerBound,
    nodes: spent(),
  }
}

/** Times the goal. */
const near = 1.05
/** More than this, and local search has the larger share. */
const manyBuffers = 600
