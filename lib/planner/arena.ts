import type { Placement } from './arena/greedy.js'
import { packInLayers } from './arena/layers.js'
import { type Problem, problemOf } from './arena/problem.js'
import { packInQueues } from './arena/queues.js'
import { Reordering } from './arena/reorder.js'
import { greedy, solve } from './arena/solve.js'
import { packFromTwoEnds } from './arena/two-ends.js'
import { alignment } from './storage.js'

/** A buffer to place: bytes, and the half-open lifetime [start, end). */
export interface Placeable {
  readonly bytes: number
  readonly start: number
  readonly end: number
  /** Another, never alive with this one, that must end at the same place, or begin at it. */
  readonly tied?: { readonly to: number; readonly end: 'top' | 'bottom' }
}

export interface Packing {
  /** Byte offset of each buffer, in the order given. */
  offsets: number[]
  /** One past the highest byte used. */
  bytes: number
}

/**
 * Aligned offsets for a plan's buffers such that no two that are alive together overlap, in
 * `lowerBound` bytes, a thousandth more, or the fewest found: greedy orders, then a search of `nodes`,
 * of many buffers in layers, in queues and from two ends. Deterministic.
 */
export function packBuffers(
  buffers: readonly Placeable[],
  lowerBound: number,
  nodes = searchNodes,
): Packing {
  const problem = planProblem(buffers)
  const goal = Math.floor((lowerBound / problem.unit) * closeEnough)
  const tied = problem.ties !== undefined
  const start = tied ? greedy(problem, goal) : undefined
  let solution: Placement = start ?? solve(problem, goal, 0)
  const consider = (next: Placement | undefined) => {
    if (next && next.height < solution.height) solution = next
  }
  if (solution.height > goal && problem.count > fewBuffers)
    consider(
      packInLayers(problem, goal, large => {
        const part = planProblem(large.map(i => withoutTie(buffers[i]!)))
        return solve(part, part.lowerBound, nodes).offsets
      }),
    )
  if (solution.height > goal && !tied && problem.count > fewBuffers)
    consider(packInQueues(problem, goal))
  if (solution.height > goal && !tied && (problem.count <= fewBuffers || nodes > searchNodes))
    consider(solve(problem, goal, nodes))
  if (solution.height > goal && !tied && problem.count > fewBuffers && nodes > searchNodes)
    consider(
      packFromTwoEnds(
        buffers.map(({ start, end }, i) => ({ start, end, size: problem.size[i]! })),
        problem.lowerBound,
        goal,
      ),
    )
  if (solution.height > goal && start) {
    const local = new Reordering(problem, start, goal)
    local.run(nodes)
    consider(local.best)
  }
  const offsets = Array.from(solution.offsets, units => units * problem.unit)
  const bytes = buffers.reduce(
    (top, buffer, i) => (buffer.bytes > 0 ? Math.max(top, offsets[i]! + buffer.bytes) : top),
    0,
  )
  return { offsets, bytes }
}

function planProblem(buffers: readonly Placeable[]): Problem {
  const problem = problemOf(
    buffers.map(({ bytes, start, end }) => ({ size: bytes, lower: start, upper: end, alignment })),
    'plan',
  )
  const ties = new Map<number, { to: number; rise: number }>()
  buffers.forEach(({ tied }, i) => {
    if (!tied) return
    const rise = tied.end === 'top' ? problem.size[i]! - problem.size[tied.to]! : 0
    ties.set(i, { to: tied.to, rise })
    ties.set(tied.to, { to: i, rise: -rise })
  })
  return ties.size > 0 ? { ...problem, ties } : problem
}

const withoutTie = ({ tied: _, ...buffer }: Placeable): Placeable => buffer

const closeEnough = 1.001
/** A hundredth of a second or so, spent only where greedy orders do not come close. */
const searchNodes = 5_000
/** More than these are packed in layers. */
const fewBuffers = 200
