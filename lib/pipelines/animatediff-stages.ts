import { OptionError } from '../errors.js'
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
import { combine, lerp, type Program, program } from '../program/index.js'
import { createScheduler, type Scheduler, type SchedulerConfig } from '../schedulers/index.js'

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
export interface Shape {
  readonly frames: number
  readonly height: number
  readonly width: number
  readonly steps: number
  readonly guidance: number
  readonly scheduler?: string
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

/** Latent size of a picture. @throws OptionError for sides that the VAE cannot halve often enough. */
export function latentSize(
  config: AnimateDiffConfig,
  shape: Pick<Shape, 'height' | 'width'>,
): { rows: number; cols: number; scale: number } {
  const scale = vaeScale(config.vae)
  for (const side of ['height', 'width'] as const) {
    const value = shape[side]
    if (!Number.isSafeInteger(value) || value < scale || value % scale !== 0 || value > 16384) {
      throw new OptionError(
        `${side}: expected a multiple of ${scale} from ${scale} to 16384, got ${value}`,
      )
    }
  }
  return { rows: shape.height / scale, cols: shape.width / scale, scale }
}

/** Guidance of 1 or less needs no unconditional half. */
export function isGuided(shape: Pick<Shape, 'guidance'>): boolean {
  return shape.guidance > 1
}

/**
 * The three stages. Guidance runs the two halves of the batch one after the other in one arena; the state between them is two
 * predictions.
 */
export function animateDiffStages(
  config: AnimateDiffConfig,
  shape: Shape,
  tokens: number,
): { stages: StageSpec[]; scheduler: Scheduler } {
  const scheduler = createScheduler(
    config.scheduler,
    shape.steps,
    shape.scheduler ? { name: shape.scheduler } : {},
  )
  const steps = scheduler.timesteps.length
  const guided = isGuided(shape)
  const { rows, cols, scale } = latentSize(config, shape)
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
      step: stepProgram(latents.shape, guided, noisy),
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

export function needsScaling(scheduler: Scheduler): boolean {
  return scheduler.timesteps.some((_, i) => scheduler.inputScale(i) !== 1)
}

export function drawsNoise(scheduler: Scheduler): boolean {
  return scheduler.timesteps.some((_, i) => scheduler.step(i).noise !== 0)
}

/** Guidance and the scheduler's step: latents = a · latents + b · lerp(unconditional, conditional, guidance) (+ c · noise). */
function stepProgram(shape: readonly number[], guided: boolean, noisy: boolean): Program {
  return program('step', trace => {
    const latents = trace.input('latents', shape)
    const conditional = trace.input('predicted', shape)
    const coefficients = trace.input('coefficients', [noisy ? 3 : 2])
    const output = guided
      ? lerp(
          trace.input('predictedUnconditional', shape),
          conditional,
          trace.input('guidance', [1]),
        )
      : conditional
    const noise = noisy ? [trace.input('noise', shape)] : []
    return { latents: combine(coefficients, [latents, output, ...noise]) }
  })
}

function scaleProgram(shape: readonly number[]): Program {
  return program('scale', trace => {
    const latents = trace.input('latents', shape)
    return { scaled: combine(trace.input('inputScale', [1]), [latents]) }
  })
}
