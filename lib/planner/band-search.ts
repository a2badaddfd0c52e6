import type { Tensor } from '../program/tensor.js'
import { type Fit, type Load, load, pack, packAtLeisure, packOnce } from './arrange.js'
import { Buffers } from './buffers.js'
import { type Slicing, unsliced } from './group.js'
import { GroupMemory, ScratchTable } from './group-memory.js'
import { KeptBands } from './kept-bands.js'
import { aligned, type Storage } from './storage.js'

/** A slicing of a group, and the most bytes alive while it runs. */
interface Candidate {
  readonly slicing: Slicing
  readonly bytes: number
}

/**
 * Bands where slices are not enough: the groups over a limit, and all that touch the tensors they touch, run part by part along rows, in
 * as many parts as it takes; the other groups stay as fine as the limit asks. Remembers what it tried.
 */
export class BandSearch {
  /** Slicings by group from whole to finest. */
  private readonly choices: readonly (readonly Candidate[])[]
  private readonly buffers: Buffers
  private readonly loads = new Map<string, Load>()
  private readonly fits = new Map<string, Fit>()
  private readonly kept = new Map<string, KeptBands>()

  /** @param units groups that keep as many bands as each other, from which on tensors are made again in them */
  constructor(
    private readonly storage: Storage,
    private readonly units: readonly (readonly number[])[] = [],
  ) {
    this.buffers = new Buffers(storage)
    const scratch = new ScratchTable(storage.target)
    this.choices = storage.groups.map(group => candidates(new GroupMemory(storage, group, scratch)))
  }

  /**
   * The fastest found of which the arena stays within `allowed` bytes, in bands of the groups over that, or of all that can be: the fewest
   * bands; where tensors are made again, any number of them, of which as many are kept as there is room for.
   * @param seconds predicted time of slicings
   */
  within(allowed: number, seconds: (slicings: readonly Slicing[]) => number): Fit | undefined {
    const found = new Map<Load, number>()
    for (const limit of [aligned(allowed), 0]) {
      // With bands to keep there is much to choose from already.
      if (this.units.length > 0 && found.size > 0) break
      for (const key of this.options(limit)) {
        const all = this.loads.get(key)!
        if (all.lowerBound > aligned(allowed)) continue
        for (const each of [all, ...this.keeping(key, allowed)])
          if (!found.has(each)) found.set(each, seconds(each.slicings))
      }
    }
    for (const [each] of [...found].sort(([, a], [, b]) => a - b)) {
      const fit = this.fitting(each, allowed)
      if (fit) return fit
    }
    return undefined
  }

  /** The arena for a load, where it stays within `allowed` bytes. */
  private fitting(of: Load, allowed: number): Fit | undefined {
    const quick = this.packed(of)
    const fit = quick.packing.bytes > allowed ? packAtLeisure(quick) : quick
    return fit.packing.bytes <= allowed ? fit : undefined
  }

  /** The same with as many bands kept as there is room for, and with some fewer, should packing leave gaps. */
  private keeping(key: string, allowed: number): Load[] {
    if (this.units.length === 0) return []
    let kept = this.kept.get(key)
    if (!kept) {
      kept = new KeptBands(this.buffers, this.loads.get(key)!, this.units)
      this.kept.set(key, kept)
    }
    // At fixed limits, so that what was found at one of them is found again with its own peak as the budget.
    const step = this.loads.get(key)!.lowerBound / limitsBelow
    const next = Math.floor(allowed / step) * step
    return [aligned(allowed), next, next - step].map(limit => kept.most(limit))
  }

  /** The bands with the smallest arena. */
  least(): Fit | undefined {
    const keys = [...this.options(0)]
    const bound = (key: string) => this.loads.get(key)!.lowerBound
    let best: Fit | undefined
    for (const key of keys.sort((a, b) => bound(a) - bound(b))) {
      if (best && best.packing.bytes <= bound(key)) break
      const fit = this.packed(this.loads.get(key)!)
      if (!best || fit.packing.bytes < best.packing.bytes) best = fit
    }
    return best
  }

  /** Tensors alive at the peak of the bands whose most bytes at a time are the least. */
  aliveAtLeast(): Set<Tensor> {
    let least: Load | undefined
    for (const key of this.options(0)) {
      const load = this.loads.get(key)!
      if (!least || load.lowerBound < least.lowerBound) least = load
    }
    const { buffers, time } = least!
    const alive = buffers.filter(({ start, end }) => start <= time && time < end)
    return new Set(alive.flatMap(({ tensors }) => tensors))
  }

  /** Keys of slicings under a limit, fewest bands first; their loads are known by then. */
  private *options(limit: number): Generator<string> {
    const { groups } = this.storage
    const inBands = this.around(limit)
    const seen = new Set<string>()
    for (let bands = fewestBands; bands <= mostBands; bands *= 2) {
      const slicings = groups.map((group, id): Slicing => {
        if (inBands.has(id) && group.extent >= bands) return { ...unsliced(group), bands }
        return (this.choices[id]!.find(({ bytes }) => bytes <= limit) ?? this.finest(id)).slicing
      })
      const key = JSON.stringify(slicings)
      if (seen.has(key)) break
      seen.add(key)
      if (!this.loads.has(key)) this.loads.set(key, load(slicings, this.buffers.under(slicings)))
      yield key
    }
  }

  private packed(of: Load): Fit {
    const key = JSON.stringify(of.slicings)
    let fit = this.fits.get(key)
    if (!fit) {
      // What keeps bands takes a little less where it does not pack: many are tried.
      fit = of.slicings.some(({ kept }) => kept) ? packOnce(of) : pack(of)
      this.fits.set(key, fit)
    }
    return fit
  }

  private finest(id: number): Candidate {
    return this.choices[id]![this.choices[id]!.length - 1]!
  }

  /** Groups along rows that touch a tensor which a group over the limit touches. */
  private around(limit: number): Set<number> {
    const found = new Set<number>()
    for (const entry of this.storage.shared) {
      if (entry.home.group || ![...entry.groups].some(id => this.finest(id).bytes > limit)) continue
      for (const id of entry.groups) if (this.storage.groups[id]!.axis === 1) found.add(id)
    }
    return found
  }
}

/** Slicings from whole to finest, halved each time; only those that need less memory than all before. */
function candidates(memory: GroupMemory): Candidate[] {
  const { group } = memory
  const list: Candidate[] = []
  let slicing = unsliced(group)
  for (;;) {
    const { bytes } = memory.peaks(slicing)
    if (!list.length || bytes < list[list.length - 1]!.bytes * leastGain)
      list.push({ slicing, bytes })
    // Rows around a slice are made again in bands alone.
    if (slicing.chunk === 1 || group.halos) return list
    slicing = { ...slicing, chunk: Math.ceil(slicing.chunk / 2) }
  }
}

/** A finer slicing that saves less than this share of a group's bytes is not worth its commands. */
const leastGain = 1 - 1 / 256

/** Limits below the least load, in even steps: one or two below what is allowed leave room for gaps. */
const limitsBelow = 256

const fewestBands = 8
const mostBands = 128
