import { BudgetError, OptionError } from '../errors.js'
import type { Program } from '../program/graph.js'
import type { Target } from '../program/op.js'
import { type DType, tensorBytes } from '../program/tensor.js'
import { verifyProgram } from '../program/verify.js'
import { formatBytes } from '../units.js'
import { type Fit, fitSlices } from './arrange.js'
import { CommandCosts, type CostModel, roofline, type Work } from './cost.js'
import { expandNorms } from './expand.js'
import { fuse } from './fuse.js'
import { formGroups, type Group, type Slicing, sliceCounts } from './group.js'
import { narrowActivations } from './narrow.js'
import { type Arrangement, ProgramSearch } from './search.js'
import { aligned, assignStorage, type Buffer, nodesByTime, type Storage } from './storage.js'
import { layoutWeights, type WeightLayout } from './weights.js'

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
  /** Most operations that may be spent on making tensors again, as a share of each program's. Default: 0.02. */
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
  /** Instead of the stage's own share of operations that may be spent on making tensors again. */
  readonly recompute?: number
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
  /** Predicted peak: arena and weights. */
  readonly peakBytes: number
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
  private readonly weights: WeightLayout
  private readonly programs: readonly ProgramPlanner[]

  /** @throws OptionError for slices or a share that are none; ProgramError when a program breaks a rule. */
  constructor(
    private readonly spec: StageSpec,
    private readonly options: Omit<PlanOptions, 'budget'>,
  ) {
    checkShare(options.recompute)
    checkSlices(options.slices)
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
    const { prepared, weights } = prepareStage(spec, options)
    this.weights = weights
    this.programs = prepared.map(
      ({ name, program }) =>
        new ProgramPlanner(name, spec.programs[name]!, program, spec.runs?.[name] ?? 1, {
          recompute: spec.recompute,
          ...options,
        }),
    )
  }

  /**
   * @param budget most bytes of arena and weights together; absent: no limit
   * @throws BudgetError when the stage cannot fit.
   */
  plan(budget?: number): StagePlan {
    const { spec, options, state, stateBytes, weights } = this
    const base = aligned(stateBytes)
    const allowed = (budget ?? Number.POSITIVE_INFINITY) - base - weights.bytes
    const programs: Record<string, ProgramPlan> = {}
    let arenaBytes = stateBytes
    for (const planner of this.programs) {
      const plan = planner.plan(allowed)
      programs[planner.name] = plan
      if (plan.bytes > 0) arenaBytes = Math.max(arenaBytes, base + plan.bytes)
    }
    const peakBytes = arenaBytes + weights.bytes
    if (budget !== undefined && peakBytes > budget)
      throw refuse(spec, budget, peakBytes, stateBytes, weights, programs)
    return {
      name: spec.name,
      state,
      stateBytes,
      programs,
      weights,
      arenaBytes,
      peakBytes,
      target: options.target,
      cost: (options.cost ?? roofline(options.target)).name,
      activations: options.activations ?? 'f32',
    }
  }
}

/** What does not depend on the budget: the programs after their passes, and where the weights stand. */
export function prepareStage(
  spec: StageSpec,
  options: Pick<PlanOptions, 'activations' | 'weightDtype'>,
): {
  prepared: { name: string; program: Program }[]
  weights: WeightLayout
  activations: DType
} {
  const activations = options.activations ?? 'f32'
  const prepared = Object.entries(spec.programs).map(([name, program]) => ({
    name,
    program: narrowActivations(prepare(program), activations),
  }))
  const nodes = prepared.flatMap(({ program }) => program.nodes)
  return { prepared, weights: layoutWeights(nodes, options.weightDtype), activations }
}

/** The passes that do not depend on the budget. */
function prepare(program: Program): Program {
  verifyProgram(program)
  const prepared = fuse(expandNorms(program))
  verifyProgram(prepared)
  return prepared
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
    private readonly options: Omit<PlanOptions, 'budget'>,
  ) {
    const { cost, target, weightDtype, recompute = recomputeShare } = options
    this.costs = new CommandCosts(cost ?? roofline(target), weightDtype)
    this.search = new ProgramSearch(program, target, this.costs, recompute)
  }

  plan(allowed: number): ProgramPlan {
    const { slices, target } = this.options
    if (slices !== undefined) {
      const { program } = this
      const storage = assignStorage(program, formGroups(program), target)
      return this.describe({ program, storage, fit: fitSlices(storage, slices) })
    }
    this.whole ??= this.describe(this.search.whole())
    return this.whole.bytes <= allowed ? this.whole : this.describe(this.search.within(allowed))
  }

  private describe({ program, storage, fit }: Arrangement): ProgramPlan {
    const { name, traced, runs, costs } = this
    return describe(name, traced, program, runs, storage, fit, costs)
  }
}

/** Operations that may be spent on making tensors again, as a share of a program's. */
const recomputeShare = 0.02

function checkSlices(slices: number | undefined): void {
  if (slices === undefined || (Number.isSafeInteger(slices) && slices > 0)) return
  throw new OptionError(`slices: expected a positive integer, got ${slices}`)
}

function checkShare(recompute: number | undefined): void {
  if (recompute === undefined || (recompute >= 0 && recompute <= 1)) return
  throw new OptionError(`recompute: expected a share from 0 to 1, got ${recompute}`)
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

function refuse(
  spec: StageSpec,
  allowed: number,
  needed: number,
  stateBytes: number,
  weights: WeightLayout,
  programs: Record<string, ProgramPlan>,
): BudgetError {
  const worst = Object.values(programs).reduce((a, b) => (b.bytes > a.bytes ? b : a))
  const { op, tensor } = worst.peak
  const parts = `weights ${formatBytes(weights.bytes)}, state ${formatBytes(stateBytes)}, arena ${formatBytes(worst.bytes)}`
  return new BudgetError(
    `budget: expected at least ${needed} bytes (${formatBytes(needed)}) for stage ${spec.name}, got ${allowed} (${formatBytes(allowed)}); ` +
      `${parts}; peak in ${op}, largest tensor ${tensor}; allow ${formatBytes(needed)}, or ask for fewer frames or a smaller picture`,
    { needed, allowed, stage: spec.name, op, tensor },
  )
}
