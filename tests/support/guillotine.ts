import type { ArenaBuffer } from '../../lib/planner/arena/index.js'

export interface GuillotineSpec {
  readonly seed: number
  readonly count: number
  /** Width of the rectangle. */
  readonly times: number
  /** Height of the rectangle: what the buffers need together, and the optimum. */
  readonly bytes: number
  /**
   * Share of the buffers that come from cutting along whole lines of time at the end, most of what
   * they meet.
   */
  readonly lines?: number
}

interface Rectangle {
  readonly from: number
  readonly to: number
  readonly low: number
  readonly high: number
}

/**
 * Buffers that fill a rectangle of time and memory without a gap: it is cut in two across time or
 * memory, again and again, at random places, and the pieces are shuffled. Every moment uses all
 * bytes, so the lower bound is the optimum.
 */
export function guillotine({
  seed,
  count,
  times,
  bytes,
  lines = 0,
}: GuillotineSpec): ArenaBuffer[] {
  const random = uniform(seed)
  const below = (limit: number) => Math.floor(random() * limit)
  const area = ({ from, to, low, high }: Rectangle) => (to - from) * (high - low)
  let pieces: Rectangle[] = [{ from: 0, to: times, low: 0, high: bytes }]
  while (pieces.length < count * (1 - lines)) {
    // The larger of two pieces, so that none stays much too large.
    const [i, j] = [below(pieces.length), below(pieces.length)]
    const chosen = area(pieces[i]!) > area(pieces[j]!) ? i : j
    const piece = pieces[chosen]!
    const acrossTime = random() < (lines > 0 ? 0.35 : 0.5)
    const length = acrossTime ? piece.to - piece.from : piece.high - piece.low
    if (length < 2) continue
    const at = 1 + below(length - 1)
    pieces.splice(
      chosen,
      1,
      ...(acrossTime ? cutTime(piece, piece.from + at) : cutMemory(piece, piece.low + at)),
    )
  }
  while (pieces.length < count) {
    const time = 1 + below(times - 1)
    pieces = pieces.flatMap(piece =>
      piece.from < time && time < piece.to && random() < 0.7 ? cutTime(piece, time) : [piece],
    )
  }
  for (let i = pieces.length - 1; i > 0; i--) {
    const j = below(i + 1)
    ;[pieces[i], pieces[j]] = [pieces[j]!, pieces[i]!]
  }
  return pieces.map(({ from, to, low, high }, id) => ({
    id,
    lower: from,
    upper: to,
    size: high - low,
  }))
}

function cutTime(piece: Rectangle, at: number): Rectangle[] {
  return [
    { ...piece, to: at },
    { ...piece, from: at },
  ]
}

function cutMemory(piece: Rectangle, at: number): Rectangle[] {
  return [
    { ...piece, high: at },
    { ...piece, low: at },
  ]
}

/** Numbers in [0, 1) from a seed: a 32-bit linear congruence whose upper bits are mixed down. */
export function uniform(seed: number): () => number {
  let state = Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0
    const mixed = Math.imul(state ^ (state >>> 16), 0x45d9f3b)
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32
  }
}

/**
 * What is wrong with offsets, found by looking at every pair of buffers; empty where nothing is.
 */
export function checkOffsets(
  buffers: readonly ArenaBuffer[],
  offsets: readonly number[],
  bytes: number,
): string[] {
  const faults: string[] = []
  const live = buffers.map(({ lower, upper, gaps = [] }) => {
    const edges = [lower, ...gaps.flat(), upper]
    return edges.flatMap((edge, k) => (k % 2 === 0 ? [[edge, edges[k + 1]!] as const] : []))
  })
  buffers.forEach((a, i) => {
    if (a.size === 0) return
    const offset = offsets[i]!
    if (!(offset >= 0) || offset % (a.alignment ?? 1) !== 0) faults.push(`${i}: offset ${offset}`)
    if (offset + a.size > bytes) faults.push(`${i}: above ${bytes}`)
    for (let j = 0; j < i; j++) {
      const b = buffers[j]!
      if (b.size === 0 || offsets[j]! >= offset + a.size || offset >= offsets[j]! + b.size) continue
      const together = live[i]!.some(x => live[j]!.some(y => x[0] < y[1] && y[0] < x[1]))
      if (together) faults.push(`${i} and ${j} overlap`)
    }
  })
  return faults
}
