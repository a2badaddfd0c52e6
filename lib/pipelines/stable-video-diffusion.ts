import { OptionError } from '../errors.js'
import { type Checkpoint, openCheckpoint, requirePipeline } from '../io/checkpoint.js'
import { type Frame, type ImageSource, type Pixels, readPixels, toFrame } from '../io/image.js'
import { resizeAntialiased } from '../io/resize.js'
import { splitMoments, vaeScale } from '../models/index.js'
import type { StagePlan } from '../planner/plan.js'
import { elementCount } from '../program/tensor.js'
import { linspace32 } from '../schedulers/noise-schedule.js'
import { denoise } from './denoise.js'
import { checkLatents, type Generation, noiseOf } from './generation.js'
import { channelsLast, framesOutside } from './layout.js'
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
import {
  isGuided,
  type StableVideoDiffusionConfig,
  type StableVideoDiffusionShape,
  stableVideoDiffusionConfig,
  stableVideoDiffusionStages,
} from './stable-video-diffusion-stages.js'
import { Video } from './video.js'

export interface ImagePlanOptions extends ShapeOptions {
  /** Guidance of the first frame and of the last, evenly between; 1 or less in both runs the conditional half alone. Default: 1 and 3. */
  minGuidance?: number
  maxGuidance?: number
  /**
   * Frames decoded at a time, diffusers' `decode_chunk_size`: less memory, and another result, because the decoder looks across frames.
   * Default: all at once.
   */
  decodeChunk?: number
}

export interface ImageToVideoOptions extends ImagePlanOptions, RunOptions {
  /** The picture to begin with: a path, a file's bytes, RGB pixels or a frame. Stretched where its size is not the video's. */
  image: ImageSource
  /** Frames a second that the network is told, and that files are written with. Default: 7. */
  fps?: number
  /** How much moves: 1 to 255 in training. Default: 127. */
  motionBucketId?: number
  /** Noise on the picture: more, and the video keeps less to it and moves more. Default: 0.02. */
  noiseAugStrength?: number
  /** The noise that is put on the picture, [1, 3, height, width] flattened, instead of a seed's. */
  imageNoise?: Float32Array
}

/** What the network is told beside the image. */
interface Conditions {
  readonly fps: number
  readonly motionBucketId: number
  readonly noiseAugStrength: number
}

/** Image noise is the seed's last stream: denoising counts from the first. */
const imageStream = 2 ** 32 - 1

/**
 * Image to video by Stable Video Diffusion (Blattmann et al., 2023), as diffusers' StableVideoDiffusionPipeline computes it, inside a
 * memory budget. A loaded pipeline holds no weights: each stage takes its memory, packs its weights, runs, and gives all back.
 */
export class StableVideoDiffusion extends Pipeline<StableVideoDiffusionShape, ImagePlanOptions> {
  /** Classes of model_index.json that it runs. */
  static readonly classes: readonly string[] = ['StableVideoDiffusionPipeline']

  readonly order = framesOutside

  protected readonly shapeNames = [
    ...shapeNames,
    'minGuidance',
    'maxGuidance',
    'decodeChunk',
  ] as const
  protected readonly inputNames = [
    'image',
    'fps',
    'motionBucketId',
    'noiseAugStrength',
    'imageNoise',
    'initLatents',
  ] as const

  private constructor(
    checkpoint: Checkpoint,
    readonly config: StableVideoDiffusionConfig,
    options: LoadOptions,
    private readonly defaults: Partial<ImagePlanOptions & Conditions>,
  ) {
    super(checkpoint, options)
  }

  /**
   * Opens a checkpoint in diffusers' layout. Reads configurations only.
   * @throws CheckpointError when it is no Stable Video Diffusion that Sluice can run; OptionError for a motion adapter
   */
  static async load(path: string, options: LoadOptions = {}): Promise<StableVideoDiffusion> {
    if (options.motionAdapter !== undefined)
      throw new OptionError(
        `motionAdapter: expected none for Stable Video Diffusion, which holds its own motion, got ${options.motionAdapter}; leave it out`,
      )
    const checkpoint = openCheckpoint(path, { variant: options.variant })
    requirePipeline(checkpoint, StableVideoDiffusion.classes)
    const config = stableVideoDiffusionConfig(checkpoint)
    return new StableVideoDiffusion(checkpoint, config, options, readDefaults(path))
  }

