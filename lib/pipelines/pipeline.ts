import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { OptionError } from '../errors.js'
import type { Checkpoint } from '../io/checkpoint.js'
import { readJson } from '../io/weight-index.js'
import { checkNames } from '../option-names.js'
import { type Frontier, frontierOf } from '../planner/frontier.js'
import { leastBudget } from '../planner/least-budget.js'
import {
  type PlanOptions as StageOptions,
  type StagePlan,
  StagePlanner,
  type StageSpec,
  secondsOf,
} from '../planner/plan.js'
import type { DType } from '../program/tensor.js'
import { formatRehash, type RehashWish } from '../rehash/options.js'
import { fixedOptions, type RehashRun } from '../rehash/resolve.js'
import { costModel } from '../runtime/calibration.js'
import {
  type Compute,
  checkActivations,
  checkMemory,
  defaultActivations,
  resolveDevice,
} from '../runtime/device.js'
import { checkWeights } from '../runtime/weights.js'
import type { Scheduler } from '../schedulers/index.js'
import { parseBytes } from '../units.js'
import { checkpointWeights, plannedDtypes } from './checkpoint-weights.js'
import { Generation, noiseOf } from './generation.js'
import type { LatentExtents, LatentOrder } from './layout.js'
import { latentSize, type RunOptions, runNames, type Shape, type ShapeOptions } from './options.js'
import { PipelinePlan } from './pipeline-plan.js'
import { decodeStages, planned, readPlan } from './plan-document.js'
import { planWidest, widestFirst } from './plan-widest.js'
import type { StagedRehash } from './rehash-stage.js'
import { rehashSummary } from './rehash-summary.js'

export interface LoadOptions {
  /** Folder of a motion adapter that is not inside the checkpoint. */
  motionAdapter?: string
  /** Variant of weight files, such as `fp16`. */
  variant?: string
  /** `auto`, `cpu`, `cuda:0`. */
  device?: string
  /** Most bytes at any time: `'2 GiB'` or a number. Default: no limit but the plan's own peak. */
  budget?: number | string
  threads?: number
  /** Products of convolutions and matrices in float32, or in bfloat16 with sums in float32: faster, with other low bits, where the processor has AVX512_BF16 or AMX. Default: `f32`. */
  compute?: Compute
  /** For every generation that says nothing else: see GenerateOptions. */
  rehash?: RehashWish
}

/** Names of the fields of LoadOptions. */
export const loadNames = [
  'motionAdapter',
  'variant',
  'device',
  'budget',
  'threads',
  'compute',
  'rehash',
] as const satisfies readonly (keyof LoadOptions)[]

/** The stages of a generation, in the order in which they run, and the steps of its denoising. */
export interface Staged {
  readonly stages: StageSpec[]
  readonly scheduler: Scheduler
  readonly rehash?: StagedRehash
  /** What to plan where the budget cannot hold these. */
  readonly narrower?: Staged
}

/** A plan with what it was made for. */
export interface Prepared<S extends Shape> {
  readonly key: string
  readonly shape: S
  readonly scheduler: Scheduler
  readonly rehash?: RehashRun
  readonly plan: PipelinePlan
  readonly device: string
}

/** Everything that planning needs but the budget. */
interface Inputs<S extends Shape> extends Staged {
  readonly shape: S
  readonly device: string
  readonly stageOptions: StageOptions
}

/** What was last planned for, with the planners of its stages. */
interface Planned<S extends Shape> {
  readonly key: string
  readonly inputs: Inputs<S>
  readonly planners: StagePlanners
}

/** Planners by stage, made when first asked for: stages that alternatives share are planned once. */
class StagePlanners {
  private readonly known = new Map<StageSpec, StagePlanner>()

  constructor(private readonly options: StageOptions) {}

  of(stage: StageSpec): StagePlanner {
    const planner = this.known.get(stage) ?? new StagePlanner(stage, this.options)
    this.known.set(stage, planner)
    return planner
  }
}

/**
 * What every pipeline shares: planning under a budget, plans from files, the device, and the checks before a run. A pipeline itself says
 * its shape, its stages and the copies it keeps, and what happens in each stage. A loaded pipeline holds no weights: each stage takes its
 * memory, packs its weights, runs, and gives all back.
 */
export abstract class Pipeline<S extends Shape, O extends ShapeOptions> implements AsyncDisposable {
  private readonly stop = new AbortController()
  private prepared?: Prepared<S>
  private planned?: Planned<S>

  protected constructor(
    readonly checkpoint: Checkpoint,
    protected readonly options: LoadOptions,
  ) {
    checkNames(options, loadNames)
    if (options.budget !== undefined) parseBytes(options.budget)
  }

