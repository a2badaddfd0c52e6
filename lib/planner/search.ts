import type { Node, Program } from '../program/graph.js'
import { flopsOf, type Target } from '../program/op.js'
import type { Tensor } from '../program/tensor.js'
import { type Arrangement, arrange, packAtLeisure, wellPacked } from './arrange.js'
import { BandVariants } from './band-variants.js'
import type { CommandCosts } from './cost.js'
import { formGroups, type Group, type Slicing, unsliced } from './group.js'
import { ScratchTable } from './group-memory.js'
import { gatherSmallWork } from './order.js'
import { Partitioner, type SharedMemories } from './partition.js'
import { type Recomputable, recomputable, recompute } from './recompute.js'
import { type Spillable, spill, spillable } from './spill.js'
import { aligned, assignStorage, type Overlays, type Storage } from './storage.js'
import type { Streaming } from './streaming.js'

/** A program in which some tensors are made again, some lie over others, and some wait on the host. */
interface Variant {
  readonly program: Program
  readonly chosen: readonly Recomputable[]
  /** What waits on the host, and what else could. */
  readonly spilled: readonly Tensor[]
  readonly spillable: readonly Spillable[]
  readonly overlays: Overlays
  readonly partitioner: Partitioner
}

/**
 * The search for a program's plan. Groups and slices first: the fastest partition that fits. Where none does, what holds the least
 * peak is made again instead of kept, laid over what dies there, or moved to the host (beside a GPU), one tensor more at a time, cheapest
 * first; then, for decoders of one frame, bands of rows. Deterministic.
 */
export class ProgramSearch {
  private readonly variants: Variant[] = []
  private readonly candidates: readonly Recomputable[]
  /** Operations that may be spent on making tensors again. */
  private readonly spare: number
  private readonly scratch: ScratchTable
  private readonly memories: SharedMemories = new Map()
  private smallest?: Arrangement
  private renewed = false
  /** What the search found, by the bytes that were allowed. */
  private readonly found = new Map<number, Arrangement | undefined>()
  private banded?: BandVariants | null

  /**
   * @param limits most operations that may be spent on making tensors again, as a share of the program's: before bands of rows, and in
   * all with them; and whether tensors may be spilled
   */
  constructor(
    private readonly program: Program,
    private readonly target: Target,
    private readonly costs: CommandCosts,
    private readonly limits: {
      readonly recompute: number
      readonly bands: number
      readonly spill: boolean
    },
    private readonly streaming?: Streaming,
  ) {
    this.candidates = recomputable(program)
    this.spare = limits.recompute * flopsOfAll(program)
    this.scratch = new ScratchTable(target)
  }

  /** Nothing sliced. */
  whole(): Arrangement {
    const { program } = this
    const storage = this.store(program, formGroups(program))
    return { program, storage, fit: arrange(storage, storage.groups.map(unsliced)) }
  }

  /** Bytes below which nothing is found where weights are streamed besides. Soon made; bands of rows have no such bound. */
  floor(): number {
    if (this.bandable()) return 0
    let spent = 0
    const again = this.candidates.filter(({ flops }) => {
      const affordable = spent + flops <= this.spare
      if (affordable) spent += flops
      return affordable
    })
    const floors = [[], again].map(chosen => this.variant(chosen, new Map(), []))
    return Math.min(...floors.map(({ partitioner }) => partitioner.floor()))
  }

  /** The fastest arrangement found within `allowed` bytes, or none: where little room is left, there may be one that takes longer to find. */
  find(allowed: number): Arrangement | undefined {
    const found = this.fastest(allowed)
    return found && this.repacked(found)
  }

  /** The fastest arrangement found within `allowed` bytes; that of the least bytes where none was found. */
  within(allowed: number): Arrangement {
    return this.repacked(this.fastest(allowed) ?? this.least())
  }

  /**
   * The arrangement of the least bytes that the search can find: allowed a byte less, it finds none. Then every budget from these bytes
   * on has a plan, and none below.
   */
  private least(): Arrangement {
    if (this.smallest) return this.smallest
    let best = this.repacked(this.leastOf(this.narrowest()))
    const inBands = this.bands()?.least()
    const banded = inBands && this.repacked(inBands)
    if (banded && banded.fit.packing.bytes < best.fit.packing.bytes) best = banded
    for (;;) {
      const { bytes } = best.fit.packing
      const lower = this.fastest(bytes) ?? this.fastest(bytes - 1)
      const next = lower && this.repacked(lower)
      if (next && next.fit.packing.bytes < bytes) best = next
      else if (!lower || !this.fastest(bytes - 1)) break
      else best = this.repacked(this.fastest(bytes - 1)!)
    }
    this.smallest = best
    return best
  }

  /** The first variant of those with the smallest bottleneck. */
  private narrowest(): Variant {
    let best = this.variantAt(0)!
    for (let i = 1; this.variantAt(i); i++) {
      const variant = this.variants[i]!
      if (variant.partitioner.bottleneck().bytes < best.partitioner.bottleneck().bytes)
        best = variant
    }
    return best
  }

