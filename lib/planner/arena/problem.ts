import { OptionError } from '../../errors.js'

/**
 * A buffer to place: its size and alignment in bytes, and its lifetime [lower, upper) in any unit
 * of time.
 */
export interface ArenaBuffer {
  readonly id?: string | number
  readonly lower: number
  readonly upper: number
  readonly size: number
  /** Offsets are multiples of this; 1 where absent. */
  readonly alignment?: number
  /** Parts [from, to) of the lifetime in which the buffer's bytes are free for others. */
  readonly gaps?: readonly (readonly [number, number])[]
}

/**
 * Buffers in the solver's terms. Sizes count units: the largest number of bytes that divides every
 * alignment. Times are sections: the moments at which a set of buffers is alive that is no subset
 * of a neighbour's; the others add no constraint.
 */
export interface Problem {
  readonly count: number
  readonly sections: number
  /** Bytes of a unit. */
  readonly unit: number
  readonly size: Float64Array
  readonly alignment: Float64Array
  /** Sections [first, end) from a buffer's birth to its death. */
  readonly first: Int32Array
  readonly end: Int32Array
  /**
   * For buffers with gaps: the runs of sections that they cover, as [first, end, first, end, …].
   */
  readonly runs: readonly (readonly number[] | undefined)[]
  /** Buffers that are placed together with another: the other, and how much higher it must lie. Only first fit knows of them. */
  readonly ties?: ReadonlyMap<number, { readonly to: number; readonly rise: number }>
  /** Units alive in each section. */
  readonly load: Float64Array
  /** Largest load. */
  readonly lowerBound: number
  /**
   * No arena can have fewer bytes: the largest load, its topmost buffer without what rounding
   * added.
   */
  readonly lowerBytes: number
}

/**
 * @throws OptionError for sizes, lifetimes, alignments or gaps that make no sense; `where` begins
 * the message.
 */
export function problemOf(buffers: readonly ArenaBuffer[], where = 'packArena'): Problem {
  if (!Array.isArray(buffers))
    throw new OptionError(`${where}: expected a list of buffers, got ${typeof buffers}`)
  buffers.forEach((buffer, i) => {
    if (typeof buffer !== 'object' || buffer === null)
      throw new OptionError(`${where}: buffer ${i}: expected an object, got ${buffer}`)
    checkBuffer(buffer, `${where}: buffer ${buffer.id ?? i}`)
  })
  const unit = buffers.reduce((common, { alignment = 1 }) => gcd(common, alignment), 0) || 1
  const lives = buffers.map(livePeriods)
  const { sections, indexOf } = maximalSections(lives)
  const runs = lives.map(periods => periods.flatMap(time => indexOf(time)))
  const size = Float64Array.from(buffers, buffer => Math.ceil(buffer.size / unit))
  const load = new Float64Array(sections)
  const slack = new Float64Array(sections)
  runs.forEach((run, i) => {
    const rounding = size[i]! * unit - buffers[i]!.size
    for (let k = 0; k < run.length; k += 2) {
      for (let s = run[k]!; s < run[k + 1]!; s++) {
        load[s]! += size[i]!
        slack[s] = Math.max(slack[s]!, rounding)
      }
    }
  })
  const lowerBound = load.reduce((most, value) => Math.max(most, value), 0)
  if (!Number.isSafeInteger(lowerBound * unit)) {
    throw new OptionError(
      `${where}: expected sizes whose sum is below 2^53, ` +
        `got ${lowerBound * unit} bytes alive at once`,
    )
  }
  return {
    count: buffers.length,
    sections,
    unit,
    size,
    alignment: Float64Array.from(buffers, ({ alignment = 1 }) => alignment / unit),
    first: Int32Array.from(runs, run => run[0] ?? 0),
    end: Int32Array.from(runs, run => run.at(-1) ?? 0),
    runs: runs.map(run => (run.length > 2 ? run : undefined)),
    load,
    lowerBound,
    lowerBytes: load.reduce((most, value, s) => Math.max(most, value * unit - slack[s]!), 0),
  }
}

function checkBuffer(
  { lower, upper, size, alignment = 1, gaps = [] }: ArenaBuffer,
  where: string,
): void {
  if (!Number.isSafeInteger(size) || size < 0)
    throw new OptionError(`${where}: expected a size in whole bytes, got ${size}`)
  if (!Number.isFinite(lower) || !Number.isFinite(upper) || lower >= upper) {
    throw new OptionError(
      `${where}: expected a lifetime with lower < upper, got [${lower}, ${upper})`,
    )
  }
  if (!Number.isSafeInteger(alignment) || alignment < 1) {
    throw new OptionError(`${where}: expected an alignment of at least 1, got ${alignment}`)
  }
  let from = lower
  for (const [start, end] of gaps) {
    if (!(start >= from && end > start && end <= upper)) {
      throw new OptionError(
        `${where}: expected gaps in order inside [${lower}, ${upper}), got [${start}, ${end})`,
      )
    }
    from = end
  }
}

/** The parts of a lifetime without its gaps; none for a buffer of no bytes. */
function livePeriods({ lower, upper, size, gaps = [] }: ArenaBuffer): [number, number][] {
  if (size === 0) return []
  const periods: [number, number][] = []
  let from = lower
  for (const [start, end] of gaps) {
    if (start > from) periods.push([from, start])
    from = end
  }
  if (from < upper) periods.push([from, upper])
  return periods
}

/**
 * Sections in order of time. Between two events the set of live buffers is fixed; it is maximal
 * where a buffer was born since the last maximal one and another dies at its end.
 */
function maximalSections(lives: readonly [number, number][][]): {
  sections: number
  indexOf: (period: [number, number]) => [number, number]
} {
  const births = new Set<number>()
  const deaths = new Set<number>()
  for (const periods of lives) {
    for (const [from, to] of periods) {
      births.add(from)
      deaths.add(to)
    }
  }
  const times = [...new Set([...births, ...deaths])].sort((a, b) => a - b)
  const before = new Map<number, number>()
  let sections = 0
  let born = false
  for (const time of times) {
    if (born && deaths.has(time)) {
      sections++
      born = false
    }
    before.set(time, sections)
    if (births.has(time)) born = true
  }
  return { sections, indexOf: ([from, to]) => [before.get(from)!, before.get(to)!] }
}

/** Whether two buffers are alive in a common section. */
export function overlaps(problem: Problem, i: number, j: number): boolean {
  const { first, end, runs } = problem
  if (first[i]! >= end[j]! || first[j]! >= end[i]!) return false
  if (!runs[i] && !runs[j]) return true
  const a = runs[i] ?? [first[i]!, end[i]!]
  const b = runs[j] ?? [first[j]!, end[j]!]
  for (let x = 0, y = 0; x < a.length && y < b.length; ) {
    if (a[x]! < b[y + 1]! && b[y]! < a[x + 1]!) return true
    if (a[x + 1]! <= b[y + 1]!) x += 2
    else y += 2
  }
  return false
}

/** The problem with every buffer alive through its gaps: what fits here fits there. */
export function withoutGaps(problem: Problem): Problem {
  if (!problem.runs.some(Boolean)) return problem
  const { count, sections, first, end, size, unit } = problem
  const load = new Float64Array(sections)
  for (let i = 0; i < count; i++) for (let s = first[i]!; s < end[i]!; s++) load[s]! += size[i]!
  const lowerBound = load.reduce((most, value) => Math.max(most, value), 0)
  return { ...problem, runs: new Array(count), load, lowerBound, lowerBytes: lowerBound * unit }
}

function gcd(a: number, b: number): number {
  while (b > 0) [a, b] = [b, a % b]
  return a
}