  /** Names of the shape's fields: those that a plan fixes. */
  protected abstract readonly shapeNames: readonly (keyof S & string)[]

  /** Names of what a generation begins with. */
  protected abstract readonly inputNames: readonly string[]

  /** Options with what the checkpoint recommends. @throws OptionError */
  protected abstract shapeOf(options: O): S

  /** Traces the stages. @throws OptionError, CheckpointError */
  protected abstract stagesFor(shape: S): Staged

  /** The order of its latents in diffusers. */
  abstract readonly order: LatentOrder

  abstract get latentChannels(): number

  /** Pixels of a side for one latent. */
  abstract get pixelsPerLatent(): number

  /** Bytes of JavaScript copies kept while each stage runs. */
  protected abstract hostBytes(shape: S, plans: readonly StagePlan[]): Record<string, number>

  /**
   * The plan of a generation: peak bytes of every stage, before a weight is read.
   * @param weights stored dtype to assume, without opening weight files
   * @throws BudgetError, OptionError; PlanError for a plan in a file that is not for this checkpoint
   */
  plan(options: O = {} as O, weights?: DType): PipelinePlan {
    return this.prepare(options, weights).plan
  }

  /**
   * Least budget under which `plan` of these options fits: what the largest stage needs. With rehash, in the narrowest storage that is
   * left open.
   * @throws OptionError
   */
  smallestBudget(options: O = {} as O, weights?: DType): number {
    const { planners, inputs } = this.plannersOf(options, weights)
    const kept = [...widestFirst(inputs)].filter(({ rehash }) => !inputs.rehash || rehash)
    const { stages } = kept[kept.length - 1]!
    return Math.max(...stages.map(stage => leastBudget(budget => planners.of(stage).plan(budget))))
  }

  /**
   * The budget of the fastest plan that is found; undefined where none is faster than that without a budget. By measured times (`sluice
   * calibrate`) one in slices that stay in the caches may be; the built-in roofline knows no caches.
   * @throws OptionError
   */
  fastestBudget(options: O = {} as O, weights?: DType): number | undefined {
    const { inputs, planners } = this.plannersOf(options, weights)
    if (!inputs.stageOptions.cost?.cached) return undefined
    const { points } = this.frontier(options, weights)
    const { seconds, peakBytes } = points[points.length - 1]!
    const free = inputs.stages.reduce((sum, stage) => sum + secondsOf(planners.of(stage).plan()), 0)
    return seconds < free ? peakBytes : undefined
  }

  /**
   * Peaks with predicted times, from the least memory to the fastest: what a budget costs. The pipeline's own budget does not count.
   * @throws OptionError
   */
  frontier(options: O = {} as O, weights?: DType): Frontier {
    const { planners, inputs } = this.plannersOf(options, weights)
    return frontierOf(inputs.stages.map(stage => budget => planners.of(stage).plan(budget)))
  }

  /** The scheduler of these options, by diffusers' name, and the time steps that the network is given. @throws OptionError */
  stepsOf(options: O = {} as O): { scheduler: string; timesteps: readonly number[] } {
    const { scheduler } = this.stagesFor(this.shapeOf(options))
    return { scheduler: scheduler.name, timesteps: [...scheduler.timesteps] }
  }

  /** Cancels what runs; the pipeline cannot be used afterwards. */
  close(): void {
    this.stop.abort()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close()
  }

  /**
   * Everything that can be refused before a weight is read.
   * @throws OptionError, CheckpointError, BudgetError, PlanError, MemoryError
   */
  protected begin(options: O & RunOptions): { prepared: Prepared<S>; generation: Generation } {
    checkNames(options, [...this.shapeNames, ...this.inputNames, ...runNames])
    if (this.stop.signal.aborted)
      throw new OptionError('pipeline: expected to be open, got closed; load it again')
    const prepared = this.prepare(options)
    const { plan, device } = prepared
    for (const { activations } of plan.stages) checkActivations(device, activations)
    checkMemory(device, plan.peakBytes)
    const weights = checkpointWeights(this.checkpoint)
    // The decoder's weights too: what is missing there must not show after hours of sampling.
    for (const stage of plan.stages) checkWeights(stage.weights, weights)
    const signal = options.signal
      ? AbortSignal.any([options.signal, this.stop.signal])
      : this.stop.signal
    const open = { device, weights, signal, poison: options.poison }
    return {
      prepared,
      generation: new Generation(plan, open, options.seed, options.onProgress, options.onFeature),
    }
  }

  /** Extents of the latents. @throws OptionError for sides that the VAE cannot halve often enough */
  protected latentsOf(shape: S): LatentExtents {
    const { rows, cols } = latentSize(this.pixelsPerLatent, shape)
    return [shape.frames, rows, cols, this.latentChannels]
  }

