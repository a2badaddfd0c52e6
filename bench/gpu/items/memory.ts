/**
 * Device bytes of whole generations as the driver counts them, beside the plan's: what is taken at most, and what is left afterwards. What
 * the context and its kernels take besides is apart.
 */
import { AnimateDiff } from '../../../lib/pipelines/animatediff.js'
import { embeddedModel } from '../../../lib/pipelines/embedded.js'
import { native } from '../../../lib/runtime/native.js'
import { formatBytes } from '../../../lib/units.js'
import { tell } from '../child.js'
import { found, freeBytes, gpu } from '../device.js'

const small = process.argv.includes('--small')
const size = small
  ? { frames: 2, steps: 1, height: 32, width: 32, guidance: 1 }
  : { frames: 16, steps: 4, height: 64, width: 64, guidance: 2.5 }
const prompt = 'a red circle moving right on a black background'

interface Round {
  readonly stages: readonly {
    stage: string
    predictedBytes: number
    measuredBytes: number
    deviceBytes: number
  }[]
  /** Bytes missing once all is given back. */
  readonly keptBytes: number
}

async function generate(): Promise<Round> {
  const before = freeBytes()
  const most: Record<string, number> = {}
  await using pipeline = await AnimateDiff.load(embeddedModel(), { device: gpu })
  const video = await pipeline.generate({
    ...size,
    prompt,
    seed: 9,
    poison: true,
    onProgress: ({ stage }) => {
      most[stage] = Math.max(most[stage] ?? 0, before - freeBytes())
    },
  })
  for await (const _ of video.frames());
  const stages = video.report.map(({ stage, predictedBytes, measuredBytes }) => {
    return { stage, predictedBytes, measuredBytes, deviceBytes: most[stage] ?? 0 }
  })
  return { stages, keptBytes: before - freeBytes() }
}

const { tileBytes } = found()
const first = await generate()
const second = await generate()
/** Arena and weights, whole tiles each. */
const taken = second.stages.map(({ predictedBytes }) => predictedBytes + 2 * tileBytes)
const faults = [
  ...second.stages
    .filter(({ predictedBytes, measuredBytes }) => measuredBytes !== predictedBytes)
    .map(
      ({ stage, predictedBytes, measuredBytes }) =>
        `${stage}: ${measuredBytes} bytes, not ${predictedBytes}`,
    ),
  // The first round loads kernels; the second must not take more than its blocks.
  ...second.stages
    .filter(({ deviceBytes }, i) => deviceBytes > taken[i]! + 32 * 2 ** 20)
    .map(({ stage, deviceBytes }) => `${stage}: the device lacks ${deviceBytes} bytes`),
  ...(second.keptBytes > 2 ** 20 ? [`${second.keptBytes} bytes are not given back`] : []),
  ...(native().pool().bytes !== 0 ? [`${native().pool().bytes} bytes are in blocks`] : []),
]
const stages = second.stages.map(
  ({ stage, predictedBytes, deviceBytes }) =>
    `${stage} ${formatBytes(predictedBytes)} (device ${formatBytes(deviceBytes)})`,
)
tell({
  passed: faults.length === 0,
  detail: faults.length
    ? faults.join('; ')
    : `predicted = measured: ${stages.join(', ')}; kernels and context took ${formatBytes(Math.max(0, first.keptBytes))} more, all else is back`,
  values: { first, second },
})
