import { OptionError } from '../errors.js'
import { checkKinds } from '../option-names.js'
import type { StreamingChoice } from '../planner/streaming.js'
import { formatRehash, parseRehash, type RehashWish } from '../rehash/options.js'
import type { SchedulerOverride } from '../schedulers/index.js'
import type { PipelinePlan } from './pipeline-plan.js'
import type { Progress } from './progress.js'

/** Options of every pipeline that fix what is planned. */
export interface ShapeOptions {
  frames?: number
  height?: number
  width?: number
  steps?: number
  /** `ddim`, `euler`, `euler-ancestral`, `dpmpp-2m`, `lcm` or `pndm`; default: the checkpoint's. */
  scheduler?: string
  /** How the time steps are spaced: `leading`, `linspace` or `trailing`; default: as the scheduler's configuration says. */
  spacing?: string
  /** Karras sigmas, or none of them, whatever the configuration says; for `euler` and `dpmpp-2m`. */
  karras?: boolean
  /**
   * How activations are stored between operators: `f32`, or `f16` and `bf16` as on a GPU. The CPU runs `f32` alone, and plans all.
   * Default: `f32` on the CPU, `f16` on a GPU.
   */
  dtype?: 'f32' | 'f16' | 'bf16'
  /**
   * Reuse of features between steps, as options or as their text such as `forecast:13` or `threshold=0.08`; false: none, whatever the
   * checkpoint recommends. Default: none.
   */
  rehash?: RehashWish
  /**
   * Features to hand to `onFeature`, by their modules' paths with commas between, or `all`: layers of the up blocks, and `conv_out`. Each
   * takes room in the plan.
   */
  observe?: string
  /** Slices of every group, instead of what the budget asks. */
  slices?: number
  /**
   * Most operations that a stage may spend on making tensors again, as a share from 0 to 1: more lets a plan fit into less. Default: 0.02,
   * of the VAE 0.03; 0.35 where it fits in no other way.
   */
  recompute?: number
  /**
   * Whether weights may come when an op needs them, at each step anew, instead of standing in memory: `auto` where the budget can hold
   * them in no other way, `never`, `always`. From mapped files on the CPU, from pinned memory to a GPU. Default: `auto`.
   */
  streaming?: StreamingChoice
  /** Whether features may wait in pinned memory of the host, where nothing else fits; beside a GPU alone. Default: true. */
  spill?: boolean
  /** Most bytes at any time, instead of the pipeline's: `'2 GiB'` or a number. */
  budget?: number | string
  /** A plan, or the file of one that was saved: runs exactly so. Sizes, steps and threads come from it. */
  plan?: string | PipelinePlan
}

/** Options of every pipeline that a run takes besides. */
export interface RunOptions {
  /** Start noise in diffusers' layout, flattened, instead of a seed's. */
  initLatents?: Float32Array
  /** An integer; the same seed gives the same video. Default: drawn, see `video.seed`. */
  seed?: number
  signal?: AbortSignal
  onProgress?: (progress: Progress) => void
  /** Takes the observed features of each step, combined as guidance combines predictions: float32, channels last. */
  onFeature?: (feature: string, values: Float32Array, step: number) => void
  /** Poison every byte, so that the measured peak is exact even far below the prediction. */
  poison?: boolean
}

/** What determines shapes and run counts of a generation. */
export interface Shape {
  readonly frames: number
  readonly height: number
  readonly width: number
  readonly steps: number
  readonly scheduler?: string
  readonly spacing?: string
  readonly karras?: boolean
  readonly dtype?: 'f32' | 'f16' | 'bf16'
  /** As `formatRehash` writes it; undefined: none. */
  readonly rehash?: string
  readonly observe?: string
}

/** The text of the first wish that is one; undefined where that is for no rehash. @throws OptionError */
export function rehashText(...wishes: readonly (RehashWish | undefined)[]): string | undefined {
  const options = parseRehash(wishes.find(wish => wish !== undefined))
  return options && formatRehash(options)
}

/** Names of the fields that every pipeline's shape has. */
export const shapeNames = [
  'frames',
  'height',
  'width',
  'steps',
  'scheduler',
  'spacing',
  'karras',
  'dtype',
  'rehash',
  'observe',
] as const

/** Names of the options of a run that are no part of the shape. */
export const runNames = [
  'seed',
  'signal',
  'onProgress',
  'onFeature',
  'poison',
  'slices',
  'recompute',
  'streaming',
  'spill',
  'budget',
  'plan',
] as const

/** What the options say over the checkpoint's scheduler. */
export function schedulerOverride({ scheduler, spacing, karras }: Shape): SchedulerOverride {
  return {
    ...(scheduler !== undefined && { name: scheduler }),
    ...(spacing !== undefined && { spacing }),
    ...(karras !== undefined && { karras }),
  }
}

/** @throws OptionError */
export function checkShape({ frames, steps, dtype }: Shape): void {
  for (const [name, value] of Object.entries({ frames, steps })) {
    if (!Number.isSafeInteger(value) || value < 1)
      throw new OptionError(`${name}: expected a positive integer, got ${value}`)
  }
  checkKinds({ dtype })
}

/**
 * Latent size of a picture.
 * @param scale pixels of a side for one latent
 * @throws OptionError for sides that the VAE cannot halve often enough
 */
export function latentSize(
  scale: number,
  shape: Pick<Shape, 'height' | 'width'>,
): { rows: number; cols: number } {
  for (const side of ['height', 'width'] as const) {
    const value = shape[side]
    if (!Number.isSafeInteger(value) || value < scale || value % scale !== 0 || value > 16384) {
      throw new OptionError(
        `${side}: expected a multiple of ${scale} from ${scale} to 16384, got ${value}`,
      )
    }
  }
  return { rows: shape.height / scale, cols: shape.width / scale }
}

/** What a caller without types may get wrong. @throws OptionError */
export function checkRunOptions(options: ShapeOptions & RunOptions): void {
  const { onProgress, onFeature } = options
  for (const [name, value] of Object.entries({ onProgress, onFeature })) {
    if (value !== undefined && typeof value !== 'function')
      throw new OptionError(`${name}: expected a function, got ${typeof value}`)
  }
  checkKinds(options)
}

/** Most operations that a VAE may spend on making tensors again, as a share: the norms of its temporal blocks span all frames. */
export const vaeRecompute = 0.03
