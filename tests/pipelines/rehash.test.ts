import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  AnimateDiff,
  FileError,
  OptionError,
  StableVideoDiffusion,
  type Video,
} from '../../lib/index.js'
import { psnr } from '../../lib/quality/metrics.js'
import { svdCheckpoint } from '../support/svd-checkpoint.js'

const folder = mkdtempSync(join(tmpdir(), 'sluice-rehash-'))
test.after(() => rmSync(folder, { recursive: true }))

const quick = {
  prompt: 'a red circle moving right on a black background',
  frames: 2,
  steps: 4,
  seed: 5,
  poison: true,
}
const last = 'up_blocks.2.motion_modules.1'
const deep = 'up_blocks.1.resnets.1'
const pipeline = await AnimateDiff.load(undefined, { device: 'cpu', threads: 1 })

function exact(video: Video): void {
  for (const { stage, predictedBytes, measuredBytes } of video.report)
    assert.is(measuredBytes, predictedBytes, stage)
}

function same(a: Video, b: Video, what = 'latents'): void {
  const at = a.latents.data.findIndex((value, i) => value !== b.latents.data[i])
  assert.is(at, -1, `${what} differ`)
}

const distance = (a: Video, b: Video) => psnr(a.latents.data, b.latents.data, 8)

test('with every step full any policy gives the plain video, bit for bit', async () => {
  const plain = await pipeline.generate(quick)
  assert.equal(plain.fullSteps, [0, 1, 2, 3])
  for (const rehash of [
    `paper:4,feature=${last}`,
    'every-n:4',
    `forecast:4,feature=${deep},storage=f16`,
    `threshold=0,feature=${last},storage=int8`,
  ]) {
    const video = await pipeline.generate({ ...quick, rehash })
    same(video, plain, rehash)
    assert.equal(video.fullSteps, plain.fullSteps)
    exact(video)
  }
})

test("what follows the paper's feature reads nothing of the step: the prediction itself is the same cache, smaller", async () => {
  const at = [0, 2, 3]
  const feature = await pipeline.generate({
    ...quick,
    rehash: { policy: 'paper', at, feature: last },
  })
  const prediction = await pipeline.generate({ ...quick, rehash: { policy: 'paper', at } })
  same(feature, prediction)
  assert.equal(prediction.fullSteps, at)
  const plain = await pipeline.generate(quick)
  assert.ok(distance(prediction, plain) < 200)
  exact(feature)
  exact(prediction)
  const bytes = (rehash: string) => pipeline.plan({ ...quick, rehash }).rehash!.cacheBytes
  const tensor = 2 * 8 * 8 * 48 * 4
  assert.is(bytes(`paper:3,feature=${last}`), 2 * tensor)
  assert.is(bytes(`paper:3,feature=${last},storage=f16`), tensor)
  assert.ok(bytes(`paper:3,feature=${last},storage=int8`) < tensor)
  assert.ok(bytes('forecast:3') < tensor)
})

test('predicted = measured for both programs, and slices change no bit', async () => {
  for (const rehash of [
    `forecast,at=0/1/3,feature=${deep},storage=int8`,
    `paper,at=0/3,feature=${last},storage=f16`,
    'threshold=0.3',
  ]) {
    const whole = await pipeline.generate({ ...quick, rehash, slices: 1 })
    exact(whole)
    const sliced = await pipeline.generate({ ...quick, rehash, slices: 3 })
    same(sliced, whole, rehash)
    exact(sliced)
  }
})

test('the cache stands in the predicted peak', () => {
  const plain = pipeline.plan(quick).stage('denoise')
  const plan = pipeline.plan({ ...quick, rehash: 'forecast:3' })
  const denoise = plan.stage('denoise')
  assert.is(plan.rehash!.cacheBytes, 4 * 2 * 8 * 8 * 4 * 4 + 8)
  assert.ok(denoise.stateBytes >= plain.stateBytes + plan.rehash!.cacheBytes)
  assert.ok(denoise.peakBytes > plain.peakBytes)
  assert.is(denoise.weights.bytes, plain.weights.bytes)
  const { unet, skipped } = denoise.programs
  assert.equal([unet!.runs, skipped!.runs], [6, 2])
  assert.ok(plan.rehash!.skippedShare < 0.12)
  assert.ok(plan.rehash!.speedup > 1.25 && plan.rehash!.speedup < 4 / 3)
  assert.ok(plan.seconds < pipeline.plan(quick).seconds)
  assert.match(plan.table(), /cache .*\n.*\n.*\n.*x 6 \+ 1 x 2/)
})

test('a forecast comes nearer to the full run than reuse, and narrow storage stays near', async () => {
  const options = { ...quick, steps: 9, guidance: 2 }
  const full = await pipeline.generate(options)
  const at = [0, 2, 4, 6, 8]
  const run = (rehash: object) => pipeline.generate({ ...options, rehash: { at, ...rehash } })
  const reused = await run({ policy: 'paper' })
  const forecast = await run({ policy: 'forecast' })
  assert.ok(distance(forecast, full) > distance(reused, full) + 3)
  const float = await run({ policy: 'paper', feature: last })
  for (const [storage, least] of [
    ['f16', 75],
    ['int8', 50],
  ] as const)
    assert.ok(distance(await run({ policy: 'paper', feature: last, storage }), float) > least)
})

