import type { Problem } from './problem.js'

export type Verdict = 'found' | 'none' | 'stopped'

/** What the search prefers among the buffers that fit a corner. */
export interface Preference {
  /** A value in [0, 1) per buffer. */
  readonly rank: Float64Array
  /** For a top level with a wall beside it. */
  readonly flush: number
  /** For a top that one more buffer brings level with a wall. */
  readonly nearlyFlush: number
}

// Fields of a frame: its part of time, where its next part begins, the trail before its option, its
// options, and its state's hash.
const from = 0
const to = 1
const next = 2
const mark = 3
const firstOption = 4
const nextOption = 5
const endOption = 6
const key1 = 7
const key2 = 8
const stride = 9

/**
 * Branch and bound for one capacity, after MiniMalloc (Moffitt, ASPLOS 2023): buffers are stacked
 * from the floor up, so that only supported placements are visited, each once.
 *
 * The state is a skyline: per section, the floor (top of what is placed) and what remains to be
 * placed. A valley is a run of sections of one floor with higher floors, or nothing, on both sides.
 * The lowest buffer still to come in a valley's corner section either lies on the floor, and then
 * within the valley, or leaves a space below it, which costs the section that much of its slack,
 * capacity - floor - remaining. Of all corners the search takes the one with the fewest options; a
 * corner without any ends the branch. Parts of time that no unplaced buffer joins are solved apart.
 * States that failed are remembered by a hash of what is unplaced and what is wasted.
 */
export class Search {
  readonly #p: Problem
  #capacity = 0
  #budget = 0
  /** Nodes visited since the search was made. */
  nodes = 0

  // The skyline: per section; per boundary k between sections k - 1 and k.
  readonly #floor: Float64Array
  readonly #remaining: Float64Array
  readonly #crossing: Int32Array
  readonly #crossingSize: Float64Array
  // Zobrist hashes of the unplaced buffers born in a section and of the section's waste.
  readonly #hash1: Int32Array
  readonly #hash2: Int32Array
  readonly #waste: Float64Array

  readonly #placed: Uint8Array
  readonly offsets: Float64Array
  readonly #key1: Int32Array
  readonly #key2: Int32Array
  // Buffers by their first and by their last section, and the one before each of the same size and
  // life.
  readonly #bornAt: Int32Array
  readonly #born: Int32Array
  readonly #diesAt: Int32Array
  readonly #dies: Int32Array
  readonly #twin: Int32Array

  /** What was done, to be undone: a buffer i, or waste in section ~i; and the floor before. */
  #trail: Int32Array
  #trailFloor: Float64Array
  #done = 0

  /**
   * Frames of the depth-first search, `stride` numbers each: a part of time, its options, and how
   * far its own parts are solved.
   */
  #frames: Int32Array

  // Options of all frames: a buffer i, or waste in section ~i; its score, or the level that the
  // waste reaches.
  #options: Int32Array
  #scores: Float64Array
  #optionCount = 0

  readonly #failed1: Int32Array
  readonly #failed2: Int32Array
  readonly #mask: number

