/** A whole video on the GPU, timed: `video.js REQUEST [BUDGET]`. */
import { gaussian } from '../../../lib/io/random.js'
import { AnimateDiff } from '../../../lib/pipelines/animatediff.js'
import type { Progress } from '../../../lib/pipelines/progress.js'
import { StableVideoDiffusion } from '../../../lib/pipelines/stable-video-diffusion.js'
import { formatBytes } from '../../../lib/units.js'
import { tell } from '../child.js'
import { freeBytes, gpu } from '../device.js'
import type { NetworkRequest, VideoResult } from '../network-request.js'

const request = JSON.parse(process.argv[2]!) as NetworkRequest
const budget = process.argv[3]
const { frames, height, width, steps } = request

const before = freeBytes()
let least = before
/** When denoising step i began, in milliseconds. */
const began: number[] = []
function onProgress({ stage, phase, step }: Progress): void {
  least = Math.min(least, freeBytes())
  if (stage === 'denoise' && phase === 'run' && step !== undefined)
    began[step] ??= performance.now()
}

const load = { device: gpu, ...(budget && { budget }) }
const common = { frames, height, width, steps, seed: 5, onProgress }
const start = performance.now()
const video =
  request.model === 'animatediff'
    ? await (await AnimateDiff.load(request.folder, load)).generate({
        ...common,
        prompt: 'a red circle moving right',
        guidance: 7.5,
      })
    : await (await StableVideoDiffusion.load(request.folder, load)).generate({
        ...common,
        image: {
          width,
          height,
          data: Uint8Array.from(gaussian(3, 3 * width * height), x => 128 + 40 * x),
        },
        decodeChunk: request.decodeChunk,
      })
let pixels = 0
for await (const frame of video.frames()) pixels += frame.data.every(Number.isFinite) ? 1 : 0
const seconds = (performance.now() - start) / 1000
// The first step loads kernels, the second makes graphs.
const last = began.length - 1
const first = Math.min(2, last - 1)
const result: VideoResult = {
  seconds,
  secondsPerStep: last > 0 ? (began[last]! - began[first]!) / 1000 / (last - first) : Number.NaN,
  stages: video.report,
  peakBytes: video.plan.peakBytes,
  deviceBytes: before - least,
}
const exact = video.report.every(s => s.measuredBytes <= s.predictedBytes)
tell({
  passed: exact && pixels === frames,
  detail: `${seconds.toFixed(1)} s, ${result.secondsPerStep.toFixed(3)} s a step, ${formatBytes(result.peakBytes)}`,
  values: result,
})