  /** The noise that denoising starts from, channels last. @throws OptionError for other noise than the shape asks for */
  protected startNoise(shape: S, given: Float32Array | undefined, seed: number): Float32Array {
    const extents = this.latentsOf(shape)
    return this.order.read(noiseOf('initLatents', this.order.shape(extents), given, seed), extents)
  }

  private prepare(options: O, weights?: DType): Prepared<S> {
    if (options.plan !== undefined) return this.prepareFrom(options.plan, options, weights)
    const { key: planned, inputs, planners } = this.plannersOf(options, weights)
    const budget = this.budgetOf(options)
    // A plan that was shown is the plan that runs: at true size it takes seconds to make.
    const key = JSON.stringify([planned, budget])
    if (this.prepared?.key === key) return this.prepared
    const { staged, plans } = planWidest(inputs, stage => planners.of(stage).plan(budget))
    this.prepared = this.assemble(key, { ...inputs, ...staged }, plans, budget, inputs.rehash)
    return this.prepared
  }

  /** The planners of all stages: kept, since another budget is planned sooner than the first. */
  private plannersOf(options: O, weights?: DType): Planned<S> {
    const { slices, recompute, streaming, spill } = options
    const wish = [slices, recompute, streaming, spill]
    const key = JSON.stringify([this.shapeOf(options), weights, ...wish])
    if (this.planned?.key !== key) {
      const inputs = this.inputsOf(options, weights)
      this.planned = { key, inputs, planners: new StagePlanners(inputs.stageOptions) }
    }
    return this.planned
  }

  /** What a plan that was made before says, checked against this checkpoint. */
  private prepareFrom(plan: string | PipelinePlan, options: O, weights?: DType): Prepared<S> {
    const document = typeof plan === 'string' ? readPlan(plan) : plan.toJSON()
    const { device, threads, shape } = planned(document, options, this.shapeNames)
    const key = `${document.checksum} ${weights}`
    if (this.prepared?.key === key) return this.prepared
    const wish = { ...shape, rehash: shape.rehash ?? false } as unknown as O
    const inputs = this.inputsOf(wish, weights, {
      device: this.options.device ?? device,
      threads: this.options.threads ?? threads,
    })
    const plans = decodeStages(document, inputs.stages, inputs.stageOptions)
    const budget = this.budgetOf(options)
    const peak = Math.max(...plans.map(({ peakBytes }) => peakBytes))
    if (budget !== undefined && peak > budget)
      throw new OptionError(
        `budget: expected at least the plan's peak of ${peak} bytes, got ${budget}; leave the budget out, or plan for it`,
      )
    this.prepared = this.assemble(key, inputs, plans, document.budget)
    return this.prepared
  }

  private assemble(
    key: string,
    { shape, scheduler, device, stageOptions, rehash }: Inputs<S>,
    plans: readonly StagePlan[],
    budget: number | undefined,
    asked = rehash,
  ): Prepared<S> {
    const host = this.hostBytes(shape, plans)
    const { threads } = stageOptions.target
    const text = rehash && formatRehash(fixedOptions(rehash.run))
    const described = { ...(shape as object), rehash: text, device, threads }
    const summary = asked && rehashSummary(asked, rehash, plans)
    const plan = new PipelinePlan(plans, described, host, budget, summary)
    return { key, shape, scheduler, rehash: rehash?.run, plan, device }
  }

  private inputsOf(
    options: O,
    weights?: DType,
    machine: Pick<LoadOptions, 'device' | 'threads' | 'compute'> = this.options,
  ): Inputs<S> {
    const shape = this.shapeOf(options)
    const { device, target } = resolveDevice(machine.device, machine.threads, machine.compute)
    const weightDtype = plannedDtypes(
      checkpointWeights(this.checkpoint),
      name => this.checkpoint.component(name).hasWeights,
      weights,
    )
    const stageOptions = {
      target,
      weightDtype,
      slices: options.slices,
      ...(options.recompute !== undefined && { recompute: options.recompute }),
      streaming: options.streaming,
      spill: options.spill,
      activations: shape.dtype ?? defaultActivations(target),
      cost: costModel(target),
    }
    return { ...this.stagesFor(shape), shape, device, stageOptions }
  }

  private budgetOf(options: O): number | undefined {
    const budget = options.budget ?? this.options.budget
    return budget === undefined ? undefined : parseBytes(budget)
  }
}

/** What the authors of a checkpoint recommend, from `sluice.json` beside model_index.json. */
export function readDefaults<O>(path: string): Partial<O> {
  const file = join(path, 'sluice.json')
  return existsSync(file) ? ((readJson(file).defaults as Partial<O>) ?? {}) : {}
}
