import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { BudgetError, OptionError, SluiceError } from '../errors.js'
import { type Checkpoint, openCheckpoint, requirePipeline } from '../io/checkpoint.js'
import { gaussian } from '../io/random.js'
import { CLIPTokenizer } from '../io/tokenizer.js'
import { readJson } from '../io/weight-index.js'
import { type Frontier, frontierOf } from '../planner/frontier.js'
import { planStage, type StagePlan, type StageSpec } from '../planner/plan.js'
import type { DType } from '../program/tensor.js'
import { costModel } from '../runtime/calibration.js'
import { checkMemory, resolveDevice } from '../runtime/device.js'
import { Stage } from '../runtime/stage.js'
import { checkWeights } from '../runtime/weights.js'
import type { Scheduler } from '../schedulers/index.js'
import { parseBytes } from '../units.js'
import {
  type AnimateDiffConfig,
  animateDiffConfig,
  animateDiffStages,
  isGuided,
  latentSize,
  type Shape,
} from './animatediff-stages.js'
import { checkpointWeights, plannedDtypes } from './checkpoint-weights.js'
import { denoise } from './denoise.js'
import { embeddedModel } from './embedded.js'
import { channelsLast } from './layout.js'
import { leastBudget } from './least-budget.js'
import { PipelinePlan } from './pipeline-plan.js'
import { decodeStages, planned, readPlan } from './plan-document.js'
import type { Progress } from './progress.js'
import { type StageReport, Video } from './video.js'

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
}

export interface GenerateOptions {
  prompt: string
  /** What to keep away from; only with guidance above 1. */
  negative?: string
  frames?: number
  height?: number
  width?: number
  steps?: number
  /** Classifier-free guidance; 1 or less runs the conditional half alone. */
  guidance?: number
  /** An integer; the same seed gives the same video. Default: drawn, see `video.seed`. */
  seed?: number
  /** `ddim` or `euler`; default: the checkpoint's. */
  scheduler?: string
  /** Start noise, [1, 4, frames, rows, cols] flattened, instead of a seed. */
  initLatents?: Float32Array
  signal?: AbortSignal
  onProgress?: (progress: Progress) => void
  /** Slices of every group, instead of what the budget asks. */
  slices?: number
  /** A plan, or the file of one that was saved: runs exactly so. Sizes, steps and threads come from it. */
  plan?: string | PipelinePlan
  /** Poison every byte, so that the measured peak is exact even far below the prediction. */
  poison?: boolean
}

export type PlanOptions = Omit<
  GenerateOptions,
  'prompt' | 'negative' | 'seed' | 'initLatents' | 'signal' | 'onProgress' | 'poison'
>

/**
 * Text to video by AnimateDiff (Guo et al., ICLR 2024), as diffusers' AnimateDiffPipeline computes it, inside a memory budget.
 * A loaded pipeline holds no weights: each stage takes its memory, packs its weights, runs, and gives all back.
 */
export class AnimateDiff implements AsyncDisposable {
  private readonly stop = new AbortController()
  private prepared?: Prepared

  private constructor(
    readonly checkpoint: Checkpoint,
    readonly config: AnimateDiffConfig,
    private readonly options: LoadOptions,
    private readonly defaults: Partial<GenerateOptions>,
  ) {}

  /**
   * Opens a checkpoint in diffusers' layout; the embedded one without a path. Reads configurations only.
   * @throws CheckpointError when it is not an AnimateDiff (or Stable Diffusion with a motion adapter) that Sluice can run.
   */
  static async load(
    path: string = embeddedModel(),
    options: LoadOptions = {},
  ): Promise<AnimateDiff> {
    const checkpoint = openCheckpoint(path, {
      motionAdapter: options.motionAdapter,
      variant: options.variant,
    })
    requirePipeline(checkpoint, ['AnimateDiffPipeline', 'StableDiffusionPipeline'])
    return new AnimateDiff(checkpoint, animateDiffConfig(checkpoint), options, readDefaults(path))
  }

  /**
   * The plan of a generation: peak bytes of every stage, before a weight is read.
   * @param weights stored dtype to assume, without opening weight files
   * @throws BudgetError, OptionError; PlanError for a plan in a file that is not for this checkpoint
   */
  plan(options: PlanOptions = {}, weights?: DType): PipelinePlan {
    return this.prepare(options, weights).plan
  }

