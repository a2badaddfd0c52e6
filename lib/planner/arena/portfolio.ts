import type { Placement } from './greedy.js'
import type { Problem } from './problem.js'
import { generator } from './random.js'
import { type Preference, Search } from './search.js'

/** Capacities to try, as multiples of the goal. */
const ladder = [1, 1.005, 1.01, 1.02, 1.035, 1.05, 1.075, 1.1, 1.15, 1.2, 1.3, 1.4]

/**
 * Nodes of a run in the first round, for each buffer; and how much longer the runs of the next
 * round are.
 */
const firstRun = 3
const growth = 1.05

/**
 * Runs the search again and again with other preferences, each round on the lowest open rung of the
 * ladder and on the highest below the best height so far. Running times of such searches have heavy
 * tails and do not fall with the capacity, so many short runs beat a long one. Deterministic.
 */
export class Ladder {
  readonly #problem: Problem
  readonly #search: Search
  readonly #goal: number
  #rungs: number[]
  #round = 0
  #length: number
  /** The lowest placement so far; may be replaced by a lower one. */
  best: Placement
  /** No height below this is possible, as far as the search could prove. */
  lowerBound: number

  /** `nodes`: how many all runs together may visit. */
  constructor(problem: Problem, start: Placement, goal: number, nodes: number) {
    this.#problem = problem
    this.#search = new Search(problem, nodes)
    this.best = start
    this.lowerBound = problem.lowerBound
    this.#goal = goal
    const target = Math.max(goal, problem.lowerBound)
    this.#rungs = [...new Set(ladder.map(factor => Math.floor(factor * target)))]
    this.#length = Math.max(1000, firstRun * problem.count)
  }

  get nodes(): number {
    return this.#search.nodes
  }

  /** Climbs down until the goal is reached, the best is proved, or `nodes` more are spent. */
  run(nodes: number): void {
    const end = this.nodes + nodes
    while (this.nodes < end && this.best.height > Math.max(this.#goal, this.lowerBound)) {
      this.#rungs = this.#rungs.filter(rung => rung >= this.lowerBound && rung < this.best.height)
      if (this.#rungs.length === 0) this.#rungs = [Math.max(this.#goal, this.lowerBound)]
      const preference = preferenceOf(this.#problem, this.#round++, this.best)
      for (const rung of new Set([this.#rungs.at(-1)!, this.#rungs[0]!])) {
        if (rung >= this.best.height) continue
        const budget = Math.min(this.#length, end - this.nodes)
        const verdict = this.#search.solve(rung, budget, preference)
        if (verdict === 'none') this.lowerBound = Math.max(this.lowerBound, rung + 1)
        if (verdict === 'found') this.best = placementOf(this.#problem, this.#search.offsets)
      }
      this.#length *= growth
    }
  }
}

function placementOf({ count, size, first, end }: Problem, offsets: Float64Array): Placement {
  let height = 0
  for (let i = 0; i < count; i++) {
    if (first[i]! < end[i]!) height = Math.max(height, offsets[i]! + size[i]!)
  }
  return { offsets: offsets.slice(), height }
}

/**
 * What a round prefers: by turns wide buffers, large ones, those of large area, and between them
 * what lies low in the best placement so far; with noise that differs from round to round.
 */
function preferenceOf(problem: Problem, round: number, best: Placement): Preference {
  const { count, size, first, end } = problem
  const low = (i: number) => best.height - best.offsets[i]!
  const wide = (i: number) => end[i]! - first[i]!
  const keys = [wide, low, (i: number) => size[i]!, low, (i: number) => size[i]! * wide(i), low]
  const key = keys[round % keys.length]!
  const noise = round < keys.length ? 0 : noises[round % noises.length]!
  let most = 0
  for (let i = 0; i < count; i++) most = Math.max(most, key(i))
  const random = generator(round)
  const rank = Float64Array.from(
    { length: count },
    (_, i) => (1 - noise) * (key(i) / (most + 1)) + noise * random(),
  )
  return { rank, flush: 2, nearlyFlush: 1 }
}

const noises = [0.1, 0.3, 0.05, 0.1, 0.6]
