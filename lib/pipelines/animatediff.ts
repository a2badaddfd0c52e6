import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { OptionError } from '../errors.js'
import { type Checkpoint, openCheckpoint, requirePipeline } from '../io/checkpoint.js'
import { CLIPTokenizer } from '../io/tokenizer.js'
import { readJson } from '../io/weight-index.js'
import { vaeScale } from '../models/index.js'
import type { StagePlan } from '../planner/plan.js'
import { elementCount } from '../program/tensor.js'
import {
  type AnimateDiffConfig,
  type AnimateDiffShape,
  animateDiffConfig,
  animateDiffStages,
  isGuided,
} from './animatediff-stages.js'
import { denoise } from './denoise.js'
import { embeddedModel } from './embedded.js'
import { checkLatents, type Generation } from './generation.js'
import { channelsOutside } from './layout.js'
import {
  checkRunOptions,
  checkShape,
  type RunOptions,
  rehashText,
  type ShapeOptions,
  shapeNames,
} from './options.js'
import { type LoadOptions, Pipeline, readDefaults, type Staged } from './pipeline.js'
import type { Half } from './predictor.js'
import { withReuse } from './rehash-stage.js'
import { Video } from './video.js'

export interface PlanOptions extends ShapeOptions {
  /** Classifier-free guidance; 1 or less runs the conditional half alone. */
  guidance?: number
}

export interface GenerateOptions extends PlanOptions, RunOptions {
  prompt: string
  /** What to keep away from; only with guidance above 1. */
  negative?: string
  /** Start noise, [1, 4, frames, rows, cols] flattened, instead of a seed. */
  initLatents?: Float32Array
}

/**
 * Text to video by AnimateDiff (Guo et al., ICLR 2024), as diffusers' AnimateDiffPipeline computes it, inside a memory budget.
 * A loaded pipeline holds no weights: each stage takes its memory, packs its weights, runs, and gives all back.
 */
export class AnimateDiff extends Pipeline<AnimateDiffShape, PlanOptions> {
  protected readonly shapeNames = [...shapeNames, 'guidance'] as const
  protected readonly inputNames = ['prompt', 'negative', 'initLatents'] as const

  /** Classes of model_index.json that it runs. */
  static readonly classes: readonly string[] = ['AnimateDiffPipeline', 'StableDiffusionPipeline']

  readonly order = channelsOutside

  private constructor(
    checkpoint: Checkpoint,
    readonly config: AnimateDiffConfig,
    options: LoadOptions,
    private readonly defaults: Partial<PlanOptions>,
  ) {
    super(checkpoint, options)
  }

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
    requirePipeline(checkpoint, AnimateDiff.classes)
    return new AnimateDiff(checkpoint, animateDiffConfig(checkpoint), options, readDefaults(path))
  }

  /**
   * Generates a video's latents; its frames are decoded as they are asked for.
   * @throws OptionError, CheckpointError, BudgetError, PlanError before any weight is read; AbortError, MemoryError
   */
  async generate(options: GenerateOptions): Promise<Video> {
    checkTypes(options)
    const { prepared, generation } = this.begin(options)
    const { shape, scheduler, rehash } = prepared
    const tokenizer = CLIPTokenizer.load(this.checkpoint.component('tokenizer').path)
    const guided = isGuided(shape)
    const noise = this.startNoise(shape, options.initLatents, generation.seed)
    const texts = guided ? [options.prompt, options.negative ?? ''] : [options.prompt]
    const contexts = await encodeTexts(generation, tokenizer, texts)
    const latents = await generation.inStage('denoise', async stage => {
      stage.write(
        'latents',
        noise.map(value => value * scheduler.initNoiseSigma),
      )
      stage.write('conditional', contexts[0]!)
      if (guided) {
        stage.write('unconditional', contexts[1]!)
        stage.write('guidance', Float32Array.of(shape.guidance))
      }
      const parts = guided ? halves : halves.slice(1)
      await denoise(stage, scheduler, parts, this.order, generation, rehash)
      return stage.read('latents')
    })
    checkLatents(latents, this.checkpoint.path)
    const { scalingFactor } = this.config.vae
    const extents = this.latentsOf(shape)
    return new Video(generation, { latents, extents, order: this.order, scalingFactor })
  }

  get latentChannels(): number {
    return this.config.unet.inChannels
  }

  get pixelsPerLatent(): number {
    return vaeScale(this.config.vae)
  }

  protected shapeOf(options: PlanOptions): AnimateDiffShape {
    const side = this.config.sampleSize * this.pixelsPerLatent
    const { defaults } = this
    const shape: AnimateDiffShape = {
      frames: options.frames ?? defaults.frames ?? 16,
      height: options.height ?? defaults.height ?? side,
      width: options.width ?? defaults.width ?? side,
      steps: options.steps ?? defaults.steps ?? 25,
      guidance: options.guidance ?? defaults.guidance ?? 7.5,
      scheduler: options.scheduler,
      spacing: options.spacing,
      karras: options.karras,
      dtype: options.dtype,
      rehash: rehashText(options.rehash, this.options.rehash, defaults.rehash),
      observe: options.observe,
    }
    checkShape(shape)
    if (!Number.isFinite(shape.guidance))
      throw new OptionError(`guidance: expected a number, got ${shape.guidance}`)
    return shape
  }

  protected stagesFor(shape: AnimateDiffShape): Staged {
    const staged = animateDiffStages(this.config, shape, tokenCount(this.checkpoint, this.config))
    return withReuse(staged, isGuided(shape) ? 2 : 1, shape, this.checkpoint.path)
  }

  protected hostBytes(shape: AnimateDiffShape, plans: readonly StagePlan[]) {
    const tokens = tokenCount(this.checkpoint, this.config)
    const latentBytes = 4 * elementCount(this.latentsOf(shape))
    const contextBytes = 4 * tokens * this.config.unet.crossAttentionDim * (isGuided(shape) ? 2 : 1)
    return {
      text: contextBytes,
      denoise: contextBytes + latentBytes,
      decode: latentBytes + 2 * plans[2]!.state.image!.bytes,
    }
  }
}

/** The network for each half of the batch. */
const halves: readonly Half[] = ['unconditional', 'conditional'].map(half => ({
  inputs: { encoder_hidden_states: half },
  outputs: { sample: half === 'conditional' ? 'predicted' : 'predictedUnconditional' },
}))

/** Each text's hidden states, [tokens, dim]. */
function encodeTexts(
  generation: Generation,
  tokenizer: CLIPTokenizer,
  texts: readonly string[],
): Promise<Float32Array[]> {
  return generation.inStage('text', async stage => {
    const states: Float32Array[] = []
    for (const [i, text] of texts.entries()) {
      stage.write('input_ids', tokenizer.encode(text))
      await stage.run('text', {}, generation.progress('text', i, texts.length))
      states.push(stage.read('last_hidden_state'))
    }
    return states
  })
}

/** What a caller without types may get wrong. @throws OptionError */
function checkTypes(options: GenerateOptions): void {
  if (typeof options?.prompt !== 'string') {
    throw new OptionError(`prompt: expected a sentence, got ${typeof options?.prompt}`)
  }
  if ((options as unknown as Record<string, unknown>).image !== undefined) {
    throw new OptionError(
      'image: expected none for AnimateDiff, which begins with a sentence, got one; leave it out',
    )
  }
  if (options.negative !== undefined && typeof options.negative !== 'string') {
    throw new OptionError(`negative: expected a string, got ${typeof options.negative}`)
  }
  checkRunOptions(options)
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