  /**
   * `nodes`: how many all runs together may visit; more memory of failed states helps longer
   * searches.
   */
  constructor(problem: Problem, nodes: number) {
    const { count, sections, size, first, end } = problem
    this.#p = problem
    this.#floor = new Float64Array(sections)
    this.#remaining = new Float64Array(sections)
    this.#crossing = new Int32Array(sections + 1)
    this.#crossingSize = new Float64Array(sections + 1)
    this.#hash1 = new Int32Array(sections)
    this.#hash2 = new Int32Array(sections)
    this.#waste = new Float64Array(sections)
    this.#placed = new Uint8Array(count)
    this.offsets = new Float64Array(count)
    this.#key1 = Int32Array.from({ length: count }, (_, i) => scramble(2 * i + 1))
    this.#key2 = Int32Array.from({ length: count }, (_, i) => scramble(-2 * i - 2))
    const ids = Int32Array.from({ length: count }, (_, i) => i).filter(i => first[i]! < end[i]!)
    const byBirth = (i: number, j: number) =>
      first[i]! - first[j]! || end[i]! - end[j]! || size[i]! - size[j]! || i - j
    this.#born = ids.slice().sort(byBirth)
    this.#dies = ids.slice().sort((i, j) => end[i]! - end[j]! || byBirth(i, j))
    this.#bornAt = new Int32Array(sections + 1)
    this.#diesAt = new Int32Array(sections + 1)
    for (const i of ids) {
      this.#bornAt[first[i]! + 1]!++
      this.#diesAt[end[i]!]!++
    }
    for (let s = 0; s < sections; s++) {
      this.#bornAt[s + 1]! += this.#bornAt[s]!
      this.#diesAt[s + 1]! += this.#diesAt[s]!
    }
    this.#twin = new Int32Array(count).fill(-1)
    for (let k = 1; k < ids.length; k++) {
      const i = this.#born[k]!
      const j = this.#born[k - 1]!
      const same = first[i] === first[j] && end[i] === end[j] && size[i] === size[j]
      if (same && problem.alignment[i] === problem.alignment[j]) this.#twin[i] = j
    }
    this.#trail = new Int32Array(2 * count + sections)
    this.#trailFloor = new Float64Array(2 * count + sections)
    this.#frames = new Int32Array(stride * (count + 2))
    this.#options = new Int32Array(4 * count)
    this.#scores = new Float64Array(4 * count)
    const bits = Math.min(20, Math.max(12, Math.ceil(Math.log2(nodes + 1))))
    this.#failed1 = new Int32Array(1 << bits)
    this.#failed2 = new Int32Array(1 << bits)
    this.#mask = (1 << bits) - 1
  }

