import type { Checkpoint } from '../io/checkpoint.js'
import {
  type ClipTextConfig,
  clipText,
  clipTextConfig,
  type UNetMotionConfig,
  unetMotion,
  unetMotionConfig,
  type VaeConfig,
  vaeConfig,
  vaeDecoder,
  vaeScale,
} from '../models/index.js'
import type { StageSpec } from '../planner/plan.js'
import { createScheduler, type SchedulerConfig } from '../schedulers/index.js'
import { latentSize, type Shape } from './options.js'
import type { Staged } from './pipeline.js'
import { drawsNoise, needsScaling, scaleProgram, stepProgram } from './step-program.js'

/** Every configuration that AnimateDiff needs, from config.json files alone. */
export interface AnimateDiffConfig {
  readonly text: ClipTextConfig
  readonly unet: UNetMotionConfig
  readonly vae: VaeConfig
  readonly scheduler: SchedulerConfig
  /** Side of the latents that the network was trained on. */
  readonly sampleSize: number
}

/** What determines shapes and run counts of a generation. */
export interface AnimateDiffShape extends Shape {
  readonly guidance: number
}

/** @throws CheckpointError naming file and key. */
export function animateDiffConfig(checkpoint: Checkpoint): AnimateDiffConfig {
  const unet = checkpoint.component('unet')
  const sampleSize = Number(unet.config.sample_size ?? 64)
  return {
    text: clipTextConfig(checkpoint.component('text_encoder').config),
    unet: unetMotionConfig(unet.config, checkpoint.motionAdapter()?.config),
    vae: vaeConfig(checkpoint.component('vae').config),
    scheduler: checkpoint.component('scheduler').config as SchedulerConfig,
    sampleSize,
  }
}

/** Guidance of 1 or less needs no unconditional half. */
export function isGuided(shape: Pick<AnimateDiffShape, 'guidance'>): boolean {
  return shape.guidance > 1
}

/**
 * The three stages. Guidance runs the two halves of the batch one after the other in one arena; the state between them is two
 * predictions.
 */
export function animateDiffStages(
  config: AnimateDiffConfig,
  shape: AnimateDiffShape,
  tokens: number,
): Staged {
  const scheduler = createScheduler(
    config.scheduler,
    shape.steps,
    shape.scheduler ? { name: shape.scheduler } : {},
  )
  const steps = scheduler.timesteps.length
  const guided = isGuided(shape)
  const scale = vaeScale(config.vae)
  const { rows, cols } = latentSize(scale, shape)
  const channels = config.unet.inChannels
  const latents = { shape: [shape.frames, rows, cols, channels], dtype: 'f32' } as const
  const context = { shape: [tokens, config.unet.crossAttentionDim], dtype: 'f32' } as const
  const one = { shape: [1], dtype: 'f32' } as const
  const scaled = needsScaling(scheduler)
  const noisy = drawsNoise(scheduler)

  const text: StageSpec = {
    name: 'text',
    state: { input_ids: { shape: [tokens], dtype: 'i32' }, last_hidden_state: context },
    programs: { text: clipText(config.text, { tokens }) },
    runs: { text: guided ? 2 : 1 },
  }
  const denoise: StageSpec = {
    name: 'denoise',
    state: {
      latents,
      ...(scaled && { scaled: latents, inputScale: one }),
      timestep: one,
      coefficients: { shape: [noisy ? 3 : 2], dtype: 'f32' },
      ...(noisy && { noise: latents }),
      conditional: context,
      predicted: latents,
      ...(guided && { unconditional: context, predictedUnconditional: latents, guidance: one }),
    },
    programs: {
      unet: unetMotion(config.unet, { frames: shape.frames, rows, cols, tokens }),
      step: stepProgram(latents.shape, guided ? one.shape : undefined, noisy),
      ...(scaled && { scale: scaleProgram(latents.shape) }),
    },
    runs: { unet: steps * (guided ? 2 : 1), step: steps, scale: steps },
  }
  const decode: StageSpec = {
    name: 'decode',
    state: {
      latents: { shape: [1, rows, cols, channels], dtype: 'f32' },
      image: { shape: [1, rows * scale, cols * scale, config.vae.outChannels], dtype: 'f32' },
    },
    programs: { decoder: vaeDecoder(config.vae, { frames: 1, rows, cols }) },
    runs: { decoder: shape.frames },
  }
  return { stages: [text, denoise, decode], scheduler }
}
