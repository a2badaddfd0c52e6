import type { Program } from '../program/graph.js'
import type { Target } from '../program/op.js'
import type { Tensor } from '../program/tensor.js'
import { arrange, type Fit, fitBands } from './budget.js'
import type { CommandCosts } from './cost.js'
import { formGroups, unsliced } from './group.js'
import { ScratchTable } from './group-memory.js'
import { advanceLastReaders, gatherSmallWork } from './order.js'
import { Partitioner, type SharedMemories } from './partition.js'
import { flopsOf, type Recomputable, recomputable, recompute } from './recompute.js'
import { assignStorage, type Storage } from './storage.js'

/** A program with its groups, slicings and arena. */
export interface Arrangement {
  readonly program: Program
  readonly storage: Storage
  readonly fit: Fit
}

/** A program in which some tensors are made again, and what was found out about it. */
interface Variant {
  readonly program: Program
  readonly chosen: readonly Recomputable[]
  readonly partitioner: Partitioner
}

/**
 * The search for a program's plan. Groups and slices first: the fastest partition that fits. Where none does, what holds the least
 * peak is made again instead of kept, one tensor more at a time, cheapest first; then, for decoders, bands of rows. Deterministic.
 */
export class ProgramSearch {
  private readonly variants: Variant[]
  private readonly candidates: readonly Recomputable[]
  /** Operations that may be spent on making tensors again. */
  private readonly spare: number
  private readonly scratch: ScratchTable
  private readonly memories: SharedMemories = new Map()
  private smallest?: Arrangement

  /** @param share most operations that may be spent on making tensors again, as a share of the program's */
  constructor(
    private readonly program: Program,
    private readonly target: Target,
    private readonly costs: CommandCosts,
    share: number,
  ) {
    this.candidates = recomputable(program)
    this.spare = share * program.nodes.reduce((sum, node) => sum + flopsOf(node), 0)
    this.scratch = new ScratchTable(target)
    this.variants = [this.variant([])]
  }

  /** Nothing sliced. */
  whole(): Arrangement {
    const { program } = this
    const storage = assignStorage(program, formGroups(program), this.target)
    return { program, storage, fit: arrange(storage, storage.groups.map(unsliced)) }
  }

  /** The fastest arrangement found within `allowed` bytes; that of the least bytes where none was found. */
  within(allowed: number): Arrangement {
    const found = this.fastest(allowed)
    if (found) return found
    return this.least()
  }

  /**
   * The arrangement of the least bytes that the search can find: allowed a byte less, it finds none. Then every budget from these bytes
   * on has a plan, and none below.
   */
  private least(): Arrangement {
    if (this.smallest) return this.smallest
    const narrowest = this.narrowest()
    let best = this.leastOf(narrowest)
    const banded = this.bands(0)
    if (banded && banded.fit.packing.bytes < best.fit.packing.bytes) best = banded
    for (;;) {
      const { bytes } = best.fit.packing
      const next = this.fastest(bytes)
      if (next && next.fit.packing.bytes < bytes) {
        best = next
        continue
      }
      const lower = this.fastest(bytes - 1)
      if (!lower) break
      best = lower
    }
    this.smallest = best
    return best
  }

  /** The first variant of those with the smallest bottleneck. */
  private narrowest(): Variant {
    let best = this.variants[0]!
    for (let i = 1; this.variantAt(i); i++) {
      const variant = this.variants[i]!
      if (variant.partitioner.bottleneck().bytes < best.partitioner.bottleneck().bytes)
        best = variant
    }
    return best
  }

  private fastest(allowed: number): Arrangement | undefined {
    for (let i = 0; ; i++) {
      const variant = this.variantAt(i)
      if (!variant) break
      const found = this.partitioned(variant, allowed)
      if (found) return found
    }
    const banded = this.bands(allowed)
    return banded && banded.fit.packing.bytes <= allowed ? banded : undefined
  }