test('without guidance one half is kept; schedulers that scale and draw noise go along', async () => {
  const one = { ...quick, guidance: 1, rehash: `paper,at=0/2,feature=${last}` }
  assert.is(pipeline.plan(one).rehash!.cacheBytes, 2 * 8 * 8 * 48 * 4)
  exact(await pipeline.generate(one))
  for (const rehash of ['forecast:3', 'threshold=0.5']) {
    const video = await pipeline.generate({ ...quick, scheduler: 'euler-ancestral', rehash })
    assert.ok(video.fullSteps.length < 4)
    exact(video)
  }
})

test('a budget that holds the cache keeps it, to the byte', async () => {
  const options = { ...quick, rehash: `paper,at=0/2,feature=${last},storage=int8` }
  const budget = pipeline.smallestBudget(options)
  const tight = await AnimateDiff.load(undefined, { device: 'cpu', threads: 1, budget })
  const video = await tight.generate({ ...options, steps: 3 })
  assert.equal(video.fullSteps, [0, 2])
  assert.ok(video.report.every(({ measuredBytes }) => measuredBytes <= budget))
  exact(video)
})

test('a saved plan runs the same steps', async () => {
  const rehash = { policy: 'paper', fullSteps: 3, feature: last, storage: 'f16' } as const
  const plan = pipeline.plan({ ...quick, rehash })
  const file = join(folder, 'plan.json')
  await plan.save(file)
  const again = await pipeline.generate({ prompt: quick.prompt, seed: 5, plan: file })
  const direct = await pipeline.generate({ ...quick, rehash })
  same(again, direct)
  assert.equal(again.fullSteps, plan.rehash!.fullSteps)
  // Neither what the pipeline nor what the caller says changes a plan.
  const other = await AnimateDiff.load(undefined, {
    device: 'cpu',
    threads: 1,
    rehash: 'forecast:4',
  })
  assert.equal(
    (await other.generate({ prompt: quick.prompt, seed: 5, plan: file })).fullSteps,
    again.fullSteps,
  )
  const plain = pipeline.plan(quick)
  assert.is(other.plan({ plan: plain }).rehash, undefined)
  assert.is(other.plan(quick).rehash!.policy, 'forecast')
  assert.is(other.plan({ ...quick, rehash: false }).rehash, undefined)
  assert.throws(
    () => pipeline.plan({ plan: file, rehash: 'forecast:2' }),
    (e: Error) => e instanceof OptionError && /rehash: expected paper,at=/.test(e.message),
  )
})

test('a speed-up becomes the most full steps that reach it', () => {
  for (const [speedup, count] of [
    [1, 25],
    [1.9, 13],
    [2.5, 9],
    [5, 4],
  ] as const) {
    const { rehash } = pipeline.plan({ ...quick, steps: 25, rehash: { speedup } })
    assert.is(rehash!.fullSteps!.length, count)
  }
  assert.is(pipeline.plan({ ...quick, steps: 25, rehash: 'paper' }).rehash!.fullSteps!.length, 13)
})

test('what cannot be is refused', () => {
  for (const [rehash, message] of [
    ['paper:1', /2 to 4 full steps/],
    ['paper:5', /2 to 4 full steps/],
    ['speedup=9', /at most 2.00 with 4 steps/],
    ['paper,at=0/4', /steps below 4/],
    ['paper:3,feature=mid_block', /expected one of up_blocks/],
    ['nonsense', /rehash/],
  ] as const)
    assert.throws(
      () => pipeline.plan({ ...quick, rehash }),
      (e: Error) => e instanceof OptionError && message.test(e.message),
      rehash,
    )
  assert.throws(
    () => pipeline.plan({ ...quick, rehash: 'paper:3,map=/nowhere/map.json' }),
    (e: Error) => e instanceof FileError,
  )
})

test('image to video: the same, with its own last layer', async () => {
  const model = await svdCheckpoint(join(folder, 'svd'))
  const svd = await StableVideoDiffusion.load(model, { device: 'cpu', threads: 1 })
  const image = { width: 2, height: 2, data: new Float32Array(12).fill(0.3) }
  const options = { image, frames: 2, width: 64, height: 64, steps: 4, seed: 1, poison: true }
  const plain = await svd.generate(options)
  const feature = `up_blocks.${svd.config.unet.up.length - 1}.attentions.2`
  const all = await svd.generate({ ...options, rehash: `paper:4,feature=${feature}` })
  same(all, plain)
  const some = await svd.generate({ ...options, rehash: `paper,at=0/2/3,feature=${feature}` })
  const prediction = await svd.generate({ ...options, rehash: 'paper,at=0/2/3' })
  same(some, prediction)
  assert.ok(distance(some, plain) < 200)
  const sliced = await svd.generate({ ...options, slices: 3, rehash: 'forecast:3,storage=int8' })
  const whole = await svd.generate({ ...options, slices: 1, rehash: 'forecast:3,storage=int8' })
  same(sliced, whole)
  for (const video of [all, some, prediction, sliced, whole]) exact(video)
})

test.run()
