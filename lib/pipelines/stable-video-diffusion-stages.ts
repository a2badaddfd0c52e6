import { join } from 'node:path'
import { CheckpointError } from '../errors.js'
import type { Checkpoint } from '../io/checkpoint.js'
import { readJson } from '../io/weight-index.js'
import {
  type ClipVisionConfig,
  clipVision,
  clipVisionConfig,
  type UNetSpatioTemporalConfig,
  unetSpatioTemporal,
  unetSpatioTemporalConfig,
  type VaeConfig,
  vaeEncoder,
  vaeScale,
  vaeTemporalConfig,
  vaeTemporalDecoder,
} from '../models/index.js'
import type { StageSpec } from '../planner/plan.js'
import { createScheduler, type SchedulerConfig } from '../schedulers/index.js'
import { latentSize, type Shape } from './options.js'
import type { Staged } from './pipeline.js'
import { drawsNoise, needsScaling, scaleProgram, stepProgram } from './step-program.js'

/** Every configuration that Stable Video Diffusion needs, from JSON files alone. */
export interface StableVideoDiffusionConfig {
  readonly image: ClipVisionConfig
  readonly unet: UNetSpatioTemporalConfig
  readonly vae: VaeConfig
  readonly scheduler: SchedulerConfig
  /** Side of the square whose area the network was trained on, in latents. */
  readonly sampleSize: number
  /** Of red, green and blue in [0, 1], for the image encoder. */
  readonly mean: readonly number[]
  readonly std: readonly number[]
}

/** What determines shapes and run counts of a generation. */
export interface StableVideoDiffusionShape extends Shape {
  /** Guidance of the first and of the last frame. */
  readonly minGuidance: number
  readonly maxGuidance: number
  /** Frames decoded at a time; undefined: all. */
  readonly decodeChunk?: number
}

/** Frame rate, motion and noise. */
const addedNumbers = 3

/** @throws CheckpointError naming file and key. */
export function stableVideoDiffusionConfig(checkpoint: Checkpoint): StableVideoDiffusionConfig {
  const unetFolder = checkpoint.component('unet')
  const image = clipVisionConfig(checkpoint.component('image_encoder').config)
  const unet = unetSpatioTemporalConfig(unetFolder.config)
  const vae = vaeTemporalConfig(checkpoint.component('vae').config)
  for (const [key, expected, got] of [
    ['in_channels', 2 * vae.latentChannels, unet.inChannels],
    ['out_channels', vae.latentChannels, unet.outChannels],
    ['cross_attention_dim', image.projection, unet.crossAttentionDim],
    [
      'projection_class_embeddings_input_dim',
      addedNumbers * unet.addedTimeDim,
      unet.addedTimeIds * unet.addedTimeDim,
    ],
  ] as const) {
    if (expected === got) continue
    const file = join(unetFolder.path, 'config.json')
    throw new CheckpointError(
      `${file}: ${key}: expected ${expected}, which fits the other components, got ${got}; fetch the whole checkpoint`,
      file,
    )
  }
  return {
    image,
    unet,
    vae,
    scheduler: checkpoint.component('scheduler').config as SchedulerConfig,
    sampleSize: Number(unetFolder.config.sample_size ?? 96),
    ...normalisation(checkpoint),
  }
}

/** CLIP's own, where the checkpoint's `feature_extractor` says nothing else. @throws CheckpointError */
function normalisation(checkpoint: Checkpoint): Pick<StableVideoDiffusionConfig, 'mean' | 'std'> {
  const file = join(checkpoint.component('feature_extractor').path, 'preprocessor_config.json')
  const json = readJson(file)
  const three = (key: string, otherwise: readonly number[]): readonly number[] => {
    const value = json[key] ?? otherwise
    const numbers = Array.isArray(value) && value.length === 3 && value.every(Number.isFinite)
    if (numbers) return value as number[]
    throw new CheckpointError(
      `${file}: ${key}: expected three numbers, got ${JSON.stringify(value)}; fetch it again`,
      file,
    )
  }
  return {
    mean: three('image_mean', [0.48145466, 0.4578275, 0.40821073]),
    std: three('image_std', [0.26862954, 0.26130258, 0.27577711]),
  }
}

