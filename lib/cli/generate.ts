import { SluiceError } from '../errors.js'
import { findLatents } from '../io/latents.js'
import { readFloats } from '../io/safetensors.js'
import type { StageReport } from '../pipelines/generation.js'
import { formatTable } from '../pipelines/pipeline-plan.js'
import { StableVideoDiffusion } from '../pipelines/stable-video-diffusion.js'
import type { Video } from '../pipelines/video.js'
import { formatSeconds, grouped } from './format.js'
import { checkInputs, readImageNoise, requireInputs, titleOf } from './inputs.js'
import { interruptible } from './interrupt.js'
import { openPipeline, type PipelineArguments, planOptions } from './options.js'
import { checkOutputs, type Outputs, outputsOf, withFolders } from './outputs.js'
import { describePlan } from './plan.js'
import { ProgressReport } from './progress.js'
import { saveReport } from './report.js'

/** `sluice generate`: checks outputs, plans, runs, writes, and compares measured peaks with the predicted ones. */
export async function generate(prompt: string | undefined, args: PipelineArguments): Promise<void> {
  const say = (text: string) => {
    if (!args.quiet) console.log(text)
  }
  const outputs = outputsOf(titleOf(prompt, args), args)
  await checkOutputs(outputs, { fps: args.fps })
  await using pipeline = await openPipeline(args)
  checkInputs(pipeline, prompt, args)
  requireInputs(pipeline, prompt, args)
  const shape = planOptions(args, pipeline)
  const plan = pipeline.plan(shape)
  say(describePlan(plan))
  say('')
  const initLatents =
    args.initLatents === undefined ? undefined : await readFloats(findLatents(args.initLatents))
  const imageNoise =
    args.imageNoise === undefined ? undefined : await readImageNoise(args.imageNoise, plan)

  const video = await interruptible(async signal => {
    const progress = new ProgressReport(Boolean(args.quiet))
    try {
      const { seed } = args
      const options = { ...shape, seed, initLatents, signal, onProgress: progress.update }
      const video = await (pipeline instanceof StableVideoDiffusion
        ? pipeline.generate({ ...options, ...imageOptions(args), imageNoise })
        : pipeline.generate({ ...options, prompt: prompt!, negative: args.negative }))
      await write(video, outputs, args)
      return video
    } finally {
      progress.stop()
    }
  })
  if (outputs.report !== undefined) {
    const measured = video.report
    const { image } = args
    const seed = seedOf(video, args)
    await saveReport(outputs.report, args, { plan, prompt, image, seed, measured })
  }
  say(reportTable(video.report))
  const origin =
    args.initLatents === undefined ? `seed ${video.seed}` : `noise of ${args.initLatents}`
  const written = Object.values(outputs).filter(path => path !== undefined)
  if (plan.rehash) say(`\n${video.fullSteps.length} of ${plan.rehash.steps} steps ran in full`)
  say(`\n${origin}; wrote ${written.join(', ')}`)
  checkPeaks(video.report)
}

/** What the command line says about the image, which is known to be there. */
function imageOptions({ image, fps, motionBucket, noiseAug }: PipelineArguments) {
  return { image: image!, fps, motionBucketId: motionBucket, noiseAugStrength: noiseAug }
}

/** With start noise given, the seed is not used. */
function seedOf({ seed }: Video, { initLatents }: PipelineArguments): number | undefined {
  return initLatents === undefined ? seed : undefined
}

/** The latents first: what fails while decoding does not lose them. */
async function write(video: Video, outputs: Outputs, args: PipelineArguments): Promise<void> {
  const { video: path, latents, frames } = outputs
  if (latents !== undefined) await withFolders([latents], () => video.saveLatents(latents))
  if (args.decode) {
    await withFolders([path, frames], () => video.save(path, { fps: args.fps, tensors: frames }))
  }
}

function reportTable(report: readonly StageReport[]): string {
  const rows = report.map(({ stage, predictedBytes, measuredBytes, seconds }) => [
    stage,
    grouped(predictedBytes),
    grouped(measuredBytes),
    measuredBytes === predictedBytes ? 'equal' : 'differs',
    formatSeconds(seconds),
  ])
  return formatTable([['stage', 'predicted bytes', 'measured bytes', '', 'time'], ...rows])
}

/** @throws SluiceError when a stage used more than was predicted. */
function checkPeaks(report: readonly StageReport[]): void {
  const over = report.find(({ predictedBytes, measuredBytes }) => measuredBytes > predictedBytes)
  if (!over) return
  throw new SluiceError(
    `${over.stage}: expected a peak of at most ${over.predictedBytes} bytes, as planned, got ${over.measuredBytes}; the output is written, but please report this`,
  )
}