  /**
   * Generates a video's latents from a picture; its frames are decoded as they are asked for.
   * @throws OptionError, FileError, CheckpointError, BudgetError, PlanError before any weight is read; AbortError, MemoryError
   */
  async generate(options: ImageToVideoOptions): Promise<Video> {
    checkTypes(options)
    const conditions = this.conditionsOf(options)
    const pixels = await readPixels(options.image)
    const { prepared, generation } = this.begin(options)
    const { shape, scheduler, rehash } = prepared
    const noise = this.startNoise(shape, options.initLatents, generation.seed)
    const augmented = await this.augment(pixels, shape, options, conditions, generation.seed)
    const embedding = await this.encodeImage(pixels, generation)
    const imageLatents = await this.encodeLatents(augmented, generation)
    const guided = isGuided(shape)
    const { fps, motionBucketId, noiseAugStrength } = conditions
    const latents = await generation.inStage('denoise', async stage => {
      stage.write(
        'latents',
        noise.map(value => value * scheduler.initNoiseSigma),
      )
      stage.write('conditional', embedding)
      stage.write('imageLatents', repeated(imageLatents, shape.frames))
      // The network was trained on the frame rate less one.
      stage.write('added_time_ids', Float32Array.of(fps - 1, motionBucketId, noiseAugStrength))
      if (guided) {
        stage.write('unconditional', new Float32Array(embedding.length))
        stage.write('noImage', new Float32Array(noise.length))
        stage.write('guidance', guidanceOf(shape, this.latentChannels))
      }
      const parts = guided ? halves : halves.slice(1)
      await denoise(stage, scheduler, parts, this.order, generation, rehash)
      return stage.read('latents')
    })
    checkLatents(latents, this.checkpoint.path)
    const { scalingFactor } = this.config.vae
    const extents = this.latentsOf(shape)
    return new Video(generation, { latents, extents, order: this.order, scalingFactor, fps })
  }

  get latentChannels(): number {
    return this.config.vae.latentChannels
  }

  get pixelsPerLatent(): number {
    return vaeScale(this.config.vae)
  }

  protected shapeOf(options: ImagePlanOptions): StableVideoDiffusionShape {
    const { defaults } = this
    const natural = this.naturalSize()
    const shape: StableVideoDiffusionShape = {
      frames: options.frames ?? defaults.frames ?? this.config.unet.frames,
      height: options.height ?? defaults.height ?? natural.height,
      width: options.width ?? defaults.width ?? natural.width,
      steps: options.steps ?? defaults.steps ?? 25,
      minGuidance: options.minGuidance ?? defaults.minGuidance ?? 1,
      maxGuidance: options.maxGuidance ?? defaults.maxGuidance ?? 3,
      decodeChunk: options.decodeChunk,
      scheduler: options.scheduler,
      spacing: options.spacing,
      karras: options.karras,
      dtype: options.dtype,
      rehash: rehashText(options.rehash, this.options.rehash, defaults.rehash),
      observe: options.observe,
    }
    checkShape(shape)
    for (const name of ['minGuidance', 'maxGuidance'] as const) {
      if (!Number.isFinite(shape[name]))
        throw new OptionError(`${name}: expected a number, got ${shape[name]}`)
    }
    const { decodeChunk = 1 } = shape
    if (!Number.isSafeInteger(decodeChunk) || decodeChunk < 1)
      throw new OptionError(`decodeChunk: expected a positive integer, got ${decodeChunk}`)
    return shape
  }

  protected stagesFor(shape: StableVideoDiffusionShape): Staged {
    const staged = stableVideoDiffusionStages(this.config, shape)
    return withReuse(staged, isGuided(shape) ? 2 : 1, shape, this.checkpoint.path)
  }

  protected hostBytes(shape: StableVideoDiffusionShape, plans: readonly StagePlan[]) {
    const latents = 4 * elementCount(this.latentsOf(shape))
    const imageLatents = latents / shape.frames
    const [image, encode, , decode] = plans as [StagePlan, StagePlan, StagePlan, StagePlan]
    const pixels = encode.state.image!.bytes
    const embedding = image.state.image_embeds!.bytes
    return {
      image: latents + pixels + image.state.pixel_values!.bytes,
      encode: latents + pixels + embedding + encode.state.moments!.bytes,
      denoise: 2 * latents + imageLatents + embedding,
      decode:
        latents +
        decode.state.latents!.bytes +
        (2 * decode.state.image!.bytes) / decode.state.image!.shape[0]!,
    }
  }

