import { BudgetError, OptionError } from '../errors.js'
import { operand, type Program } from '../program/graph.js'
import type { Target } from '../program/op.js'
import { type DType, tensorBytes } from '../program/tensor.js'
import { verifyProgram } from '../program/verify.js'
import { formatBytes } from '../units.js'
import { type Arrangement, type Fit, fitSlices } from './arrange.js'
import { CommandCosts, type CostModel, roofline, type Work } from './cost.js'
import { expandNorms } from './expand.js'
import { fuse } from './fuse.js'
import { formGroups, type Group, type Slicing, sliceCounts } from './group.js'
import { narrowActivations } from './narrow.js'
import { convPhases } from './phases.js'
import { ProgramSearch } from './search.js'
import { layoutHost } from './spill.js'
import { aligned, assignStorage, type Buffer, nodesByTime, type Storage } from './storage.js'
import {
  hostBase,
  Streaming,
  type StreamingChoice,
  streamingChoices,
  streamingOrder,
} from './streaming.js'
import { layoutWeights, type WeightLayout } from './weights.js'
import { readsNormStored } from './wgmma.js'

/** A tensor that a stage keeps from its first run to its last: inputs, outputs, latents, caches. */
export interface StateSpec {
  readonly shape: readonly number[]
  readonly dtype: DType
}

/** Programs that run in one arena with one set of weights, and the state they share. */
export interface StageSpec {
  /** `text`, `denoise`, `decode`, … */
  readonly name: string
  readonly state: Readonly<Record<string, StateSpec>>
  readonly programs: Readonly<Record<string, Program>>
  /** How often each program runs, for time and work. */
  readonly runs?: Readonly<Record<string, number>>
  /** Most operations that may be spent on making tensors again before rows are cut in bands, as a share of each program's. Default: 0.02. */
  readonly recompute?: number
}

export interface PlanOptions {
  readonly target: Target
  /** Most bytes of arena and weights together; absent: no limit. */
  readonly budget?: number
  /** Stored dtype of a weight, by its key. */
  readonly weightDtype: (key: string) => DType
  /** Slices of every group that can be sliced (up to its extent), instead of what the budget asks. */
  readonly slices?: number
  /** How activations are stored; f16 and bf16 plan for a GPU. Default: f32. */
  readonly activations?: DType
  /** Predicts times; default: the built-in roofline. */
  readonly cost?: CostModel
  /** Most operations that may be spent on making tensors again, instead of the stage's own share, and of 0.35 where all else is too large. */
  readonly recompute?: number
  /**
   * Whether weights may come when they are needed, each step anew, instead of standing in memory: `auto` where the budget holds them in no
   * other way, `never`, `always`. Default: `auto`.
   */
  readonly streaming?: StreamingChoice
  /** Whether features may wait in the host's memory, where nothing else fits; beside a GPU alone. Default: true. */
  readonly spill?: boolean
}

/** A program grouped, sliced, ordered and placed. */
export interface ProgramPlan {
  readonly name: string
  /** As traced, before the planner's passes. */
  readonly traced: Program
  readonly program: Program
  readonly groups: readonly Group[]
  readonly slicings: readonly Slicing[]
  readonly buffers: readonly Buffer[]
  /** Offsets of the buffers from the program's base. */
  readonly offsets: readonly number[]
  readonly bytes: number
  /** Most bytes alive at one step; bytes never falls below. */
  readonly lowerBound: number
  readonly peak: { op: string; tensor: string }
  readonly commands: number
  readonly work: Work
  readonly runs: number
  readonly target: Target
}

/** A stage's plan: its peak to the byte, and how it is reached. */
export interface StagePlan {
  readonly name: string
  readonly state: Readonly<Record<string, StateSpec & { offset: number; bytes: number }>>
  readonly stateBytes: number
  readonly programs: Readonly<Record<string, ProgramPlan>>
  readonly weights: WeightLayout
  /** State and the largest program's memory. */
  readonly arenaBytes: number
  /** Predicted peak: arena and resident weights. */
  readonly peakBytes: number
  /** Pinned memory of the host beside the budget, for what is streamed to a GPU. */
  readonly hostBytes: number
  readonly target: Target
  /** The cost model that the times come from. */
  readonly cost: string
  /** How activations are stored. */
  readonly activations: DType
}

