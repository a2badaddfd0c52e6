import { packInLayers } from './arena/layers.js'
import { type Problem, problemOf } from './arena/problem.js'
import { solve } from './arena/solve.js'
import { alignment } from './storage.js'

/** A buffer to place: bytes, and the half-open lifetime [start, end). */
export interface Placeable {
  readonly bytes: number
  readonly start: number
  readonly end: number
}

export interface Packing {
  /** Byte offset of each buffer, in the order given. */
  offsets: number[]
  /** One past the highest byte used. */
  bytes: number
}

/**
 * Aligned offsets for a plan's buffers such that no two that are alive together overlap, in
 * `lowerBound` bytes, a thousandth more, or the fewest found: greedy orders, then layers, then a
 * search of `nodes`. Deterministic.
 */
export function packBuffers(
  buffers: readonly Placeable[],
  lowerBound: number,
  nodes = searchNodes,
): Packing {
  const problem = planProblem(buffers)
  const goal = Math.floor((lowerBound / problem.unit) * closeEnough)
  let solution = solve(problem, goal, 0)
  if (solution.height > goal) {
    const layered = packInLayers(problem, goal, large => {
      const part = planProblem(large.map(i => buffers[i]!))
      return solve(part, part.lowerBound, nodes).offsets
    })
    if (layered && layered.height < solution.height) solution = { ...solution, ...layered }
  }
  if (solution.height > goal) {
    const searched = solve(problem, goal, nodes)
    if (searched.height < solution.height) solution = searched
  }
  const offsets = Array.from(solution.offsets, units => units * problem.unit)
  const bytes = buffers.reduce(
    (top, buffer, i) => (buffer.bytes > 0 ? Math.max(top, offsets[i]! + buffer.bytes) : top),
    0,
  )
  return { offsets, bytes }
}

function planProblem(buffers: readonly Placeable[]): Problem {
  return problemOf(
    buffers.map(({ bytes, start, end }) => ({ size: bytes, lower: start, upper: end, alignment })),
    'plan',
  )
}

const closeEnough = 1.001
/** Some hundredths of a second, spent only where greedy orders do not come close. */
const searchNodes = 20_000