  /** Least budget under which `plan` of these options fits: what the largest stage needs. @throws OptionError */
  smallestBudget(options: PlanOptions = {}, weights?: DType): number {
    const { stages, stageOptions } = this.stagesOf(options, weights)
    return Math.max(
      ...stages.map(stage => leastBudget(budget => planStage(stage, { ...stageOptions, budget }))),
    )
  }

  /**
   * Peaks with predicted times, from the least memory to the fastest: what a budget costs. The pipeline's own budget does not count.
   * @throws OptionError
   */
  frontier(options: PlanOptions = {}, weights?: DType): Frontier {
    const { stages, stageOptions } = this.stagesOf(options, weights)
    return frontierOf(stages.map(stage => budget => planStage(stage, { ...stageOptions, budget })))
  }

  /**
   * Generates a video's latents; its frames are decoded as they are asked for.
   * @throws OptionError, CheckpointError, BudgetError, PlanError before any weight is read; AbortError, MemoryError
   */
  async generate(options: GenerateOptions): Promise<Video> {
    const signal = options.signal
      ? AbortSignal.any([options.signal, this.stop.signal])
      : this.stop.signal
    checkTypes(options)
    const { shape, scheduler, plan, device } = this.prepare(options)
    checkMemory(device, plan.peakBytes)
    const weights = checkpointWeights(this.checkpoint)
    // The decoder's weights too: what is missing there must not show after hours of sampling.
    for (const stage of plan.stages) checkWeights(stage.weights, weights)
    const tokenizer = CLIPTokenizer.load(this.checkpoint.component('tokenizer').path)
    const guided = isGuided(shape)
    const seed = options.seed ?? Math.floor(Math.random() * 2 ** 32)
    const noise = this.startNoise(shape, options.initLatents, seed)
    const report: StageReport[] = []
    const open = { device, weights, signal, poison: options.poison }
    const loading = (stage: string) => (done: number, total: number) =>
      options.onProgress?.({ stage, phase: 'load', done, total })

    const texts = guided ? [options.prompt, options.negative ?? ''] : [options.prompt]
    const contexts = await this.inStage(
      plan,
      'text',
      report,
      { ...open, onPack: loading('text') },
      async stage => {
        const states: Float32Array[] = []
        for (const text of texts) {
          stage.write('input_ids', tokenizer.encode(text))
          await stage.run('text', {}, (done, total) =>
            options.onProgress?.({
              stage: 'text',
              phase: 'run',
              done: states.length * total + done,
              total: texts.length * total,
            }),
          )
          states.push(stage.read('last_hidden_state'))
        }
        return states
      },
    )
    const latents = await this.inStage(
      plan,
      'denoise',
      report,
      { ...open, onPack: loading('denoise') },
      async stage => {
        stage.write(
          'latents',
          noise.map(value => value * scheduler.initNoiseSigma),
        )
        stage.write('conditional', contexts[0]!)
        if (guided) {
          stage.write('unconditional', contexts[1]!)
          stage.write('guidance', Float32Array.of(shape.guidance))
        }
        await denoise(stage, scheduler, guided, seed, options.onProgress)
        const result = stage.read('latents')
        if (!result.every(Number.isFinite)) {
          throw new SluiceError(
            `${this.checkpoint.path}: expected finite latents, got NaN or infinity; check the weights and scheduler_config.json`,
          )
        }
        return result
      },
    )
    return new Video({
      latents,
      shape: [shape.frames, ...plan.stage('decode').state.latents!.shape.slice(1)],
      scalingFactor: this.config.vae.scalingFactor,
      plan,
      report,
      seed,
      open: { ...open, onPack: loading('decode') },
      onProgress: options.onProgress,
    })
  }

  /** Cancels what runs; the pipeline cannot be used afterwards. */
  close(): void {
    this.stop.abort()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close()
  }

