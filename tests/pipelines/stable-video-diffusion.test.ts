import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  AbortError,
  AnimateDiff,
  BudgetError,
  CheckpointError,
  DeviceError,
  FileError,
  type ImageToVideoOptions,
  loadPipeline,
  OptionError,
  plan,
  StableVideoDiffusion,
  type Video,
} from '../../lib/index.js'
import { readPixels } from '../../lib/io/image.js'
import { readSafetensorsHeader } from '../../lib/io/safetensors.js'
import { native } from '../../lib/runtime/native.js'
import { scratch } from '../io/scratch.js'
import { difference, fixture, readTensors } from '../support/recorded.js'
import { svdCheckpoint, tinySvd, tinySvdConfigs } from '../support/svd-checkpoint.js'

const { path, clean } = scratch('svd')
test.after(clean)

const model = await tinySvd(path('tiny'))
const recordedModel = await svdCheckpoint(path('svd'))
const image = fixture('svd-run/image.png')
const golden = fixture('svd-run/golden.safetensors')
const quick = { image, frames: 2, width: 16, height: 24, steps: 1, seed: 5 }

const load = (options = {}) => StableVideoDiffusion.load(model, { device: 'cpu', ...options })

async function frames(video: Video): Promise<Float32Array[]> {
  const list: Float32Array[] = []
  for await (const frame of video.frames()) list.push(frame.data)
  return list
}

function exact(video: Video): void {
  assert.equal(
    video.report.map(({ stage }) => stage),
    ['image', 'encode', 'denoise', 'decode'],
  )
  for (const { stage, predictedBytes, measuredBytes } of video.report)
    assert.is(measuredBytes, predictedBytes, stage)
}

/** What was recorded: the case, and its noises as options. */
async function recordedRun() {
  const recorded = await readTensors(golden)
  const options = JSON.parse(readSafetensorsHeader(golden).metadata.case!) as ImageToVideoOptions
  const initLatents = recorded.noise!.values as Float32Array
  const imageNoise = recorded.image_noise!.values as Float32Array
  return { recorded, options: { ...options, image, initLatents, imageNoise } }
}

test('the recorded run: latents within 2e-3, frames within 5e-3, decoded at once and two by two', async () => {
  const { recorded, options } = await recordedRun()
  const pipeline = await StableVideoDiffusion.load(recordedModel, { device: 'cpu' })
  for (const [latents, video, more] of [
    ['latents', 'video', {}],
    ['latents', 'chunked', { decodeChunk: 2 }],
    ['unguided', undefined, { maxGuidance: 1 }],
  ] as const) {
    const made = await pipeline.generate({ ...options, ...more })
    assert.equal(made.latents.shape, recorded[latents]!.shape)
    assert.ok(difference(made.latents.data, recorded[latents]!.values).max < 2e-3, latents)
    if (video === undefined) continue
    const { values } = recorded[video]!
    const decoded = await frames(made)
    const size = decoded[0]!.length
    assert.is(decoded.length * size, values.length)
    decoded.forEach((frame, i) =>
      assert.ok(difference(frame, values.subarray(i * size, (i + 1) * size)).max < 5e-3, video),
    )
    exact(made)
  }
})

test('the least budget gives the same video bit for bit, predicted = measured', async () => {
  // A frame's deepest features are a single pixel in the second case.
  for (const size of [
    { frames: 5, width: 40, height: 24, steps: 2 },
    { frames: 3, width: 4, height: 4, steps: 1 },
  ]) {
    const options = { ...quick, ...size, poison: true }
    const free = await load()
    const whole = await free.generate({ ...options, slices: 1 })
    const pictures = await frames(whole)
    exact(whole)
    const budget = free.smallestBudget(size)
    for (const [loaded, more] of [
      [{ budget }, {}],
      [{ threads: 3 }, { slices: 100 }],
    ] as const) {
      const video = await (await load(loaded)).generate({ ...options, ...more })
      assert.equal(video.latents.data, whole.latents.data)
      assert.equal(await frames(video), pictures)
      exact(video)
      if ('budget' in loaded)
        assert.ok(video.report.every(({ measuredBytes }) => measuredBytes <= budget))
    }
  }
})

