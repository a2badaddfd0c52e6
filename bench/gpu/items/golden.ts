/** A recorded run on the GPU, from the same noise: `golden.js NAME DTYPE`. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readSafetensorsHeader } from '../../../lib/io/safetensors.js'
import { AnimateDiff, type GenerateOptions } from '../../../lib/pipelines/animatediff.js'
import {
  type ImageToVideoOptions,
  StableVideoDiffusion,
} from '../../../lib/pipelines/stable-video-diffusion.js'
import type { Video } from '../../../lib/pipelines/video.js'
import { copyModel, embedded } from '../../../tests/support/checkpoints.js'
import { fixture, type Recorded, readTensors } from '../../../tests/support/recorded.js'
import { svdCheckpoint } from '../../../tests/support/svd-checkpoint.js'
import { tell } from '../child.js'
import { gpu } from '../device.js'
import { distance, leastPsnr, runTolerance, type Storage } from '../tolerance.js'

const [name, dtype] = process.argv.slice(2) as [string, Storage]
const isSvd = name === 'svd-run'
const file = fixture(isSvd ? 'svd-run/golden.safetensors' : `golden/${name}.safetensors`)
const recorded = await readTensors(file)
const recordedCase = JSON.parse(readSafetensorsHeader(file).metadata.case!)
const values = (key: string): Float32Array => recorded[key]!.values as Float32Array

async function animateDiff(folder: string): Promise<Video> {
  const {
    config,
    kind,
    name: _,
    ...options
  } = recordedCase as GenerateOptions & {
    config?: object
    kind?: string
    name?: string
  }
  const model = config ? copyModel(folder) : embedded
  if (config) writeFileSync(join(model, 'scheduler/scheduler_config.json'), JSON.stringify(config))
  const pipeline = await AnimateDiff.load(model, { device: gpu })
  return pipeline.generate({ ...options, dtype, poison: true, initLatents: values('noise') })
}

async function stableVideo(folder: string): Promise<Video> {
  const pipeline = await StableVideoDiffusion.load(await svdCheckpoint(folder), { device: gpu })
  return pipeline.generate({
    ...(recordedCase as ImageToVideoOptions),
    image: fixture('svd-run/image.png'),
    initLatents: values('noise'),
    imageNoise: values('image_noise'),
    dtype,
    poison: true,
  })
}

async function pixels(video: Video, expected: Recorded | undefined): Promise<Float32Array> {
  const frames: Float32Array[] = []
  // Decoded also where no picture was recorded: its stage's bytes are compared.
  for await (const { data } of video.frames()) frames.push(data)
  const size = frames[0]!.length
  const all = new Float32Array(size * frames.length)
  for (const [i, frame] of frames.entries()) all.set(frame, i * size)
  if (expected && expected.values.length !== all.length)
    throw new Error(`expected ${expected.values.length} recorded values, got ${all.length}`)
  return all
}

const folder = mkdtempSync(join(tmpdir(), 'sluice-gpu-'))
try {
  const video = await (isSvd ? stableVideo(folder) : animateDiff(folder))
  const picture = await pixels(video, recorded.video)
  const found = {
    latents: distance(video.latents.data, values('latents')),
    ...(recorded.video && { video: distance(picture, values('video')) }),
  }
  const close = Object.entries(found).every(([key, { largest, psnr }]) =>
    dtype === 'f32'
      ? largest <= runTolerance[key as keyof typeof runTolerance]
      : psnr >= leastPsnr[dtype],
  )
  const exact = video.report.every(
    ({ predictedBytes, measuredBytes }) => predictedBytes === measuredBytes,
  )
  const text = Object.entries(found).map(
    ([key, { largest, psnr }]) =>
      `${key} ${largest.toExponential(1)} at most, ${psnr.toFixed(1)} dB`,
  )
  tell({
    passed: close && exact,
    detail: `${text.join('; ')}; bytes of ${video.report.length} stages ${exact ? 'as predicted' : 'DIFFER'}`,
    values: { found, report: video.report },
  })
} finally {
  rmSync(folder, { recursive: true, force: true })
}
