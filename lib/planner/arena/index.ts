import { OptionError } from '../../errors.js'
import { type ArenaBuffer, problemOf } from './problem.js'
import { solve } from './solve.js'

export type { ArenaBuffer } from './problem.js'

export interface ArenaOptions {
  /** Bytes that are enough: the search ends there. Default: the lower bound, as small as can be. */
  readonly capacity?: number
  /**
   * How long to search, in nodes of its tree; default `arenaNodes.normal`. Never a time, so that
   * the same input gives the same offsets.
   */
  readonly nodes?: number
}

/**
 * For a few hundred buffers on one core: below a second, below half a minute, some minutes. Most
 * searches end long before.
 */
export const arenaNodes = { quick: 300_000, normal: 10_000_000, thorough: 100_000_000 } as const

export interface ArenaLayout {
  /** Byte offset of each buffer, in the order given. */
  readonly offsets: number[]
  /** One past the highest byte used. */
  readonly bytes: number
  /** No arena can have fewer bytes, as far as was proved. */
  readonly lowerBound: number
  /** Nodes that were searched. */
  readonly nodes: number
}

/**
 * Offsets for buffers such that no two that are alive together overlap, in as few bytes as can be
 * found: the best of five first-fit orders and, where that is above the most bytes alive at once,
 * or above `capacity`, branch and bound. Deterministic.
 * @throws OptionError for sizes, lifetimes, alignments, gaps or options that make no sense.
 */
export function packArena(
  buffers: readonly ArenaBuffer[],
  options: ArenaOptions = {},
): ArenaLayout {
  const { capacity = 0, nodes = arenaNodes.normal } = options
  checkCount('capacity', capacity)
  checkCount('nodes', nodes)
  const problem = problemOf(buffers)
  const { unit } = problem
  const hopeless = options.capacity !== undefined && capacity < problem.lowerBytes
  const solution = solve(problem, Math.floor(capacity / unit), hopeless ? 0 : nodes)
  const offsets = Array.from(solution.offsets, units => units * unit)
  let bytes = 0
  buffers.forEach(({ size }, i) => {
    if (size > 0) bytes = Math.max(bytes, offsets[i]! + size)
  })
  const proved = problem.lowerBytes + (solution.lowerBound - problem.lowerBound) * unit
  return { offsets, bytes, lowerBound: Math.min(bytes, proved), nodes: solution.nodes }
}

function checkCount(name: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 0) return
  throw new OptionError(`packArena: expected ${name} to be a whole number, got ${value}`)
}
