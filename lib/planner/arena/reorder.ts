import { FirstFit, type Order } from './greedy.js'
import type { Problem } from './problem.js'
import { generator } from './random.js'

/**
 * Local search over the orders of first fit: a buffer that lies high is moved to just before one
 * that it shares time with, and the order is kept unless the height rises. Strong where few buffers
 * keep the height above the goal, as in plans of networks. Deterministic.
 */
export class Reordering {
  readonly #problem: Problem
  readonly #goal: number
  readonly #fit: FirstFit
  readonly #random: () => number
  readonly #high: Int32Array
  readonly #conflicts: Int32Array
  best: Order

  constructor(problem: Problem, start: Order, goal: number) {
    this.#problem = problem
    this.#goal = goal
    this.#fit = new FirstFit(problem)
    this.#random = generator(problem.count)
    this.#high = new Int32Array(problem.count)
    this.#conflicts = new Int32Array(problem.count)
    this.best = start
  }

  /** What was spent, in the search's nodes. */
  get nodes(): number {
    return Math.ceil(this.#fit.steps / stepsPerNode)
  }

  /** Goes on until the goal is reached or `nodes` more are spent. */
  run(nodes: number): void {
    const end = this.nodes + nodes
    while (this.nodes < end && this.best.height > this.#goal) {
      const order = this.#moveSome()
      const placement = this.#fit.place(order)
      if (placement.height <= this.best.height) this.best = { ...placement, order }
    }
  }

  /** The best order with one to four buffers moved ahead, of those above a height drawn by lot. */
  #moveSome(): Int32Array {
    const { count, size, first, end } = this.#problem
    const { offsets, height, order: before } = this.best
    const order = before.slice()
    const limit = height - (height - this.#goal) * this.#random()
    let high = 0
    for (let k = 0; k < count; k++) {
      const i = order[k]!
      if (first[i]! < end[i]! && offsets[i]! + size[i]! >= limit) this.#high[high++] = k
    }
    const moves = 1 + this.#below(Math.min(4, high))
    for (let move = 0; move < moves; move++) {
      const from = this.#high[this.#below(high)]!
      const buffer = order[from]!
      let conflicts = 0
      for (let k = 0; k < from; k++) {
        const other = order[k]!
        if (first[other]! >= end[buffer]! || first[buffer]! >= end[other]!) continue
        this.#conflicts[conflicts++] = k
      }
      if (conflicts === 0) continue
      const to = this.#conflicts[this.#below(conflicts)]!
      order.copyWithin(to + 1, to, from)
      order[to] = buffer
    }
    return order
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit)
  }
}

/** Steps of first fit that take as long as a node of the search. */
const stepsPerNode = 500
