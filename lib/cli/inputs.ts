import { basename, extname } from 'node:path'
import { OptionError } from '../errors.js'
import { findTensor } from '../io/latents.js'
import { readFloats } from '../io/safetensors.js'
import type { AnyPipeline } from '../pipelines/load.js'
import type { PipelinePlan } from '../pipelines/pipeline-plan.js'
import { StableVideoDiffusion } from '../pipelines/stable-video-diffusion.js'
import type { PipelineArguments } from './options.js'

type Named = Partial<Record<keyof PipelineArguments, string>>

/** Options that only a checkpoint of one kind takes. */
const ofText: Named = { guidance: '--guidance', negative: '--negative' }
const ofImages: Named = {
  image: '--image',
  motionBucket: '--motion-bucket',
  noiseAug: '--noise-aug',
  minGuidance: '--min-guidance',
  maxGuidance: '--max-guidance',
  decodeChunk: '--decode-chunk',
  imageNoise: '--image-noise',
}

/** What a generation begins with, checked against its checkpoint: a sentence, or a picture. */
export function checkInputs(
  pipeline: AnyPipeline,
  prompt: string | undefined,
  args: PipelineArguments,
): void {
  const takesImage = pipeline instanceof StableVideoDiffusion
  const foreign = Object.entries(takesImage ? ofText : ofImages) as [
    keyof PipelineArguments,
    string,
  ][]
  for (const [name, option] of foreign) {
    if (args[name] === undefined) continue
    const kind = takesImage ? 'makes a video from an image' : 'makes a video from a sentence'
    throw new OptionError(
      `${option}: expected none for ${pipeline.checkpoint.path}, which ${kind}, got one; leave it out, or name another --model`,
    )
  }
  if (takesImage && prompt !== undefined)
    throw new OptionError(
      `prompt: expected none for ${pipeline.checkpoint.path}, which makes a video from an image, got ${JSON.stringify(prompt)}; give --image alone`,
    )
}

/** @throws OptionError where that with which a generation begins is missing */
export function requireInputs(
  pipeline: AnyPipeline,
  prompt: string | undefined,
  { image }: PipelineArguments,
): void {
  if (pipeline instanceof StableVideoDiffusion) {
    if (image === undefined)
      throw new OptionError(
        `--image: expected a picture for ${pipeline.checkpoint.path} to begin with, got none; name its file`,
      )
  } else if (prompt === undefined) {
    throw new OptionError(
      'prompt: expected a sentence, got none; say what to show, or name a --model that takes --image',
    )
  }
}

/** What files are named after when no name is given. */
export function titleOf(prompt: string | undefined, { image }: PipelineArguments): string {
  return prompt ?? (image === undefined ? '' : basename(image, extname(image)))
}

/** Noise for the picture. @throws OptionError for another shape than the plan's picture has; CheckpointError */
export async function readImageNoise(
  source: string,
  { options }: PipelinePlan,
): Promise<Float32Array> {
  const entry = findTensor(source, ['image_noise', 'noise'])
  const expected = [1, 3, options.height, options.width].join(', ')
  const got = entry.shape.join(', ')
  if (got !== expected)
    throw new OptionError(
      `--image-noise: expected [${expected}], got ${entry.key} [${got}]; name another tensor as FILE#key`,
    )
  return readFloats(entry)
}
