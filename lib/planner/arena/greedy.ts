import { overlaps, type Problem } from './problem.js'

/** Offsets in units for every buffer, and one past the highest unit used. */
export interface Placement {
  offsets: Float64Array
  height: number
}

/** A placement by first fit, and the order that gave it. */
export interface Order extends Placement {
  order: Int32Array
}

type Key = (problem: Problem, i: number) => number

const lifetime: Key = ({ first, end }, i) => end[i]! - first[i]!

/**
 * What lives longer than a share of all sections comes first, the longest ahead; the rest by size.
 */
const longFirst =
  (share: number): Key =>
  (problem, i) => {
    const long = lifetime(problem, i)
    return long > problem.sections * share ? problem.lowerBound + long : problem.size[i]!
  }

/** Keys for first fit, the highest first. */
const keys: readonly Key[] = [
  ({ size }, i) => size[i]!,
  (problem, i) => problem.size[i]! * Math.sqrt(lifetime(problem, i)),
  longFirst(1 / 8),
  longFirst(1 / 16),
  longFirst(1 / 32),
  (problem, i) => problem.size[i]! * lifetime(problem, i),
  lifetime,
  ({ first }, i) => -first[i]!,
]

export const greedyOrders = keys.length

/** Buffers in the order of a key: one of `greedyOrders`. */
export function greedyOrder(problem: Problem, which: number): Int32Array {
  const { count, size, first } = problem
  const rank = Float64Array.from({ length: count }, (_, i) => keys[which]!(problem, i))
  return Int32Array.from({ length: count }, (_, i) => i).sort(
    (i, j) => rank[j]! - rank[i]! || size[j]! - size[i]! || first[i]! - first[j]! || i - j,
  )
}

/**
 * Places buffers one after another, each at the lowest offset that is free through its life: below,
 * between or above those placed before.
 */
export class FirstFit {
  readonly #problem: Problem
  /** How many buffers were looked at since this was made. */
  steps = 0
  readonly #bottom: Float64Array
  readonly #top: Float64Array
  /**
   * What is placed, by offset: all of it, and what is alive in each block of sections; most lives
   * lie inside one.
   */
  readonly #all: number[] = []
  readonly #blocks: number[][]

  constructor(problem: Problem) {
    this.#problem = problem
    this.#bottom = new Float64Array(problem.count)
    this.#top = new Float64Array(problem.count)
    this.#blocks = Array.from({ length: Math.ceil(problem.sections / blockLength) }, () => [])
  }

  place(order: Int32Array): Placement {
    const { count, runs, ties } = this.#problem
    const gaps = runs.some(Boolean)
    const offsets = new Float64Array(count)
    const placed = new Uint8Array(ties ? count : 0)
    let height = 0
    const put = (i: number, offset: number) => {
      offsets[i] = offset
      this.#bottom[i] = offset
      this.#top[i] = offset + this.#problem.size[i]!
      height = Math.max(height, this.#top[i]!)
      this.#insert(this.#all, i)
      const last = Math.floor((this.#problem.end[i]! - 1) / blockLength)
      for (let k = Math.floor(this.#problem.first[i]! / blockLength); k <= last; k++)
        this.#insert(this.#blocks[k]!, i)
    }
    this.#all.length = 0
    for (const block of this.#blocks) block.length = 0
    for (const i of order) {
      if (this.#problem.first[i] === this.#problem.end[i] || placed[i]) continue
      const tie = ties?.get(i)
      if (!tie) {
        put(i, this.#lowest(i, gaps, 0))
        continue
      }
      // Both move up until both are free.
      let offset = Math.max(0, -tie.rise)
      for (;;) {
        const own = this.#lowest(i, gaps, offset)
        const other = this.#lowest(tie.to, gaps, own + tie.rise)
        offset = other - tie.rise
        if (offset === own) break
      }
      put(i, offset)
      put(tie.to, offset + tie.rise)
      placed[i] = placed[tie.to] = 1
    }
    return { offsets, height }
  }

  /** The lowest offset from `least` on at which a buffer does not meet those placed before. */
  #lowest(i: number, gaps: boolean, least: number): number {
    const { first, end, size, alignment } = this.#problem
    const from = first[i]!
    const to = end[i]!
    const units = size[i]!
    const block = Math.floor(from / blockLength)
    const list = block === Math.floor((to - 1) / blockLength) ? this.#blocks[block]! : this.#all
    let offset = least
    let k = 0
    for (; k < list.length; k++) {
      const j = list[k]!
      if (first[j]! >= to || from >= end[j]! || this.#top[j]! <= offset) continue
      if (gaps && !overlaps(this.#problem, i, j)) continue
      if (offset + units <= this.#bottom[j]!) break
      offset = Math.ceil(this.#top[j]! / alignment[i]!) * alignment[i]!
    }
    this.steps += k + placing
    return offset
  }

  #insert(list: number[], i: number): void {
    const bottom = this.#bottom
    let low = 0
    for (let high = list.length; low < high; ) {
      const middle = (low + high) >> 1
      if (bottom[list[middle]!]! <= bottom[i]!) low = middle + 1
      else high = middle
    }
    list.splice(low, 0, i)
  }
}

const blockLength = 64
/** Steps that take as long as what else is done for a buffer. */
const placing = 50
