import type { Tensor } from '../program/tensor.js'
import { type Fit, type Load, load, pack, packAtLeisure } from './arrange.js'
import { type Slicing, unsliced } from './group.js'
import { GroupMemory, ScratchTable } from './group-memory.js'
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
  private readonly loads = new Map<string, Load>()
  private readonly fits = new Map<string, Fit>()

  constructor(private readonly storage: Storage) {
    const scratch = new ScratchTable(storage.target)
    this.choices = storage.groups.map(group => candidates(new GroupMemory(storage, group, scratch)))
  }

  /**
   * The fewest bands with which the arena stays within `allowed` bytes: of the groups over that, or of all that can be, whichever is faster.
   * @param seconds predicted time of slicings
   */
  within(allowed: number, seconds: (slicings: readonly Slicing[]) => number): Fit | undefined {
    const found: Fit[] = []
    for (const limit of [aligned(allowed), 0]) {
      for (const key of this.options(limit)) {
        if (this.loads.get(key)!.lowerBound > aligned(allowed)) continue
        const quick = this.packed(key)
        const fit = quick.packing.bytes > allowed ? packAtLeisure(quick) : quick
        if (fit.packing.bytes > allowed) continue
        found.push(fit)
        break
      }
    }
    const [some, all] = found
    return all && seconds(all.slicings) < seconds(some!.slicings) ? all : some
  }

  /** The bands with the smallest arena. */
  least(): Fit | undefined {
    const keys = [...this.options(0)]
    const bound = (key: string) => this.loads.get(key)!.lowerBound
    let best: Fit | undefined
    for (const key of keys.sort((a, b) => bound(a) - bound(b))) {
      if (best && best.packing.bytes <= bound(key)) break
      const fit = this.packed(key)
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
      if (!this.loads.has(key)) this.loads.set(key, load(this.storage, slicings))
      yield key
    }
  }

  private packed(key: string): Fit {
    let fit = this.fits.get(key)
    if (!fit) {
      fit = pack(this.loads.get(key)!)
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

const fewestBands = 8
const mostBands = 128
