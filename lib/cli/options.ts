import type { Command } from 'commander'
import { OptionError } from '../errors.js'
import { findLatents } from '../io/latents.js'
import type { PlanOptions } from '../pipelines/animatediff.js'
import { type AnyPipeline, loadPipeline } from '../pipelines/load.js'
import type { ImagePlanOptions } from '../pipelines/stable-video-diffusion.js'
import type { StreamingChoice } from '../planner/streaming.js'
import type { Compute } from '../runtime/device.js'
import { schedulerNames, spacingNames } from '../schedulers/index.js'
import { parseBytes } from '../units.js'

/** Options of `generate`, which `plan` takes too. */
export interface PipelineArguments {
  /** File of the picture to begin with. */
  image?: string
  model?: string
  motionAdapter?: string
  output?: string
  frames?: number
  width?: number
  height?: number
  steps?: number
  guidance?: number
  minGuidance?: number
  maxGuidance?: number
  negative?: string
  motionBucket?: number
  noiseAug?: number
  decodeChunk?: number
  dtype?: string
  seed?: number
  scheduler?: string
  spacing?: string
  karras?: boolean
  budget?: number
  device?: string
  threads?: number
  compute?: string
  fps?: number
  slices?: number
  recompute?: number
  streaming?: string
  spill?: boolean
  /** See lib/rehash/options.ts. */
  rehash?: string
  /** FILE[#key] */
  initLatents?: string
  /** FILE[#key] */
  imageNoise?: string
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
    .option('--image <file>', 'picture to begin with, where the checkpoint takes one')
    .option('--motion-adapter <folder>', 'motion adapter that is not inside the checkpoint')
    .option('--frames <count>', 'frames of the video', integer('frames', 1))
    .option('--width <pixels>', 'width of the video', integer('width', 1))
    .option('--height <pixels>', 'height of the video', integer('height', 1))
    .option('--steps <count>', 'denoising steps', integer('steps', 1))
    .option('--guidance <scale>', 'classifier-free guidance; 1 for none', number('guidance'))
    .option('--negative <prompt>', 'what to keep away from')
    .option(
      '--min-guidance <scale>',
      'guidance of the first frame, from an image (default: 1)',
      number('min-guidance'),
    )
    .option(
      '--max-guidance <scale>',
      'guidance of the last frame, from an image (default: 3)',
      number('max-guidance'),
    )
    .option(
      '--motion-bucket <number>',
      'how much moves, from an image: 1 to 255 (default: 127)',
      number('motion-bucket', 0),
    )
    .option('--noise-aug <strength>', 'noise on the image (default: 0.02)', number('noise-aug', 0))
    .option(
      '--decode-chunk <count>',
      'frames decoded at a time: less memory, another result (default: all)',
      integer('decode-chunk', 1),
    )
    .option('--seed <integer>', 'the same seed gives the same video', integer('seed', 0))
    .option('--scheduler <name>', `${schedulerNames.join(', ')} (default: the checkpoint's)`)
    .option(
      '--spacing <name>',
      `time steps: ${spacingNames.join(', ')} (default: the checkpoint's)`,
    )
    .option('--karras', 'Karras sigmas, for euler and dpmpp-2m')
    .option('--no-karras', "no Karras sigmas, where the checkpoint's scheduler has them")
    .option('--budget <bytes>', 'most memory, such as 512MiB or "2 GiB"', bytes('budget'))
    .option('--device <id>', 'auto, cpu, cuda:0')
    .option('--threads <count>', 'threads to use', integer('threads', 1))
    .option(
      '--compute <dtype>',
      'products in f32, or bf16 with other low bits and more speed (AVX512_BF16, AMX)',
    )
    .option(
      '--dtype <dtype>',
      'activations stored as f32, f16 or bf16; the cpu runs f32, plans all',
    )
    .option(
      '--rehash <spec>',
      'reuse features between steps: 13, paper:13, every-n:9, forecast,speedup=2, threshold=0.08, off; more in the README',
    )
    .option('--fps <rate>', 'frames a second (default: 8, of an image 7)', number('fps', 0))
    .option(
      '--recompute <share>',
      'most operations to spend on making tensors again, for less memory (default: 0.02, VAE 0.03, and 0.35 where it fits in no other way)',
      number('recompute', 0),
    )
    .option(
      '--streaming <choice>',
      'weights come when an op needs them: auto, where the budget needs it (default), never, always',
    )
    .option('--no-spill', "keep features out of the host's memory, beside a GPU")
    .option(
      '--slices <count>',
      'slice every group so often, instead of as the budget asks',
      integer('slices', 1),
    )
    .option(
      '--init-latents <file[#key]>',
      'start noise from a safetensors file: [1, 4, frames, rows, cols], for an image [1, frames, 4, rows, cols]',
    )
    .option('--image-noise <file[#key]>', "the image's noise [1, 3, height, width], safetensors")
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

/** Parser of an option in bytes. */
export function bytes(name: string): (text: string) => number {
  return text => parseBytes(text, `--${name}`)
}

/** Opens the checkpoint with the pipeline that it names: configurations only. */
export async function openPipeline(args: PipelineArguments): Promise<AnyPipeline> {
  const { model, motionAdapter, device, threads, budget } = args
  const compute = args.compute as Compute | undefined
  return loadPipeline(model, { motionAdapter, device, threads, compute, budget })
}

/**
 * What determines the shapes of a generation. With start noise given, its shape does; its header is read.
 * @throws OptionError when an option contradicts it.
 */
export function planOptions(
  args: PipelineArguments,
  pipeline: AnyPipeline,
): PlanOptions & ImagePlanOptions {
  const { frames, width, height, steps, guidance, minGuidance, maxGuidance } = args
  const { decodeChunk, scheduler, spacing, karras, slices, recompute, plan, rehash } = args
  const streaming = args.streaming as StreamingChoice | undefined
  const dtype = dtypeOf('--dtype', args.dtype)
  const sizes = {
    frames,
    width,
    height,
    steps,
    dtype,
    slices,
    recompute,
    streaming,
    plan,
    ...(args.spill === false && { spill: false }),
  }
  const options = {
    ...sizes,
    guidance,
    minGuidance,
    maxGuidance,
    decodeChunk,
    scheduler,
    spacing,
    karras,
    rehash,
  }
  return args.initLatents === undefined
    ? options
    : { ...options, ...sizeOfLatents(args, args.initLatents, pipeline) }
}

/** @throws OptionError */
export function dtypeOf(
  option: string,
  name: string | undefined,
): 'f32' | 'f16' | 'bf16' | undefined {
  if (name === undefined || name === 'f32' || name === 'f16' || name === 'bf16') return name
  throw new OptionError(`${option}: expected f32, f16 or bf16, got ${name}`)
}

function sizeOfLatents(args: PipelineArguments, source: string, pipeline: AnyPipeline) {
  const { key, shape } = findLatents(source)
  const { order, latentChannels, pixelsPerLatent } = pipeline
  const [batch, ...extents] = shape
  const sizes = Object.fromEntries(order.axes.map((axis, i) => [axis, extents[i]!]))
  if (shape.length !== 5 || batch !== 1 || sizes.channels !== latentChannels) {
    const axes = order.axes.map(axis => (axis === 'channels' ? latentChannels : axis))
    throw new OptionError(
      `--init-latents: expected [1, ${axes.join(', ')}], got ${key} [${shape.join(', ')}]; name another tensor as FILE#key`,
    )
  }
  const size = {
    frames: sizes.frames!,
    height: sizes.rows! * pixelsPerLatent,
    width: sizes.cols! * pixelsPerLatent,
  }
  for (const [name, value] of Object.entries(size)) {
    const given = args[name as keyof typeof size]
    if (given === undefined || given === value) continue
    throw new OptionError(
      `--${name}: expected ${value} as in the start noise ${source}, got ${given}; leave --${name} out, or give other noise`,
    )
  }
  return size
}