  private prepare(options: PlanOptions, weights?: DType): Prepared {
    if (options.plan !== undefined) return this.prepareFrom(options.plan, options, weights)
    const inputs = this.stagesOf(options, weights)
    const { shape, stages, stageOptions } = inputs
    // A plan that was shown is the plan that runs: at true size it takes a second to make.
    const key = JSON.stringify([shape, weights, options.slices])
    if (this.prepared?.key === key) return this.prepared
    const budget = this.options.budget === undefined ? undefined : parseBytes(this.options.budget)
    const plans = planAll(stages, stage => planStage(stage, { ...stageOptions, budget }))
    this.prepared = this.assemble(key, inputs, plans, budget)
    return this.prepared
  }

  /** What a plan that was made before says, checked against this checkpoint. */
  private prepareFrom(
    plan: string | PipelinePlan,
    options: PlanOptions,
    weights?: DType,
  ): Prepared {
    const document = typeof plan === 'string' ? readPlan(plan) : plan.toJSON()
    const key = `${document.checksum} ${weights}`
    if (this.prepared?.key === key) return this.prepared
    const { device, threads, ...shape } = planned(document, options)
    const inputs = this.stagesOf(shape, weights, {
      device: this.options.device ?? device,
      threads: this.options.threads ?? threads,
    })
    const plans = decodeStages(document, inputs.stages, inputs.stageOptions)
    const budget = this.options.budget === undefined ? undefined : parseBytes(this.options.budget)
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
    inputs: ReturnType<AnimateDiff['stagesOf']>,
    plans: readonly StagePlan[],
    budget: number | undefined,
  ): Prepared {
    const { shape, scheduler, device, tokens, stageOptions } = inputs
    const { rows, cols } = latentSize(this.config, shape)
    const latentBytes = 4 * this.config.unet.inChannels * shape.frames * rows * cols
    const contextBytes = 4 * tokens * this.config.unet.crossAttentionDim * (isGuided(shape) ? 2 : 1)
    const host = {
      text: contextBytes,
      denoise: contextBytes + latentBytes,
      decode: latentBytes + 2 * plans[2]!.state.image!.bytes,
    }
    const described = { ...shape, device, threads: stageOptions.target.threads }
    const plan = new PipelinePlan(plans, described, host, budget)
    return { key, shape, scheduler, plan, device }
  }

  /** Everything that planning needs but the budget. */
  private stagesOf(
    options: PlanOptions,
    weights?: DType,
    machine: Pick<LoadOptions, 'device' | 'threads'> = this.options,
  ) {
    const shape = this.shapeOf(options)
    const { device, target } = resolveDevice(machine.device, machine.threads)
    const tokens = tokenCount(this.checkpoint, this.config)
    const { stages, scheduler } = animateDiffStages(this.config, shape, tokens)
    const weightDtype = plannedDtypes(
      checkpointWeights(this.checkpoint),
      name => this.checkpoint.component(name).hasWeights,
      weights,
    )
    return {
      shape,
      scheduler,
      device,
      tokens,
      stages,
      stageOptions: { target, weightDtype, slices: options.slices, cost: costModel(target) },
    }
  }

  private shapeOf(options: PlanOptions): Shape {
    const scale = 2 ** (this.config.vae.widths.length - 1)
    const side = this.config.sampleSize * scale
    const pick = <T>(value: T | undefined, fallback: T | undefined, last: T): T =>
      value ?? fallback ?? last
    const shape: Shape = {
      frames: pick(options.frames, this.defaults.frames, 16),
      height: pick(options.height, this.defaults.height, side),
      width: pick(options.width, this.defaults.width, side),
      steps: pick(options.steps, this.defaults.steps, 25),
      guidance: pick(options.guidance, this.defaults.guidance, 7.5),
      scheduler: options.scheduler,
    }
    for (const name of ['frames', 'steps'] as const) {
      if (!Number.isSafeInteger(shape[name]) || shape[name] < 1)
        throw new OptionError(`${name}: expected a positive integer, got ${shape[name]}`)
    }
    if (!Number.isFinite(shape.guidance))
      throw new OptionError(`guidance: expected a number, got ${shape.guidance}`)
    return shape
  }

