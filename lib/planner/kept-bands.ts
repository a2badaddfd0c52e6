import { type Load, load } from './arrange.js'
import type { Buffers } from './buffers.js'

/**
 * Bands in which nothing is made again. Of a tensor that is made again band by band, the first bands may be kept instead, as many as there
 * is room for: what a budget leaves is spent on time.
 */
export class KeptBands {
  /** By the bands that each unit keeps. */
  private readonly loads = new Map<string, Load>()
  private readonly units: readonly (readonly number[])[]

  /**
   * @param none the load where no band is kept
   * @param units groups that keep as many bands as each other
   */
  constructor(
    private readonly buffers: Buffers,
    private readonly none: Load,
    units: readonly (readonly number[])[],
  ) {
    this.units = units.filter(unit => this.bandsOf(unit) !== undefined)
    this.loads.set(`${this.units.map(() => 0)}`, none)
  }

  /** As many kept as stay within `allowed` bytes at each time, one unit after another. */
  most(allowed: number): Load {
    const kept = this.units.map(() => 0)
    for (const [i, unit] of this.units.entries()) {
      const bands = this.bandsOf(unit)!
      const counts = madeAgain(bands)
      const fits = (at: number) =>
        this.keep(kept.with(i, bands - counts[at]!)).lowerBound <= allowed
      // All of them first: the last steps down to it may take a little more.
      let [from, to] = fits(0) ? [0, 0] : [1, counts.length]
      while (from < to) {
        const middle = (from + to) >> 1
        if (fits(middle)) to = middle
        else from = middle + 1
      }
      kept[i] = bands - (counts[to] ?? bands)
    }
    return this.keep(kept)
  }

  /** The number of bands in which all groups of a unit run. */
  private bandsOf(unit: readonly number[]): number | undefined {
    const [bands, ...others] = unit.map(id => this.none.slicings[id]!.bands)
    return others.every(other => other === bands) ? bands : undefined
  }

  private keep(kept: readonly number[]): Load {
    const key = `${kept}`
    let found = this.loads.get(key)
    if (!found) {
      const slicings = [...this.none.slicings]
      for (const [i, unit] of this.units.entries())
        for (const id of unit) if (kept[i]! > 0) slicings[id] = { ...slicings[id]!, kept: kept[i]! }
      found = load(slicings, this.buffers.under(slicings))
      this.loads.set(key, found)
    }
    return found
  }
}

/** Numbers of bands made again that are tried, fewest first: none, then each some quarter more than the one before. */
function madeAgain(bands: number): number[] {
  const tried: number[] = []
  for (let again = 0; again < bands; again = Math.max(again + 1, Math.floor(again * 1.25)))
    tried.push(again)
  return tried
}