/**
 * Plans a stage: passes over each program (norm split, fusion), the search for groups, slices and storage, offsets, weights.
 * @throws BudgetError when the stage cannot fit; ProgramError when a program breaks a rule.
 */
export function planStage(spec: StageSpec, options: PlanOptions): StagePlan {
  return new StagePlanner(spec, options).plan(options.budget)
}

/** Plans one stage for several budgets, each sooner than the first. */
export class StagePlanner {
  private readonly state: StagePlan['state']
  private readonly stateBytes: number
  private readonly prepared: readonly PreparedProgram[]
  /** What is planned apart, by how many weights are streamed and whether features are spilled. */
  private readonly residencies = new Map<string, Residency>()
  private order?: ReturnType<typeof streamingOrder>
  private lowest?: number

  /** @throws OptionError for slices, a share or a way to stream that are none; ProgramError when a program breaks a rule. */
  constructor(
    private readonly spec: StageSpec,
    private readonly options: Omit<PlanOptions, 'budget'>,
  ) {
    checkShare(options.recompute)
    checkSlices(options.slices)
    checkStreaming(options.streaming)
    const state: Record<string, StateSpec & { offset: number; bytes: number }> = {}
    let stateBytes = 0
    for (const [name, { shape, dtype }] of Object.entries(spec.state)) {
      const bytes = tensorBytes({ shape, dtype })
      const offset = aligned(stateBytes)
      state[name] = { shape, dtype, offset, bytes }
      stateBytes = offset + bytes
    }
    this.state = state
    this.stateBytes = stateBytes
    this.prepared = preparePrograms(spec, options)
  }

  /**
   * The fastest plan found: all weights resident, or as few of them streamed as must be or as make the plan faster.
   * @param budget most bytes of arena and resident weights together; absent: no limit
   * @throws BudgetError when the stage cannot fit.
   */
  plan(budget?: number): StagePlan {
    const { streaming = 'auto', spill = true, target } = this.options
    const ways: Way[] = streamedShares[streaming].map(share => ({ share, spill: false }))
    const last = ways[ways.length - 1]!
    if (spill && target.backend !== 'cpu') ways.push({ ...last, spill: true })
    if (budget === undefined) return this.freely(ways[0]!)
    const best = this.fastest(ways, budget)
    if (best) return best
    let least = this.least(ways, budget)
    // Where a little more or less is streamed there may be less yet.
    let lower: StagePlan | undefined = least
    while (lower) {
      least = lower
      lower = this.fastest(ways, least.peakBytes - 1)
    }
    if (least.peakBytes > budget) throw refuse(least, budget)
    return least
  }

  /** The plan of the least bytes: with all streamed, or with all resident where they are little more than what one op needs. */
  private least(ways: readonly Way[], budget: number): StagePlan {
    const leastOf = (way: Way) => {
      const residency = this.residencyAt(way)
      const allowed = this.allowedIn(residency, budget)
      return this.assemble(residency, programs => programs.plan(allowed))!
    }
    const best = leastOf(ways[ways.length - 1]!)
    const { streamed, streamedBytes } = best.weights
    const largest = Math.max(0, ...streamed.map(({ bytes }) => bytes))
    if (streamedBytes > fewWeights * largest) return best
    const standing = leastOf(ways[0]!)
    return standing.peakBytes < best.peakBytes ? standing : best
  }

  /** The fastest plan of the ways that soon give one within a budget: the more is streamed, the more time it takes at the least. */
  private fastest(ways: readonly Way[], budget: number): StagePlan | undefined {
    let best: { way: Way; plan: StagePlan } | undefined
    const promises = (way: Way) =>
      !best || secondsOf(this.freely(way)) < secondsOf(best.plan) * worthwhile
    const consider = (way: Way) => {
      const plan = this.within(way, budget)
      if (plan && !(best && secondsOf(best.plan) <= secondsOf(plan))) best = { way, plan }
    }
    const weights = this.residencyAt(resident).weights.bytes
    // Of weights that are little beside the budget all are streamed or none.
    const few = weights * leastShare < budget
    for (const way of ways) {
      if (!promises(way)) break
      if (!few || way.share === 0 || way.share === 1) consider(way)
    }
    if (few || (this.options.streaming ?? 'auto') !== 'auto') return best?.plan
    for (const step of finerShares) {
      const { share, spill } = best?.way ?? ways.at(-1)!
      for (const way of [share - step, share + step].map(finer => ({ share: finer, spill })))
        if (way.share > 0 && way.share < 1 && promises(way)) consider(way)
    }
    return best?.plan
  }