  private startNoise(shape: Shape, given: Float32Array | undefined, seed: number): Float32Array {
    const { rows, cols } = latentSize(this.config, shape)
    const channels = this.config.unet.inChannels
    const count = channels * shape.frames * rows * cols
    if (given && given.length !== count) {
      throw new OptionError(
        `initLatents: expected [1, ${channels}, ${shape.frames}, ${rows}, ${cols}], got ${given.length} values`,
      )
    }
    // Drawn in diffusers' order, so that a seed means the same noise in files and in memory.
    return channelsLast(given ?? gaussian(seed, count), channels)
  }

  /** Opens a stage, works in it, closes it and reports; on failure everything is given back. */
  private async inStage<T>(
    plan: PipelinePlan,
    name: string,
    report: StageReport[],
    options: Parameters<typeof Stage.open>[1],
    work: (stage: Stage) => Promise<T>,
  ): Promise<T> {
    const start = performance.now()
    await using stage = await Stage.open(plan.stage(name), options)
    const result = await work(stage)
    report.push({
      stage: name,
      predictedBytes: plan.stage(name).peakBytes,
      measuredBytes: stage.close().peakBytes,
      seconds: (performance.now() - start) / 1000,
    })
    return result
  }
}

/**
 * The plan of a generation without a pipeline: peak bytes of every stage from configurations alone.
 * @param path a checkpoint's folder; the embedded one without
 * @throws BudgetError, CheckpointError, OptionError
 */
export async function plan(
  path?: string,
  options: LoadOptions & PlanOptions = {},
): Promise<PipelinePlan> {
  return (await AnimateDiff.load(path, options)).plan(options)
}

/** A plan with what it was made for. */
interface Prepared {
  readonly key: string
  readonly shape: Shape
  readonly scheduler: Scheduler
  readonly plan: PipelinePlan
  readonly device: string
}

/** Plans every stage; a refusal is that of the stage that needs most, so that its number suffices for all. @throws BudgetError */
function planAll(stages: readonly StageSpec[], plan: (stage: StageSpec) => StagePlan): StagePlan[] {
  let worst: BudgetError | undefined
  const plans: StagePlan[] = []
  for (const stage of stages) {
    try {
      plans.push(plan(stage))
    } catch (error) {
      if (!(error instanceof BudgetError)) throw error
      if (!worst || error.needed > worst.needed) worst = error
    }
  }
  if (worst) throw worst
  return plans
}

/** What a caller without types may get wrong. @throws OptionError */
function checkTypes(options: GenerateOptions): void {
  if (typeof options?.prompt !== 'string') {
    throw new OptionError(`prompt: expected a sentence, got ${typeof options?.prompt}`)
  }
  for (const [name, kind] of [
    ['negative', 'string'],
    ['onProgress', 'function'],
  ] as const) {
    const value = options[name]
    if (value !== undefined && typeof value !== kind) {
      throw new OptionError(`${name}: expected a ${kind}, got ${typeof value}`)
    }
  }
  if (options.signal !== undefined && !(options.signal instanceof AbortSignal)) {
    throw new OptionError(`signal: expected an AbortSignal, got ${typeof options.signal}`)
  }
  if (
    options.slices !== undefined &&
    !(Number.isSafeInteger(options.slices) && options.slices > 0)
  ) {
    throw new OptionError(`slices: expected a positive integer, got ${options.slices}`)
  }
  if (options.initLatents?.some(value => !Number.isFinite(value))) {
    throw new OptionError('initLatents: expected finite values, got NaN or infinity')
  }
}

/** Tokens that the text is padded to: the tokenizer's length, at most the encoder's positions. A plan needs no tokenizer. */
function tokenCount(checkpoint: Checkpoint, config: AnimateDiffConfig): number {
  const file = checkpoint.has('tokenizer')
    ? join(checkpoint.component('tokenizer').path, 'tokenizer_config.json')
    : ''
  const length = existsSync(file) ? Number(readJson(file).model_max_length) : Number.NaN
  return Number.isSafeInteger(length) && length > 0
    ? Math.min(length, config.text.maxTokens)
    : config.text.maxTokens
}

/** What the authors of a checkpoint recommend, from `sluice.json` beside model_index.json. */
function readDefaults(path: string): Partial<GenerateOptions> {
  const file = join(path, 'sluice.json')
  return existsSync(file) ? ((readJson(file).defaults as Partial<GenerateOptions>) ?? {}) : {}
}