/** Guidance of 1 or less in every frame needs no unconditional half. */
export function isGuided(
  shape: Pick<StableVideoDiffusionShape, 'minGuidance' | 'maxGuidance'>,
): boolean {
  return Math.max(shape.minGuidance, shape.maxGuidance) > 1
}

/**
 * The four stages. The image's latents are a second source beside the noisy ones, never stored as one; guidance runs the two halves of
 * the batch one after the other in one arena, the unconditional one on zeros.
 */
export function stableVideoDiffusionStages(
  config: StableVideoDiffusionConfig,
  shape: StableVideoDiffusionShape,
): Staged {
  const scheduler = createScheduler(
    config.scheduler,
    shape.steps,
    shape.scheduler ? { name: shape.scheduler } : {},
  )
  const scale = vaeScale(config.vae)
  const { rows, cols } = latentSize(scale, shape)
  const steps = scheduler.timesteps.length
  const channels = config.vae.latentChannels
  const latents = { shape: [shape.frames, rows, cols, channels], dtype: 'f32' } as const
  const embedding = { shape: [1, config.image.projection], dtype: 'f32' } as const
  const one = { shape: [1], dtype: 'f32' } as const
  const ramp = { shape: [shape.frames, channels], dtype: 'f32' } as const
  const picture = (frames: number, depth: number) =>
    ({ shape: [frames, shape.height, shape.width, depth], dtype: 'f32' }) as const
  const guided = isGuided(shape)
  const scaled = needsScaling(scheduler)
  const noisy = drawsNoise(scheduler)
  const { imageSize, imageChannels } = config.image

  const image: StageSpec = {
    name: 'image',
    state: {
      pixel_values: { shape: [1, imageSize, imageSize, imageChannels], dtype: 'f32' },
      image_embeds: embedding,
    },
    programs: { image: clipVision(config.image) },
  }
  const encode: StageSpec = {
    name: 'encode',
    state: {
      image: picture(1, config.vae.imageChannels),
      moments: { shape: [1, rows, cols, 2 * channels], dtype: 'f32' },
    },
    programs: {
      encoder: vaeEncoder(config.vae, { frames: 1, rows: shape.height, cols: shape.width }),
    },
  }
  const denoise: StageSpec = {
    name: 'denoise',
    state: {
      latents,
      ...(scaled && { scaled: latents, inputScale: one }),
      timestep: one,
      coefficients: { shape: [noisy ? 3 : 2], dtype: 'f32' },
      ...(noisy && { noise: latents }),
      added_time_ids: { shape: [addedNumbers], dtype: 'f32' },
      conditional: embedding,
      imageLatents: latents,
      predicted: latents,
      ...(guided && {
        unconditional: embedding,
        noImage: latents,
        predictedUnconditional: latents,
        guidance: ramp,
      }),
    },
    programs: {
      unet: unetSpatioTemporal(
        config.unet,
        { frames: shape.frames, rows, cols },
        { imageChannels: channels },
      ),
      step: stepProgram(latents.shape, guided ? ramp.shape : undefined, noisy),
      ...(scaled && { scale: scaleProgram(latents.shape) }),
    },
    runs: { unet: steps * (guided ? 2 : 1), step: steps, scale: steps },
  }
  const chunk = Math.min(shape.decodeChunk ?? shape.frames, shape.frames)
  const rest = shape.frames % chunk
  const decoder = (frames: number) => vaeTemporalDecoder(config.vae, { frames, rows, cols })
  const decode: StageSpec = {
    name: 'decode',
    state: {
      latents: { shape: [chunk, rows, cols, channels], dtype: 'f32' },
      image: picture(chunk, config.vae.outChannels),
    },
    // The last frames, fewer than a chunk, take the beginning of the state.
    programs: { decoder: decoder(chunk), ...(rest > 0 && { rest: decoder(rest) }) },
    runs: { decoder: Math.floor(shape.frames / chunk), rest: 1 },
  }
  return { stages: [image, encode, denoise, decode], scheduler }
}