  /** The plan of a way without limits. */
  private freely(way: Way): StagePlan {
    const residency = this.residencyAt(way)
    residency.free ??= this.assemble(residency, programs =>
      programs.plan(Number.POSITIVE_INFINITY),
    )!
    return residency.free
  }

  /** A plan that keeps to a budget in one way, or none that is soon found: the least is looked for in the last way alone. */
  private within(way: Way, budget: number): StagePlan | undefined {
    const residency = this.residencyAt(way)
    const allowed = this.allowedIn(residency, budget)
    if (allowed < 0 || (Number.isFinite(allowed) && allowed < this.floor())) return undefined
    const plan = this.assemble(residency, programs => programs.find(allowed))
    return plan && plan.peakBytes <= budget ? plan : undefined
  }

  /** What the programs need without any weights, at the least. */
  private floor(): number {
    this.lowest ??= Math.max(...this.residencyAt(resident).programs.map(each => each.floor()))
    return this.lowest
  }

  /** What a budget leaves for programs; less than 0: not even state and weights fit. Programs begin aligned behind the state, unless they need nothing. */
  private allowedIn({ weights }: Residency, budget: number): number {
    const left = budget - this.stateBytes - weights.bytes
    return left < 0 ? left : Math.max(0, budget - aligned(this.stateBytes) - weights.bytes)
  }

  private residencyAt({ share, spill }: Way): Residency {
    const streams = share === 0 ? new Set<string>() : this.streamedKeys(share)
    const key = `${streams.size} ${spill}`
    const known = this.residencies.get(key)
    if (known) return known
    const { spec, options, prepared } = this
    const nodes = prepared.flatMap(({ program }) => program.nodes)
    const weights = layoutWeights(nodes, options.weightDtype, streams)
    const programs = prepared.map(
      ({ name, program }) =>
        new ProgramPlanner(
          name,
          spec.programs[name]!,
          program,
          spec.runs?.[name] ?? 1,
          spec.recompute,
          { ...options, spill },
          new Streaming(weights, options.target.backend),
        ),
    )
    const residency: Residency = { weights, programs }
    this.residencies.set(key, residency)
    return residency
  }

  /** The weights that stream best, until they are a share of all. */
  private streamedKeys(share: number): Set<string> {
    const { weights } = this.residencyAt(resident)
    this.order ??= streamingOrder(
      weights,
      this.prepared.map(({ name, program }) => ({
        nodes: program.nodes,
        runs: this.spec.runs?.[name] ?? 1,
      })),
    )
    const total = this.order.reduce((sum, { bytes }) => sum + bytes, 0)
    const keys = new Set<string>()
    let bytes = 0
    for (const { key, bytes: own } of this.order) {
      if (bytes >= share * total) break
      keys.add(key)
      bytes += own
    }
    return keys
  }

  private assemble(
    { weights, programs: planners }: Residency,
    planned: (planner: ProgramPlanner) => ProgramPlan | undefined,
  ): StagePlan | undefined {
    const { spec, options, state, stateBytes } = this
    const base = aligned(stateBytes)
    const programs: Record<string, ProgramPlan> = {}
    let arenaBytes = stateBytes
    for (const planner of planners) {
      const plan = planned(planner)
      if (!plan) return undefined
      programs[planner.name] = plan
      if (plan.bytes > 0) arenaBytes = Math.max(arenaBytes, base + plan.bytes)
    }
    return {
      name: spec.name,
      state,
      stateBytes,
      programs,
      weights,
      arenaBytes,
      peakBytes: arenaBytes + weights.bytes,
      hostBytes: hostBytesOf(weights, options.target, Object.values(programs)),
      target: options.target,
      cost: (options.cost ?? roofline(options.target)).name,
      activations: options.activations ?? 'f32',
    }
  }
}

