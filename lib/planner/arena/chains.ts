import type { Problem } from './problem.js'

/** A problem in which some buffers are joined, and the joined buffer that each belongs to. */
export interface Chained {
  readonly problem: Problem
  readonly chainOf: Int32Array
}

/**
 * Joins each buffer with one of the same size that is born where it dies, so that both get one
 * offset. What fits then fits apart, and loads stay the same; a proof does not carry over. Absent
 * where there is nothing to join.
 */
export function chain(problem: Problem): Chained | undefined {
  const { count, first, end, size, alignment, runs } = problem
  const dying = new Map<string, number[]>()
  const key = (section: number, i: number) => `${section} ${size[i]} ${alignment[i]}`
  const chainOf = new Int32Array(count).fill(-1)
  const heads: number[] = []
  const ends: number[] = []
  const byBirth = Int32Array.from({ length: count }, (_, i) => i).sort(
    (i, j) => first[i]! - first[j]! || end[j]! - end[i]! || i - j,
  )
  for (const i of byBirth) {
    const before = runs[i] || first[i] === end[i] ? undefined : dying.get(key(first[i]!, i))?.pop()
    if (before === undefined) {
      chainOf[i] = heads.length
      heads.push(i)
      ends.push(end[i]!)
    } else {
      chainOf[i] = chainOf[before]!
      ends[chainOf[i]!] = end[i]!
    }
    if (runs[i] || first[i] === end[i]) continue
    const list = dying.get(key(end[i]!, i))
    if (list) list.push(i)
    else dying.set(key(end[i]!, i), [i])
  }
  if (heads.length === count) return undefined
  return {
    problem: {
      ...problem,
      count: heads.length,
      size: Float64Array.from(heads, i => size[i]!),
      alignment: Float64Array.from(heads, i => alignment[i]!),
      first: Int32Array.from(heads, i => first[i]!),
      end: Int32Array.from(ends),
      runs: heads.map(i => runs[i]),
    },
    chainOf,
  }
}