  private fastest(allowed: number): Arrangement | undefined {
    if (!this.found.has(allowed)) this.found.set(allowed, this.search(allowed))
    return this.found.get(allowed)
  }

  private search(allowed: number): Arrangement | undefined {
    let found: Arrangement | undefined
    for (const variant of this.variantsWithin(allowed)) {
      found = this.partitioned(variant, allowed)
      if (found) break
    }
    return this.bandsWithin(allowed, found && this.time(found)) ?? found
  }

  /**
   * The fastest found in bands, if it takes less time than something else. Which groups are in bands follows from what is allowed; what
   * was found may be faster yet in those that its own peak asks for.
   */
  private bandsWithin(allowed: number, than?: number): Arrangement | undefined {
    let found = this.bands()?.within(allowed, than)
    while (found) {
      const { bytes } = this.repacked(found).fit.packing
      const own = bytes < allowed ? this.bands()!.within(bytes, this.time(found)) : undefined
      if (!own) break
      found = own
    }
    return found
  }

  private time({ storage, fit }: Arrangement): number {
    return this.seconds(storage.groups, fit.slicings)
  }

  private seconds(groups: readonly Group[], slicings: readonly Slicing[]): number {
    return groups.reduce((sum, group) => sum + this.costs.group(group, slicings[group.id]!), 0)
  }

  /** The variant that makes the least again of those that may fit, with its last buffer's end and without, and the narrowest. */
  private *variantsWithin(allowed: number): Generator<Variant> {
    const firstUnder = (limit: number) => {
      for (let i = 0; this.variantAt(i); i++)
        if (this.variants[i]!.partitioner.bottleneck().bytes <= limit) return this.variants[i]
      return undefined
    }
    const first = firstUnder(aligned(allowed))
    if (!first) return
    const tried = new Set([first])
    yield first
    const fits = firstUnder(allowed) ?? first
    // Where its arena does not pack, the next one's may, before the one that spends the most.
    const next = this.variantAt(this.variants.indexOf(fits) + 1)
    for (const variant of [
      fits,
      ...(next && next.spilled.length > 0 ? [next] : []),
      this.narrowest(),
    ]) {
      if (tried.has(variant)) continue
      tried.add(variant)
      yield variant
    }
  }

  /**
   * A variant's fastest partition whose arena stays within `allowed` bytes. Where packing leaves gaps, groups that can do with less get
   * less, and at last the limit itself is lowered.
   */
  private partitioned(variant: Variant, allowed: number): Arrangement | undefined {
    const fitting = (found: Arrangement | undefined) => {
      if (!found || found.fit.lowerBound > aligned(allowed)) return undefined
      // A larger budget would pack the same at leisure; then it fits this one.
      const tight = found.fit.packing.bytes <= allowed ? found : this.repacked(found)
      return tight.fit.packing.bytes <= allowed ? tight : undefined
    }
    // Limits count every size rounded up; the arena's bytes end with the last one's own.
    if (aligned(allowed) > allowed) {
      const found = fitting(this.packed(variant, aligned(allowed), allowed, [1]))
      if (found) return found
    }
    const least = variant.partitioner.bottleneck().bytes
    const lowest = Math.max(least, allowed * lowestLimit)
    for (let limit = allowed; ; limit = Math.max(lowest, limit * tighter)) {
      const found = fitting(this.packed(variant, limit, allowed))
      if (found) return found
      if (limit <= lowest) return undefined
    }
  }

  /** Packed at leisure where that was not done well. */
  private repacked(arrangement: Arrangement): Arrangement {
    return { ...arrangement, fit: packAtLeisure(arrangement.fit) }
  }

  private leastOf(variant: Variant): Arrangement {
    const least = variant.partitioner.bottleneck().bytes
    return this.packed(variant, least, least)!
  }

  /** The first of a limit's partitions, with ever more slack where there can be, whose arena packs well enough; else the smallest. */
  private packed(
    variant: Variant,
    limit: number,
    enough: number,
    shares = this.target.wgmma ? roomySharesApart : roomyShares,
  ): Arrangement | undefined {
    const seen = new Set<string>()
    let best: Arrangement | undefined
    for (const share of shares) {
      const partition = variant.partitioner.fastest(limit, limit * share)
      if (!partition) return best
      const key = JSON.stringify([
        partition.slicings,
        partition.groups.map(({ nodes, axis }) => [nodes.length, axis]),
      ])
      if (seen.has(key)) continue
      seen.add(key)
      const storage = this.store(variant.program, partition.groups, variant.overlays)
      const fit = arrange(storage, [...partition.slicings])
      if (!best || fit.packing.bytes < best.fit.packing.bytes)
        best = { program: variant.program, storage, fit }
      if (best.fit.packing.bytes <= enough && wellPacked(best.fit)) return best
    }
    return best
  }

  /** The variants in order; one more tensor lies over another, or is made again, from each to the next. */
  private variantAt(index: number): Variant | undefined {
    while (this.variants.length <= index) {
      const last = this.variants.at(-1)
      const next = last ? (this.after(last) ?? this.anew(last)) : this.variant([], new Map(), [])
      if (!next) return undefined
      this.variants.push(next)
    }
    return this.variants[index]
  }