  /**
   * Looks for offsets below `capacity` units, visiting at most `budget` nodes. `found` leaves them
   * in `offsets`.
   */
  solve(capacity: number, budget: number, preference: Preference): Verdict {
    this.#reset()
    this.#capacity = capacity
    this.#budget = this.nodes + budget
    let frame = 0
    this.#frames[from] = 0
    this.#frames[to] = this.#p.sections
    this.#frames[next] = 0
    for (;;) {
      // The next part of the frame's time that has something to place; where there is none, the
      // frame is solved.
      const stop = this.#frames[frame + to]!
      let s = this.#frames[frame + next]!
      while (s < stop && this.#remaining[s] === 0) s++
      if (s === stop) {
        if (frame === 0) return 'found'
        this.#optionCount = this.#frames[frame + firstOption]!
        frame -= stride
        continue
      }
      let e = s + 1
      while (e < stop && this.#crossing[e]! > 0) e++
      this.#frames[frame + next] = e
      if (this.nodes >= this.#budget) return 'stopped'
      this.nodes += 1 + ((e - s) >> 7)

      frame += stride
      if (frame === this.#frames.length) this.#frames = longer(this.#frames)
      this.#frames[frame + from] = s
      this.#frames[frame + to] = e
      let failed = !this.#open(frame, preference)
      // Where that failed: back to the last frame that has an option left, and into that.
      while (failed || !this.#advance(frame)) {
        this.#optionCount = this.#frames[frame + firstOption]!
        frame -= stride
        if (frame === 0) return 'none'
        this.#undo(this.#frames[frame + mark]!)
        failed = false
      }
      this.#frames[frame + next] = this.#frames[frame + from]!
    }
  }

  /** Takes the next option that breaks no bound; false where none is left. */
  #advance(frame: number): boolean {
    while (this.#frames[frame + nextOption]! < this.#frames[frame + endOption]!) {
      const k = this.#frames[frame + nextOption]!++
      const option = this.#options[k]!
      if (option >= 0 ? this.#place(option) : this.#raise(~option, this.#scores[k]!)) return true
      this.#undo(this.#frames[frame + mark]!)
    }
    return this.#fail(this.#frames[frame + key1]!, this.#frames[frame + key2]!)
  }

  #reset(): void {
    const { count, sections, size, first, end, load } = this.#p
    this.#floor.fill(0)
    this.#waste.fill(0)
    this.#remaining.set(load)
    this.#crossing.fill(0)
    this.#crossingSize.fill(0)
    this.#placed.fill(0)
    for (let s = 0; s < sections; s++) {
      this.#hash1[s] = scramble(~s)
      this.#hash2[s] = 0
    }
    for (let i = 0; i < count; i++) {
      if (first[i] === end[i]) continue
      for (let k = first[i]! + 1; k < end[i]!; k++) {
        this.#crossing[k]!++
        this.#crossingSize[k]! += size[i]!
      }
      this.#hash1[first[i]!]! ^= this.#key1[i]!
      this.#hash2[first[i]!]! ^= this.#key2[i]!
    }
    this.#done = 0
    this.#optionCount = 0
  }

  /**
   * Chooses the corner of a new frame and lists its options; false where there are none, or the
   * state has failed before.
   */
  #open(frame: number, preference: Preference): boolean {
    const { first, end } = this.#p
    const floor = this.#floor
    const remaining = this.#remaining
    const placed = this.#placed
    const twin = this.#twin
    const born = this.#born
    const bornAt = this.#bornAt
    const dies = this.#dies
    const diesAt = this.#diesAt
    const a = this.#frames[frame + from]!
    const b = this.#frames[frame + to]!
    const capacity = this.#capacity
    this.#frames[frame + firstOption] = this.#optionCount

    let hash1 = scramble(capacity)
    let hash2 = 0
    for (let s = a; s < b; s++) {
      hash1 ^= this.#hash1[s]!
      hash2 ^= this.#hash2[s]!
    }
    hash2 |= 1
    const slot = hash1 & this.#mask
    if (this.#failed1[slot] === hash1 && this.#failed2[slot] === hash2) return false
    this.#frames[frame + key1] = hash1
    this.#frames[frame + key2] = hash2

    let fewest = Infinity
    let left = a
    let right = b
    let corner = 0
    for (let l = a; l < b; ) {
      const f = floor[l]!
      let r = l + 1
      while (r < b && floor[r] === f) r++
      const leftWall = l > a ? floor[l - 1]! : Infinity
      const rightWall = r < b ? floor[r]! : Infinity
      if (leftWall < f || rightWall < f) {
        l = r
        continue
      }
      let raised = -1
      let fewestHere = Infinity
      let cornerHere = 0
      for (let side = 0; side < (r - l > 1 ? 2 : 1) && raised < 0; side++) {
        const s = side ? r - 1 : l
        const slack = capacity - f - remaining[s]!
        let options = 0
        if (side) {
          for (let q = diesAt[s]!; q < diesAt[s + 1]!; q++) {
            const i = dies[q]!
            if (placed[i] === 0 && first[i]! >= l && (twin[i]! < 0 || placed[twin[i]!] === 1))
              options++
          }
        } else {
          for (let q = bornAt[s]!; q < bornAt[s + 1]!; q++) {
            const i = born[q]!
            if (placed[i] === 0 && end[i]! <= r && (twin[i]! < 0 || placed[twin[i]!] === 1))
              options++
          }
        }
        if (options === 0) {
          // Whatever comes next here reaches beyond the valley, and so lies above a wall.
          const level = Math.min(leftWall, rightWall)
          if (level - f > slack || !this.#raise(s, level)) return this.#fail(hash1, hash2)
          raised = s
        }
        const key = options + (slack > 0 ? 1 + slack / capacity : 0)
        if (key < fewestHere) {
          fewestHere = key
          cornerHere = side
        }
      }
      if (raised >= 0) {
        if (raised === l) while (l > a && floor[l - 1] === floor[l]) l--
        continue
      }
      if (fewestHere < fewest) {
        fewest = fewestHere
        left = l
        right = r
        corner = cornerHere
      }
      l = r
    }
    this.#frames[frame + mark] = this.#done
    this.#frames[frame + nextOption] = this.#optionCount
    this.#list(frame, left, right, corner, preference)
    this.#frames[frame + endOption] = this.#optionCount
    return this.#optionCount > this.#frames[frame + firstOption]! || this.#fail(hash1, hash2)
  }

  /** Remembers a state that cannot be completed. */
  #fail(hash1: number, hash2: number): false {
    this.#failed1[hash1 & this.#mask] = hash1
    this.#failed2[hash1 & this.#mask] = hash2
    return false
  }

  /** Of buffers of the same size and life, the first goes first. */
  #inTurn(i: number): boolean {
    const twin = this.#twin[i]!
    return twin < 0 || this.#placed[twin] === 1
  }

  /**
   * Lists what can be done at the corner of a valley [left, right): the buffers that fit, best
   * first, then waste.
   */
  #list(
    frame: number,
    left: number,
    right: number,
    side: number,
    { rank, flush, nearlyFlush }: Preference,
  ): void {
    const { first, end, size } = this.#p
    const f = this.#floor[left]!
    const leftWall = left > this.#frames[frame + from]! ? this.#floor[left - 1]! : Infinity
    const rightWall = right < this.#frames[frame + to]! ? this.#floor[right]! : Infinity
    const s = side ? right - 1 : left
    const list = side ? this.#dies : this.#born
    const at = side ? this.#diesAt : this.#bornAt
    const base = this.#optionCount
    this.#makeRoom(at[s + 1]! - at[s]! + 1)
    let small = Infinity
    for (let q = at[s]!; q < at[s + 1]!; q++) {
      const i = list[q]!
      if (this.#placed[i] || first[i]! < left || end[i]! > right || !this.#inTurn(i)) continue
      if (end[i]! - first[i]! === 1) small = Math.min(small, size[i]!)
      const top = f + size[i]!
      const atLeft = first[i] === left && leftWall < Infinity
      const atRight = end[i] === right && rightWall < Infinity
      let score = rank[i]!
      if (atLeft && top === leftWall) score += flush
      if (atRight && top === rightWall) score += flush
      if (nearlyFlush > 0 && score < flush) {
        const levels =
          (atLeft && this.#hasSize(i, Math.abs(leftWall - top), left, top < leftWall)) ||
          (atRight && this.#hasSize(i, Math.abs(rightWall - top), right, top > rightWall))
        if (levels) score += nearlyFlush
      }
      let k = this.#optionCount++
      while (k > base && this.#scores[k - 1]! < score) {
        this.#scores[k] = this.#scores[k - 1]!
        this.#options[k] = this.#options[k - 1]!
        k--
      }
      this.#scores[k] = score
      this.#options[k] = i
    }
    const fits = this.#optionCount > base
    const slack = this.#capacity - f - this.#remaining[s]!
    if (slack > 0) {
      // The lowest buffer of the section then rests on a wall or, from within the valley, on a
      // buffer that leaves the section out.
      let level = Math.min(leftWall, rightWall)
      if (fits) {
        const from = side ? left : left + 1
        const to = side ? right - 1 : right
        const inner = side ? this.#dies : this.#born
        const innerAt = side ? this.#diesAt : this.#bornAt
        for (let q = innerAt[from]!; q < innerAt[to]!; q++) {
          const i = inner[q]!
          if (!this.#placed[i] && f + size[i]! < level) level = f + size[i]!
        }
      }
      // A space that a buffer of this section alone would fill is not worth leaving.
      if (level - f <= slack && small > level - f) {
        this.#options[this.#optionCount] = ~s
        this.#scores[this.#optionCount++] = level
      }
    }
  }

  #makeRoom(more: number): void {
    while (this.#optionCount + more > this.#options.length) {
      this.#options = longer(this.#options)
      this.#scores = longer(this.#scores)
    }
  }

  /** Whether an unplaced buffer other than i, born or dying at a boundary, has this size. */
  #hasSize(i: number, units: number, boundary: number, born: boolean): boolean {
    const s = born ? boundary : boundary - 1
    const list = born ? this.#born : this.#dies
    const at = born ? this.#bornAt : this.#diesAt
    for (let q = at[s]!; q < at[s + 1]!; q++) {
      const j = list[q]!
      if (this.#p.size[j] === units && j !== i && !this.#placed[j]) return true
    }
    return false
  }

  /**
   * Wastes a section's space up to a level. False where a bound is broken; it is on the trail
   * either way.
   */
  #raise(s: number, level: number): boolean {
    const f = this.#floor[s]!
    this.#record(~s, f)
    this.#wasteMore(s, level - f)
    this.#floor[s] = level
    return this.#fitsAcross(s) && this.#fitsAcross(s + 1)
  }

  /** Places a buffer on the floor. False where a bound is broken; it is on the trail either way. */
  #place(i: number): boolean {
    const { size, alignment } = this.#p
    const first = this.#p.first[i]!
    const end = this.#p.end[i]!
    const floor = this.#floor
    const remaining = this.#remaining
    const units = size[i]!
    const f = floor[first]!
    const offset = Math.ceil(f / alignment[i]!) * alignment[i]!
    const top = offset + units
    this.#record(i, f)
    this.#placed[i] = 1
    this.offsets[i] = offset
    for (let s = first; s < end; s++) {
      floor[s] = top
      remaining[s]! -= units
    }
    for (let k = first + 1; k < end; k++) {
      this.#crossing[k]!--
      this.#crossingSize[k]! -= units
    }
    this.#hash1[first]! ^= this.#key1[i]!
    this.#hash2[first]! ^= this.#key2[i]!
    let fits = true
    if (offset > f) {
      for (let s = first; s < end; s++) {
        this.#wasteMore(s, offset - f)
        if (top + remaining[s]! > this.#capacity) fits = false
      }
    }
    return fits && this.#fitsAcross(first) && this.#fitsAcross(end)
  }

  #record(what: number, floor: number): void {
    if (this.#done === this.#trail.length) {
      this.#trail = longer(this.#trail)
      this.#trailFloor = longer(this.#trailFloor)
    }
    this.#trail[this.#done] = what
    this.#trailFloor[this.#done++] = floor
  }

  #undo(mark: number): void {
    const { size } = this.#p
    while (this.#done > mark) {
      const i = this.#trail[--this.#done]!
      const f = this.#trailFloor[this.#done]!
      if (i < 0) {
        this.#wasteMore(~i, f - this.#floor[~i]!)
        this.#floor[~i] = f
        continue
      }
      const first = this.#p.first[i]!
      const end = this.#p.end[i]!
      const units = size[i]!
      const gap = this.offsets[i]! - f
      this.#placed[i] = 0
      for (let s = first; s < end; s++) {
        this.#floor[s] = f
        this.#remaining[s]! += units
        if (gap > 0) this.#wasteMore(s, -gap)
      }
      for (let k = first + 1; k < end; k++) {
        this.#crossing[k]!++
        this.#crossingSize[k]! += units
      }
      this.#hash1[first]! ^= this.#key1[i]!
      this.#hash2[first]! ^= this.#key2[i]!
    }
  }

  #wasteMore(s: number, units: number): void {
    const before = this.#waste[s]!
    const after = before + units
    this.#waste[s] = after
    this.#hash1[s]! ^= wasteKey(s, before) ^ wasteKey(s, after)
    this.#hash2[s]! ^= wasteKey(~s, before) ^ wasteKey(~s, after)
  }

  /** What crosses a boundary lies above both its sides: that must fit. */
  #fitsAcross(k: number): boolean {
    if (k === 0 || k === this.#p.sections || this.#crossing[k] === 0) return true
    return Math.max(this.#floor[k - 1]!, this.#floor[k]!) + this.#crossingSize[k]! <= this.#capacity
  }
}

/** A copy twice as long. */
function longer<T extends Int32Array | Float64Array>(array: T): T {
  const copy = new (array.constructor as new (length: number) => T)(2 * array.length)
  copy.set(array)
  return copy
}

function wasteKey(s: number, units: number): number {
  return units === 0 ? 0 : scramble(scramble(units) + Math.imul(s, 0x9e3779b1))
}

/** A hash of a whole number to 32 bits. */
function scramble(value: number): number {
  let x = (value | 0) ^ Math.imul((value / 4294967296) | 0, 0x85ebca6b)
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d)
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b)
  return x ^ (x >>> 16)
}