  /** As wide as 16 : 9 with the area that the network was trained on: 1024 x 576 for 96 latents a side. */
  private naturalSize(): { height: number; width: number } {
    const scale = this.pixelsPerLatent
    const unit = scale * 2 ** (this.config.unet.down.length - 1)
    const side = this.config.sampleSize * scale
    const near = (value: number) => Math.max(1, Math.round(value / unit)) * unit
    return { height: near((side * 3) / 4), width: near((side * 4) / 3) }
  }

  /** @throws OptionError */
  private conditionsOf(options: Partial<Conditions>): Conditions {
    const pick = (name: keyof Conditions, otherwise: number, least: number): number => {
      const value = options[name] ?? this.defaults[name] ?? otherwise
      if (Number.isFinite(value) && value >= least) return value
      throw new OptionError(`${name}: expected a number of at least ${least}, got ${value}`)
    }
    return {
      fps: pick('fps', 7, 1),
      motionBucketId: pick('motionBucketId', 127, 0),
      noiseAugStrength: pick('noiseAugStrength', 0.02, 0),
    }
  }

  /** The picture at the video's size, with noise on it. @throws OptionError for noise of another size */
  private async augment(
    pixels: Pixels,
    { width, height }: StableVideoDiffusionShape,
    { imageNoise }: ImageToVideoOptions,
    { noiseAugStrength }: Conditions,
    seed: number,
  ): Promise<Frame> {
    const noise = noiseOf('imageNoise', [1, 3, height, width], imageNoise, seed, imageStream)
    const { data } = await toFrame(pixels, { width, height })
    return { width, height, data: data.map((value, i) => value + noiseAugStrength * noise[i]!) }
  }

  /** The image's embedding, [1, dim]. */
  private async encodeImage(pixels: Pixels, generation: Generation): Promise<Float32Array> {
    const { image, mean, std } = this.config
    const { data } = await resizeAntialiased(pixels, image.imageSize)
    const plane = image.imageSize ** 2
    const normalised = data.map((value, i) => {
      const channel = Math.floor(i / plane)
      return (value / 2 + 0.5 - mean[channel]!) / std[channel]!
    })
    return generation.inStage('image', async stage => {
      stage.write('pixel_values', channelsLast(normalised, 3))
      await stage.run('image', {}, generation.progress('image', 0, 1))
      return stage.read('image_embeds')
    })
  }

  /** The mode of the picture's latents, unscaled, [rows, cols, channels]. */
  private encodeLatents({ data }: Frame, generation: Generation): Promise<Float32Array> {
    return generation.inStage('encode', async stage => {
      stage.write('image', channelsLast(data, 3))
      await stage.run('encoder', {}, generation.progress('encode', 0, 1))
      return splitMoments(stage.read('moments'), this.latentChannels).mean
    })
  }
}

/** The network for each half of the batch. */
const halves: readonly Half[] = [
  {
    inputs: { encoder_hidden_states: 'unconditional', image_latents: 'noImage' },
    outputs: { sample: 'predictedUnconditional' },
  },
  {
    inputs: { encoder_hidden_states: 'conditional', image_latents: 'imageLatents' },
    outputs: { sample: 'predicted' },
  },
]

/** Each frame's guidance for each channel, evenly from the first frame's to the last's. */
function guidanceOf(shape: StableVideoDiffusionShape, channels: number): Float32Array {
  const ramp = linspace32(shape.minGuidance, shape.maxGuidance, shape.frames)
  return Float32Array.from(
    { length: shape.frames * channels },
    (_, i) => ramp[Math.floor(i / channels)]!,
  )
}

function repeated(values: Float32Array, count: number): Float32Array {
  const result = new Float32Array(count * values.length)
  for (let i = 0; i < count; i++) result.set(values, i * values.length)
  return result
}

/** What a caller without types may get wrong. @throws OptionError */
function checkTypes(options: ImageToVideoOptions): void {
  if (options?.image === undefined)
    throw new OptionError('image: expected a picture to begin with, got none; give its path')
  for (const name of ['prompt', 'negative', 'guidance']) {
    if ((options as unknown as Record<string, unknown>)[name] !== undefined)
      throw new OptionError(
        `${name}: expected none for Stable Video Diffusion, which begins with an image, got one; leave it out`,
      )
  }
  checkRunOptions(options)
}
