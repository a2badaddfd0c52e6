import type { Command } from 'commander'
import { OptionError } from '../errors.js'
import { findLatents } from '../io/latents.js'
import { vaeScale } from '../models/index.js'
import { AnimateDiff, type PlanOptions } from '../pipelines/animatediff.js'
import { schedulerNames, spacingNames } from '../schedulers/index.js'
import { parseBytes } from '../units.js'

/** Options of `generate`, which `plan` takes too. */
export interface PipelineArguments {
  model?: string
  motionAdapter?: string
  output?: string
  frames?: number
  width?: number
  height?: number
  steps?: number
  guidance?: number
  negative?: string
  seed?: number
  scheduler?: string
  spacing?: string
  karras?: boolean
  budget?: number
  device?: string
  threads?: number
  fps?: number
  slices?: number
  /** FILE[#key] */
  initLatents?: string
  saveLatents?: string
  saveFrames?: string
  /** File of a saved plan. */
  plan?: string
  /** File of the memory timeline. */
  report?: string
  decode: boolean
  quiet?: boolean
}

export function addPipelineOptions(command: Command): Command {
  return command
    .option(
      '-o, --output <path>',
      '.webp, .gif, .mp4, .webm, or for PNG files a folder or frame-%04d.png',
    )
    .option('--model <folder>', "checkpoint in diffusers' layout (default: the embedded one)")
    .option('--motion-adapter <folder>', 'motion adapter that is not inside the checkpoint')
    .option('--frames <count>', 'frames of the video', integer('frames', 1))
    .option('--width <pixels>', 'width of the video', integer('width', 1))
    .option('--height <pixels>', 'height of the video', integer('height', 1))
    .option('--steps <count>', 'denoising steps', integer('steps', 1))
    .option('--guidance <scale>', 'classifier-free guidance; 1 for none', number('guidance'))
    .option('--negative <prompt>', 'what to keep away from')
    .option('--seed <integer>', 'the same seed gives the same video', integer('seed', 0))
    .option('--scheduler <name>', `${schedulerNames.join(', ')} (default: the checkpoint's)`)
    .option(
      '--spacing <name>',
      `time steps: ${spacingNames.join(', ')} (default: the checkpoint's)`,
    )
    .option('--karras', 'Karras sigmas, for euler and dpmpp-2m')
    .option('--no-karras', "no Karras sigmas, where the checkpoint's scheduler has them")
    .option('--budget <bytes>', 'most memory, such as 512MiB or "2 GiB"', bytes)
    .option('--device <id>', 'auto, cpu, cuda:0')
    .option('--threads <count>', 'threads to use', integer('threads', 1))
    .option('--fps <rate>', 'frames a second (default: 8)', number('fps', 0))
    .option(
      '--slices <count>',
      'slice every group so often, whatever the budget',
      integer('slices', 1),
    )
    .option(
      '--init-latents <file[#key]>',
      'start noise [1, 4, frames, rows, cols] from a safetensors file',
    )
    .option('--save-latents <file>', 'write the final latents, safetensors')
    .option('--save-frames <file>', 'write the frames as float32 in [-1, 1], safetensors')
    .option('--no-decode', 'stop at the latents')
    .option('--report <file>', 'write the memory timeline, one HTML page')
    .option('--quiet', 'print errors only')
}

/** Parser of an integer option. */
export function integer(name: string, least: number): (text: string) => number {
  return text => {
    const value = /^[+-]?\d+$/.test(text.trim()) ? Number(text) : Number.NaN
    if (Number.isSafeInteger(value) && value >= least) return value
    throw new OptionError(`--${name}: expected an integer of at least ${least}, got ${text}`)
  }
}

/** Parser of a number option. */
export function number(name: string, least = Number.NEGATIVE_INFINITY): (text: string) => number {
  return text => {
    const value = text.trim() === '' ? Number.NaN : Number(text)
    if (Number.isFinite(value) && value >= least) return value
    const expected = Number.isFinite(least) ? `a number of at least ${least}` : 'a number'
    throw new OptionError(`--${name}: expected ${expected}, got ${text}`)
  }
}

export function bytes(text: string): number {
  return parseBytes(text, '--budget')
}

/** Opens the checkpoint: configurations only. */
export async function openPipeline(
  args: PipelineArguments,
  budget = args.budget,
): Promise<AnimateDiff> {
  const { model, motionAdapter, device, threads } = args
  return AnimateDiff.load(model, { motionAdapter, device, threads, budget })
}

/**
 * What determines the shapes of a generation. With start noise given, its shape does; its header is read.
 * @throws OptionError when an option contradicts it.
 */
export function planOptions(args: PipelineArguments, pipeline: AnimateDiff): PlanOptions {
  const { frames, width, height, steps, guidance, scheduler, spacing, karras, slices, plan } = args
  const sizes = { frames, width, height, steps, guidance, slices, plan }
  const options = { ...sizes, scheduler, spacing, karras }
  return args.initLatents === undefined
    ? options
    : { ...options, ...sizeOfLatents(args, args.initLatents, pipeline) }
}

function sizeOfLatents(args: PipelineArguments, source: string, pipeline: AnimateDiff) {
  const { key, shape } = findLatents(source)
  const channels = pipeline.config.unet.inChannels
  const [batch, own, frames, rows, cols] = shape
  if (shape.length !== 5 || batch !== 1 || own !== channels) {
    throw new OptionError(
      `--init-latents: expected [1, ${channels}, frames, rows, cols], got ${key} [${shape.join(', ')}]; name another tensor as FILE#key`,
    )
  }
  const scale = vaeScale(pipeline.config.vae)
  const size = { frames: frames!, height: rows! * scale, width: cols! * scale }
  for (const [name, value] of Object.entries(size)) {
    const given = args[name as keyof typeof size]
    if (given === undefined || given === value) continue
    throw new OptionError(
      `--${name}: expected ${value} as in the start noise ${source}, got ${given}; leave --${name} out, or give other noise`,
    )
  }
  return size
}