/** Predicted seconds of all runs of a stage. */
export function secondsOf({ programs }: Pick<StagePlan, 'programs'>): number {
  return Object.values(programs).reduce((sum, { work, runs }) => sum + work.seconds * runs, 0)
}

/** A share of the weights to stream, and whether features may be spilled. */
interface Way {
  readonly share: number
  readonly spill: boolean
}

const resident: Way = { share: 0, spill: false }

/** Shares by which the best of those is then made smaller and larger: a UNet in 1 GB on a GPU takes 9 % less time by the model. */
const finerShares = [1 / 8, 1 / 16]
/** So many times the weights are less than the budget: they are few. */
const leastShare = 4

/** More is streamed only where it could take less than this share of the best time. */
const worthwhile = 0.99

/** Weights that are no more than so many times the largest may take less room when they stand than when they come. */
const fewWeights = 4

/** Weights laid out for one choice of what is streamed, and the planners of that choice. */
interface Residency {
  readonly weights: WeightLayout
  readonly programs: readonly ProgramPlanner[]
  /** Their plan without limits. */
  free?: StagePlan
}

/** Shares of the weights that are streamed, tried in this order. */
const streamedShares: Readonly<Record<StreamingChoice, readonly number[]>> = {
  auto: [0, 0.25, 0.5, 0.75, 1],
  never: [0],
  always: [1],
}

/** Pinned memory of the host that a stage takes beside its budget: streamed weights, and what the hungriest program spills. */
export function hostBytesOf(
  weights: WeightLayout,
  target: Target,
  programs: readonly ProgramPlan[],
): number {
  const base = hostBase(weights, target)
  return Math.max(base, ...programs.map(({ program }) => layoutHost(program, base).end))
}

interface PreparedProgram {
  readonly name: string
  readonly program: Program
}

function preparePrograms(spec: StageSpec, options: PassOptions): PreparedProgram[] {
  return Object.entries(spec.programs).map(([name, program]) => ({
    name,
    program: prepare(program, options),
  }))
}

/** What the passes that do not depend on the budget depend on. */
type PassOptions = Pick<PlanOptions, 'target' | 'activations' | 'weightDtype'>

/**
 * What does not depend on the budget: the programs after their passes, and where the weights stand.
 * @param streams keys of weights that are streamed
 */
export function prepareStage(
  spec: StageSpec,
  options: PassOptions,
  streams?: ReadonlySet<string>,
): {
  prepared: PreparedProgram[]
  weights: WeightLayout
  activations: DType
} {
  const activations = options.activations ?? 'f32'
  const prepared = preparePrograms(spec, options)
  const nodes = prepared.flatMap(({ program }) => program.nodes)
  return { prepared, weights: layoutWeights(nodes, options.weightDtype, streams), activations }
}

/** The passes that do not depend on the budget: what is fused changes bits, and no budget may. */
function prepare(program: Program, options: PassOptions): Program {
  const { target, activations = 'f32', weightDtype } = options
  verifyProgram(program)
  const prepared = fuse(
    expandNorms(program),
    node =>
      target.wgmma === true &&
      readsNormStored(node, activations, weightDtype(operand(node, 'weight')!.name)),
  )
  const products = target.backend === 'cpu' ? convPhases(prepared) : prepared
  verifyProgram(products)
  return narrowActivations(products, activations)
}

/** Plans of one program: chosen slices, all whole where nothing is limited, or what the search finds. */
class ProgramPlanner {
  private readonly costs: CommandCosts
  private readonly search: ProgramSearch
  private whole?: ProgramPlan
  constructor(
    readonly name: string,
    private readonly traced: Program,
    private readonly program: Program,
    private readonly runs: number,
    share: number | undefined,
    private readonly options: Omit<PlanOptions, 'budget'>,
    private readonly streaming: Streaming,
  ) {
    const { cost, target, weightDtype, spill = false } = options
    this.costs = new CommandCosts(cost ?? roofline(target), weightDtype, streaming)
    const recompute = options.recompute ?? share ?? recomputeShare
    const limits = { recompute, bands: options.recompute ?? bandsShare, spill }
    this.search = new ProgramSearch(program, target, this.costs, limits, streaming)
  }