  /**
   * A variant's fastest partition whose arena stays within `allowed` bytes. Where packing leaves gaps, groups that can do with less get
   * less, and at last the limit itself is lowered.
   */
  private partitioned(variant: Variant, allowed: number): Arrangement | undefined {
    const least = variant.partitioner.bottleneck().bytes
    for (let limit = allowed; limit >= least; limit = Math.min(limit - 64, limit * tighter)) {
      for (const share of roomyShares) {
        const found = this.arranged(variant, limit, limit * share)
        if (!found) return undefined
        if (found.fit.packing.bytes <= allowed) return found
      }
      if (limit > least && limit * tighter < least) {
        const found = this.arranged(variant, least, least * roomyShares[1]!)
        return found && found.fit.packing.bytes <= allowed ? found : undefined
      }
    }
    return undefined
  }

  private leastOf(variant: Variant): Arrangement {
    const least = variant.partitioner.bottleneck().bytes
    let best: Arrangement | undefined
    for (const share of roomyShares) {
      const found = this.arranged(variant, least, least * share)!
      if (!best || found.fit.packing.bytes < best.fit.packing.bytes) best = found
      if (best.fit.packing.bytes <= best.fit.lowerBound) break
    }
    return best!
  }

  private arranged(variant: Variant, limit: number, roomy: number): Arrangement | undefined {
    const partition = variant.partitioner.fastest(limit, roomy)
    if (!partition) return undefined
    const storage = assignStorage(variant.program, partition.groups, this.target)
    return {
      program: variant.program,
      storage,
      fit: arrange(storage, [...partition.slicings]),
    }
  }

  /** The variants in order; one more tensor is made again from each to the next. */
  private variantAt(index: number): Variant | undefined {
    while (this.variants.length <= index) {
      const last = this.variants[this.variants.length - 1]!
      const next = this.nextToMakeAgain(last)
      if (!next) return undefined
      this.variants.push(this.variant([...last.chosen, next]))
    }
    return this.variants[index]
  }

  /** The cheapest candidate whose tensor waits at a variant's bottleneck. */
  private nextToMakeAgain({ program, chosen, partitioner }: Variant): Recomputable | undefined {
    const { step } = partitioner.bottleneck()
    const steps = new Map(program.nodes.map(({ output }, at) => [output, at]))
    const spent = chosen.reduce((sum, { flops }) => sum + flops, 0)
    return this.candidates.find(
      candidate =>
        !chosen.includes(candidate) &&
        spent + candidate.flops <= this.spare &&
        steps.get(candidate.early.output)! < step &&
        step <= steps.get(candidate.late[0]!.output)!,
    )
  }

  private variant(chosen: readonly Recomputable[]): Variant {
    const inOrder = this.candidates.filter(candidate => chosen.includes(candidate))
    const program = gatherSmallWork(recompute(this.program, inOrder))
    const changed = new Set<Tensor>()
    for (const { tensor, producer, late } of inOrder)
      for (const value of [tensor, producer.output, ...late.map(({ output }) => output)])
        changed.add(value)
    const partitioner = new Partitioner(
      program,
      this.target,
      this.costs,
      this.scratch,
      this.memories,
      changed,
    )
    return { program, chosen, partitioner }
  }

  /** In bands of rows; of use only where there is but one frame, and slices of frames are no way down. */
  private bands(allowed: number): Arrangement | undefined {
    if (this.program.nodes.some(({ output: { shape } }) => shape.length === 4 && shape[0]! > 1))
      return undefined
    const program = advanceLastReaders(this.program)
    const storage = assignStorage(program, formGroups(program), this.target)
    const fit = fitBands(storage, allowed)
    return fit && { program, storage, fit }
  }
}

/** How much of a limit groups take that can do with less, tried one after another until the arena packs. */
const roomyShares = [1, 0.97, 0.93, 0.88]
/** The next limit after one under which no arena packs. */
const tighter = 0.99