  private after(variant: Variant): Variant | undefined {
    const { chosen, overlays, spilled, partitioner } = variant
    const bottleneck = partitioner.bottleneck()
    const again = this.nextToMakeAgain(variant, bottleneck.step)
    if (again) return this.variant([...chosen, again], overlays, spilled)
    for (const { above, below } of partitioner.overlaysAt(bottleneck).slice(0, mostOverlays)) {
      const next = this.variant(chosen, new Map([...overlays, [above, below]]), spilled)
      if (next.partitioner.bottleneck().bytes < bottleneck.bytes) return next
    }
    const moved = this.nextToSpill(variant, bottleneck.step)
    if (!moved) return undefined
    const apart = [...overlays].filter(pair => !pair.includes(moved.tensor))
    return this.variant(chosen, new Map(apart), [...spilled, moved.tensor])
  }

  /** Once: with what waits on the host from the start, so that what may be made again is spent elsewhere. */
  private anew({ spilled }: Variant): Variant | undefined {
    if (this.renewed || spilled.length === 0) return undefined
    this.renewed = true
    return this.variant([], new Map(), spilled)
  }

  /** The largest tensor that waits on the device at a step of a variant. */
  private nextToSpill({ program, spillable }: Variant, step: number) {
    const steps = new Map(program.nodes.map(({ output }, at) => [output, at]))
    return spillable.find(
      ({ early, late }) => steps.get(early.output)! <= step && step <= steps.get(late[0]!.output)!,
    )
  }

  /** The cheapest candidate whose tensor waits at a step of a variant. */
  private nextToMakeAgain({ program, chosen }: Variant, step: number): Recomputable | undefined {
    const steps = new Map(program.nodes.map(({ output }, at) => [output, at]))
    const spent = chosen.reduce((sum, { flops }) => sum + flops, 0)
    return this.candidates.find(
      candidate =>
        !chosen.includes(candidate) &&
        spent + candidate.flops <= this.spare &&
        steps.get(candidate.early.output)! <= step &&
        step <= steps.get(candidate.until.output)!,
    )
  }

  private variant(
    chosen: readonly Recomputable[],
    overlays: Overlays,
    spilled: readonly Tensor[],
  ): Variant {
    const inOrder = this.candidates.filter(candidate => chosen.includes(candidate))
    const again = recompute(this.program, inOrder).program
    const movable = this.limits.spill ? spillable(again) : []
    const moved = movable.filter(({ tensor }) => spilled.includes(tensor))
    const program = gatherSmallWork(spill(again, moved))
    const changed = new Set<Tensor>([...overlays].flat())
    for (const { tensor, late } of inOrder)
      for (const value of [tensor, ...late.map(({ output }) => output)]) changed.add(value)
    for (const { tensor, early, late } of moved)
      for (const value of [tensor, early.output, ...late.map(({ output }) => output)])
        changed.add(value)
    const partitioner = new Partitioner(
      program,
      this.target,
      this.costs,
      this.scratch,
      this.memories,
      changed,
      overlays,
      this.streaming,
    )
    return {
      program,
      chosen,
      overlays,
      spilled,
      spillable: movable.filter(candidate => !moved.includes(candidate)),
      partitioner,
    }
  }

  /** The narrowest variant in bands of rows; of use only where there are few frames, and slices of frames are no way down. */
  private bands(): BandVariants | undefined {
    if (this.banded === undefined) this.banded = this.makeBands() ?? null
    return this.banded ?? undefined
  }

  private makeBands(): BandVariants | undefined {
    if (!this.bandable()) return undefined
    const { chosen } = this.narrowest()
    const inOrder = this.candidates.filter(candidate => chosen.includes(candidate))
    const spent = chosen.reduce((sum, { flops }) => sum + flops, 0)
    const spare = Math.max(0, this.limits.bands * flopsOfAll(this.program) - spent)
    return new BandVariants(
      this.program,
      inOrder,
      spare,
      (program, groups) => this.store(program, groups),
      (groups, slicings) => this.seconds(groups, slicings),
    )
  }

  private bandable(): boolean {
    const many = ({ output: { shape } }: Node) => shape.length === 4 && shape[0]! > fewFrames
    return !this.program.nodes.some(many)
  }

  private store(program: Program, groups: readonly Group[], overlays?: Overlays): Storage {
    return assignStorage(program, groups, this.target, overlays, this.streaming)
  }
}

function flopsOfAll({ nodes }: Program): number {
  return nodes.reduce((sum, node) => sum + flopsOf(node), 0)
}

/** Frames up to which bands of rows are tried. */
const fewFrames = 2

/** How much of a limit groups take that can do with less, tried one after another until the arena packs. */
const roomyShares = [1, 0.96, 0.9]
/** Where norms are applied apart, whole features lie three abreast, and leave gaps that no share close to the limit avoids. */
const roomySharesApart = [...roomyShares, 0.75]
/** The next limit after one under which no arena packs, and the lowest, as shares. */
const tighter = 0.98
const lowestLimit = 0.96

/** Pairs at a bottleneck that are tried. */
const mostOverlays = 4