  /** The fastest plan within so many bytes; that of the least bytes where there is none. */
  plan(allowed: number): ProgramPlan {
    return this.find(allowed) ?? this.describe(this.search.within(allowed))
  }

  /** The fastest plan within so many bytes, or none that is soon found. */
  find(allowed: number): ProgramPlan | undefined {
    const simple = this.simple(allowed)
    if (simple) return simple
    const found = this.search.find(allowed)
    return found && this.describe(found)
  }

  floor(): number {
    return this.options.slices === undefined ? this.search.floor() : 0
  }

  /** What needs no search: chosen slices, or all whole where that fits. */
  private simple(allowed: number): ProgramPlan | undefined {
    const { slices, target } = this.options
    if (slices !== undefined) {
      const { program, streaming } = this
      const storage = assignStorage(program, formGroups(program), target, undefined, streaming)
      return this.describe({ program, storage, fit: fitSlices(storage, slices) })
    }
    this.whole ??= this.describe(this.search.whole())
    return this.whole.bytes <= allowed ? this.whole : undefined
  }

  private describe({ program, storage, fit }: Arrangement): ProgramPlan {
    const { name, traced, runs, costs } = this
    return describe(name, traced, program, runs, storage, fit, costs)
  }
}

/** Operations that may be spent on making tensors again, as a share of a program's. */
const recomputeShare = 0.02

/** The same where even bands of rows do not fit unless what stands at full resolution is made again in each. */
const bandsShare = 0.35

function checkSlices(slices: number | undefined): void {
  if (slices === undefined || (Number.isSafeInteger(slices) && slices > 0)) return
  throw new OptionError(`slices: expected a positive integer, got ${slices}`)
}

function checkShare(recompute: number | undefined): void {
  if (recompute === undefined || (recompute >= 0 && recompute <= 1)) return
  throw new OptionError(`recompute: expected a share from 0 to 1, got ${recompute}`)
}

function checkStreaming(streaming: StreamingChoice | undefined): void {
  if (streaming === undefined || streamingChoices.includes(streaming)) return
  throw new OptionError(
    `streaming: expected one of ${streamingChoices.join(', ')}, got ${streaming}`,
  )
}

function describe(
  name: string,
  traced: Program,
  program: Program,
  runs: number,
  storage: Storage,
  fit: Fit,
  costs: CommandCosts,
): ProgramPlan {
  const { groups, target } = storage
  const live = fit.buffers.filter(buffer => buffer.start <= fit.time && fit.time < buffer.end)
  const largest = live.reduce<Buffer | undefined>(
    (most, buffer) => (!most || buffer.bytes > most.bytes ? buffer : most),
    undefined,
  )
  return {
    name,
    traced,
    program,
    groups,
    slicings: fit.slicings,
    buffers: fit.buffers,
    offsets: fit.packing.offsets,
    bytes: fit.packing.bytes,
    lowerBound: fit.lowerBound,
    peak: {
      op: nodesByTime(storage, fit.slicings)[fit.time]?.name ?? '',
      tensor: largest ? `${largest.name} (${formatBytes(largest.bytes)})` : '',
    },
    commands: groups
      .flatMap(group => sliceCounts(group, fit.slicings[group.id]!))
      .reduce((sum, count) => sum + count, 0),
    work: costs.work(groups, fit.slicings),
    runs,
    target,
  }
}

function refuse(plan: StagePlan, allowed: number): BudgetError {
  const { name, weights, stateBytes, programs, peakBytes: needed } = plan
  const worst = Object.values(programs).reduce((a, b) => (b.bytes > a.bytes ? b : a))
  const { op, tensor } = worst.peak
  const streamed =
    weights.streamed.length > 0 ? ` (${formatBytes(weights.streamedBytes)} streamed)` : ''
  const parts = `weights ${formatBytes(weights.bytes)}${streamed}, state ${formatBytes(stateBytes)}, arena ${formatBytes(worst.bytes)}`
  return new BudgetError(
    `budget: expected at least ${needed} bytes (${formatBytes(needed)}) for stage ${name}, got ${allowed} (${formatBytes(allowed)}); ` +
      `${parts}; peak in ${op}, largest tensor ${tensor}; allow ${needed} bytes, or ask for fewer frames or a smaller picture`,
    { needed, allowed, stage: name, op, tensor },
  )
}
