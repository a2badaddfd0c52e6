import type { Program } from '../program/graph.js'
import type { Tensor } from '../program/tensor.js'
import type { Arrangement } from './arrange.js'
import { BandSearch } from './band-search.js'
import { formGroups, type Group, type Slicing, unsliced } from './group.js'
import { advanceLastReaders } from './order.js'
import { type Recomputable, type Renewable, recompute, renewable } from './recompute.js'
import type { Storage } from './storage.js'

/** A program in bands of rows, with the tensors that are made again in each band. */
interface Banded {
  readonly program: Program
  readonly storage: Storage
  readonly search: BandSearch
  readonly renewed: readonly Renewable[]
}

/**
 * Bands of rows, and where those are not enough, with ever more tensors that are never whole: made once for their statistics and again in
 * the bands that are not kept, the cheapest first of those that are alive at the peak. A variant's peak may stay where it was: the next one's is elsewhere.
 */
export class BandVariants {
  private readonly variants: Banded[] = []
  private readonly candidates: readonly Renewable[]
  private readonly ordered: Program

  /**
   * @param chosen what is made again whatever the bands are
   * @param spare operations that may be spent on making tensors again in each band
   * @param seconds predicted time of groups in their slicings
   */
  constructor(
    program: Program,
    chosen: readonly Recomputable[],
    private readonly spare: number,
    private readonly store: (program: Program, groups: readonly Group[]) => Storage,
    private readonly seconds: (groups: readonly Group[], slicings: readonly Slicing[]) => number,
  ) {
    this.ordered = advanceLastReaders(recompute(program, chosen).program)
    this.candidates = renewable(this.ordered)
  }

  /**
   * The fastest variant whose arena stays within `allowed` bytes.
   * @param than only if it takes less time
   */
  within(allowed: number, than = Number.POSITIVE_INFINITY): Arrangement | undefined {
    const { groups } = this.at(0)!.storage
    const enough = this.seconds(groups, groups.map(unsliced)) * fastEnough
    let best: Arrangement | undefined
    let least = than
    for (let i = 0; this.at(i) && (i === 0 || least > enough); i++) {
      const { program, storage, search } = this.at(i)!
      const secondsOf = (slicings: readonly Slicing[]) => this.seconds(storage.groups, slicings)
      const fit = search.within(allowed, secondsOf)
      const seconds = fit ? secondsOf(fit.slicings) : Number.POSITIVE_INFINITY
      if (!fit || seconds >= least) continue
      best = { program, storage, fit }
      least = seconds
    }
    return best
  }

  /** The smallest arena of all. */
  least(): Arrangement | undefined {
    let best: Arrangement | undefined
    for (let i = 0; this.at(i); i++) {
      const { program, storage, search } = this.at(i)!
      const fit = search.least()
      if (fit && !(best && best.fit.packing.bytes <= fit.packing.bytes))
        best = { program, storage, fit }
    }
    return best
  }

  private at(index: number): Banded | undefined {
    while (this.variants.length <= index) {
      const last = this.variants.at(-1)
      const next = last ? this.after(last) : this.variant([])
      if (!next) return undefined
      this.variants.push(next)
    }
    return this.variants[index]
  }

  private after({ search, renewed }: Banded): Banded | undefined {
    const alive = search.aliveAtLeast()
    const spent = renewed.reduce((sum, { flops }) => sum + flops, 0)
    const next = this.candidates.find(
      candidate =>
        alive.has(candidate.tensor) &&
        !renewed.some(other => other === candidate || entangled(other, candidate)) &&
        spent + candidate.flops <= this.spare,
    )
    return next && this.variant([...renewed, next])
  }

  private variant(renewed: readonly Renewable[]): Banded {
    const parts = renewed.flatMap(each => each.parts)
    const { program, again } = recompute(this.ordered, parts)
    const storage = this.store(program, formGroups(program, [1], again))
    const search = new BandSearch(storage, unitsOf(storage.groups, renewed))
    return { program, storage, search, renewed }
  }
}

/** Beside the time of nothing sliced: the variants after such a one, which make more again, are not looked at. */
const fastEnough = 1.01

/** The groups in which each is made again, or is kept instead; those of several at once where they share a group. */
function unitsOf(groups: readonly Group[], renewed: readonly Renewable[]): number[][] {
  let units: number[][] = []
  for (const { parts } of renewed) {
    const made = new Set(parts.flatMap(({ makers }) => makers.map(({ output }) => output)))
    const unit = groups.flatMap(({ id, nodes, again = [], once = [] }) =>
      again.some(({ of }) => made.has(of)) || once.some(index => made.has(nodes[index]!.output))
        ? [id]
        : [],
    )
    const sharing = units.filter(other => other.some(id => unit.includes(id)))
    units = units.filter(other => !sharing.includes(other))
    units.push([...new Set([...unit, ...sharing.flat()])])
  }
  return units
}

/** Whether what makes one of two reads the other, which then would have to be made again for it. */
function entangled(a: Renewable, b: Renewable): boolean {
  const reads = ({ parts }: Renewable, tensor: Tensor) =>
    parts.some(({ makers }) =>
      makers.some(({ inputs }) => inputs.some(input => input.tensor === tensor)),
    )
  return reads(a, b.tensor) || reads(b, a.tensor)
}