test('the recorded networks in slices: the same bits', async () => {
  const pipeline = await StableVideoDiffusion.load(recordedModel, { device: 'cpu' })
  const options = { ...quick, width: 64, height: 64 }
  const whole = await pipeline.generate({ ...options, slices: 1 })
  const sliced = await pipeline.generate({ ...options, slices: 100 })
  assert.equal(sliced.latents, whole.latents)
  assert.equal(await frames(sliced), await frames(whole))
  exact(sliced)
})

test('paths, bytes, pixels and frames are the same picture', async () => {
  const pipeline = await load()
  const first = await pipeline.generate(quick)
  const pixels = await readPixels(image)
  for (const source of [readFileSync(image), pixels])
    assert.equal((await pipeline.generate({ ...quick, image: source })).latents, first.latents)
  for await (const frame of first.frames()) {
    const next = await pipeline.generate({ ...quick, image: frame })
    assert.not.equal(next.latents, first.latents)
    break
  }
})

test('the seed repeats; every condition matters', async () => {
  const pipeline = await load()
  const { latents } = await pipeline.generate(quick)
  assert.equal((await pipeline.generate(quick)).latents, latents)
  for (const other of [
    { seed: 6 },
    { fps: 12 },
    { motionBucketId: 20 },
    { noiseAugStrength: 0.3 },
    { imageNoise: new Float32Array(3 * 16 * 24) },
    { maxGuidance: 4 },
    { minGuidance: 1.5 },
    { scheduler: 'euler-ancestral', steps: 2 },
  ])
    assert.not.equal(
      (await pipeline.generate({ ...quick, ...other })).latents,
      latents,
      JSON.stringify(other),
    )
})

test('a plan needs configurations only; sizes, chunks and dtypes show in it', async () => {
  const folder = tinySvdConfigs(path('configs'))
  const options = { device: 'cpu', width: 64, height: 64, frames: 5 }
  const whole = await plan(folder, options)
  assert.equal(
    whole.stages.map(({ name }) => name),
    ['image', 'encode', 'denoise', 'decode'],
  )
  assert.is(whole.stage('denoise').programs.unet!.runs, 50)
  assert.is(
    (await plan(folder, { ...options, maxGuidance: 1 })).stage('denoise').programs.unet!.runs,
    25,
  )
  const chunked = await plan(folder, { ...options, decodeChunk: 2 })
  const runs = Object.values(chunked.stage('decode').programs).map(program => program.runs)
  assert.equal(runs, [2, 1])
  assert.ok(chunked.stage('decode').arenaBytes < whole.stage('decode').arenaBytes / 2)
  const halved = await plan(folder, { ...options, dtype: 'f16' })
  const saved = whole.stage('denoise').arenaBytes / halved.stage('denoise').arenaBytes
  assert.ok(saved > 1.6, `${saved}`)
  for (const { hostBytes } of whole.summary()) assert.ok(hostBytes > 0)
})

test('what is not said: the size that a checkpoint was trained on, wide', async () => {
  const { options } = (await load()).plan()
  assert.equal([options.frames, options.width, options.height], [3, 32, 20])
})

test('a checkpoint is opened by what it names', async () => {
  assert.instance(await loadPipeline(model), StableVideoDiffusion)
  assert.instance(await loadPipeline(), AnimateDiff)
})

type Wrong = readonly [Partial<ImageToVideoOptions>, RegExp, new (...args: never[]) => Error]

