import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { AnimateDiff } from '../../lib/pipelines/animatediff.js'
import { embeddedModel } from '../../lib/pipelines/embedded.js'
import { gpu, useEmulation } from './support.js'

useEmulation()

const options = {
  prompt: 'a red circle moving right on a black background',
  frames: 2,
  steps: 1,
  guidance: 1,
  seed: 9,
  height: 32,
  width: 32,
  poison: true,
}

async function generate(device: string, more: object = {}) {
  await using pipeline = await AnimateDiff.load(embeddedModel(), { device })
  const video = await pipeline.generate({ ...options, ...more })
  const frames: Float32Array[] = []
  for await (const frame of video.frames()) frames.push(Float32Array.from(frame.data))
  return { frames, report: video.report }
}

test('the embedded checkpoint on a GPU: float16 close to the CPU, predicted = measured, sliced to the same bits', async () => {
  const [cpu, cuda] = [await generate('cpu'), await generate(gpu)]
  let worst = 0
  cpu.frames.forEach((frame, f) => {
    frame.forEach((value, i) => {
      worst = Math.max(worst, Math.abs(value - cuda.frames[f]![i]!))
    })
  })
  assert.ok(worst > 0 && worst < 0.01, `${worst}`)
  for (const { stage, predictedBytes, measuredBytes } of cuda.report)
    assert.is(measuredBytes, predictedBytes, stage)
  const sliced = await generate(gpu, { slices: 2 })
  assert.equal(sliced.frames, cuda.frames)
  // Weights come beside the kernels, by copies that these wait for.
  const streamed = await generate(gpu, { slices: 2, streaming: 'always' })
  assert.equal(streamed.frames, cuda.frames)
})

test.run()
