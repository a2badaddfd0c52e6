import type { Problem } from './problem.js'

/** A stretch of time that no buffer reaches out of, as a problem of its own. */
export interface Part {
  readonly problem: Problem
  /** Its buffers' places in the whole problem. */
  readonly ids: Int32Array
}

export function partsOf(problem: Problem): Part[] {
  const { count, sections, first, end, size, alignment, runs, load } = problem
  const joined = new Int32Array(sections + 1)
  for (let i = 0; i < count; i++) {
    if (end[i]! - first[i]! < 2) continue
    joined[first[i]! + 1]!++
    joined[end[i]!]!--
  }
  const starts = [0]
  for (let k = 1, alive = 0; k < sections; k++) {
    alive += joined[k]!
    if (alive === 0) starts.push(k)
  }
  if (starts.length === 1)
    return [{ problem, ids: Int32Array.from({ length: count }, (_, i) => i) }]
  const partOf = new Int32Array(sections)
  starts.forEach((start, k) => partOf.fill(k, start))
  const members = starts.map((): number[] => [])
  for (let i = 0; i < count; i++) if (first[i]! < end[i]!) members[partOf[first[i]!]!]!.push(i)
  return starts.map((start, k) => {
    const ids = Int32Array.from(members[k]!)
    const loads = load.slice(start, starts[k + 1] ?? sections)
    const part: Problem = {
      ...problem,
      count: ids.length,
      sections: loads.length,
      size: Float64Array.from(ids, i => size[i]!),
      alignment: Float64Array.from(ids, i => alignment[i]!),
      first: ids.map(i => first[i]! - start),
      end: ids.map(i => end[i]! - start),
      runs: Array.from(ids, i => runs[i]?.map(s => s - start)),
      load: loads,
      lowerBound: loads.reduce((most, value) => Math.max(most, value), 0),
    }
    return { problem: part, ids }
  })
}