test('what cannot be is refused by name, before any weight is read', async () => {
  const pipeline = await load()
  const noise = (count: number) => new Float32Array(count)
  const wrong: Wrong[] = [
    [{ image: undefined }, /image: expected a picture to begin with, got none/, OptionError],
    [{ image: path('none.png') }, /none\.png/, FileError],
    [{ image: path('tiny/model_index.json') }, /expected an image/, FileError],
    [{ image: Buffer.from('text') }, /image: expected an image/, FileError],
    [{ image: { width: 2, height: 2, data: new Uint8Array(11) } }, /3 x 2 x 2/, OptionError],
    [{ image: 7 as never }, /image: expected a path/, OptionError],
    [{ width: 15 }, /width: expected a multiple of 2/, OptionError],
    [{ height: 0 }, /height/, OptionError],
    [{ frames: 0 }, /frames: expected a positive integer/, OptionError],
    [{ steps: 1.5 }, /steps/, OptionError],
    [{ decodeChunk: 0 }, /decodeChunk: expected a positive integer/, OptionError],
    [{ minGuidance: Number.NaN }, /minGuidance: expected a number/, OptionError],
    [{ maxGuidance: Number.POSITIVE_INFINITY }, /maxGuidance/, OptionError],
    [{ fps: 0 }, /fps: expected a number of at least 1/, OptionError],
    [{ motionBucketId: -1 }, /motionBucketId/, OptionError],
    [{ noiseAugStrength: Number.NaN }, /noiseAugStrength/, OptionError],
    [{ initLatents: noise(3) }, /initLatents: expected \[1, 2, 4, 12, 8\], got 3/, OptionError],
    [{ imageNoise: noise(3) }, /imageNoise: expected \[1, 3, 24, 16\], got 3/, OptionError],
    [
      { imageNoise: noise(3 * 16 * 24).fill(Number.NaN) },
      /imageNoise: expected finite/,
      OptionError,
    ],
    [{ prompt: 'a fox' } as never, /prompt: expected none for Stable Video/, OptionError],
    [{ scheduler: 'nothing' }, /scheduler/, OptionError],
    [{ seed: -1 }, /seed/, OptionError],
    [{ dtype: 'f8' as never }, /dtype: expected f32, f16 or bf16, got f8/, OptionError],
    [{ dtype: 'f16' }, /dtype: expected f32, the only one that cpu computes with/, DeviceError],
  ]
  for (const [options, message, kind] of wrong) {
    const progress: string[] = []
    const error = await pipeline
      .generate({ ...quick, ...options, onProgress: ({ stage }) => progress.push(stage) })
      .then(
        () => undefined,
        (error: Error) => error,
      )
    assert.instance(error, kind, `${message}: ${error}`)
    assert.match(error!.message, message)
    assert.equal(progress, [])
  }
  const text = await AnimateDiff.load(undefined, { device: 'cpu' })
  const mixed = { prompt: 'a fox', image } as never
  await text.generate(mixed).then(
    () => assert.unreachable(),
    (error: Error) => assert.match(error.message, /image: expected none for AnimateDiff/),
  )
})

test('another pipeline, a motion adapter, a budget that cannot hold', async () => {
  const failing: [Promise<unknown>, RegExp, new (...args: never[]) => Error][] = [
    [
      StableVideoDiffusion.load(fixture('configs/animatediff-sd15')),
      /got AnimateDiff/,
      CheckpointError,
    ],
    [StableVideoDiffusion.load(path('nowhere')), /nothing there/, CheckpointError],
    [load({ motionAdapter: model }), /motionAdapter: expected none/, OptionError],
    [
      load({ budget: '16 KiB' }).then(p => p.generate(quick)),
      /for stage \w+, got 16384/,
      BudgetError,
    ],
  ]
  for (const [attempt, message, kind] of failing) {
    await attempt.then(
      () => assert.unreachable(`${message}`),
      (error: Error) => {
        assert.instance(error, kind, `${error}`)
        assert.match(error.message, message)
      },
    )
  }
})

for (const stage of ['image', 'encode', 'denoise', 'decode']) {
  test(`abort in stage ${stage}: AbortError, pool empty`, async () => {
    const pipeline = await load()
    const controller = new AbortController()
    let seen = 0
    const onProgress = (progress: { stage: string; phase: string }) => {
      if (progress.stage === stage && progress.phase === 'run' && ++seen === 1) controller.abort()
    }
    const { signal } = controller
    const error = await pipeline
      .generate({ ...quick, decodeChunk: 1, signal, onProgress })
      .then(frames)
      .then(
        () => undefined,
        (error: Error) => error,
      )
    assert.instance(error, AbortError, `${error}`)
    assert.is(native().pool().bytes, 0)
  })
}

test.run()
