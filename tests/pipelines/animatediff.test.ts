import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  AbortError,
  AnimateDiff,
  BudgetError,
  CheckpointError,
  type GenerateOptions,
  OptionError,
  plan,
  type Video,
} from '../../lib/index.js'
import { readSafetensorsHeader } from '../../lib/io/safetensors.js'
import { native } from '../../lib/runtime/native.js'
import { fixture, readTensors } from '../support/recorded.js'

const prompt = 'a red circle moving right on a black background'
const quick = { prompt, steps: 2, seed: 5 }

async function frames(video: Video): Promise<Float32Array[]> {
  const list: Float32Array[] = []
  for await (const frame of video.frames()) list.push(frame.data)
  return list
}

function largest(a: ArrayLike<number>, b: ArrayLike<number>): number {
  assert.is(a.length, b.length)
  let most = 0
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!))
  return most
}

function exact(video: Video): void {
  for (const { stage, predictedBytes, measuredBytes } of video.report)
    assert.is(measuredBytes, predictedBytes, stage)
}

test('golden runs: latents within 2e-3 and frames within 5e-3 of diffusers', async () => {
  const pipeline = await AnimateDiff.load(undefined, { device: 'cpu' })
  for (const name of ['ad-red-circle', 'ad-blue-square', 'ad-wide']) {
    const path = fixture(`golden/${name}.safetensors`)
    const {
      kind,
      name: recordedName,
      ...options
    } = JSON.parse(readSafetensorsHeader(path).metadata.case!) as GenerateOptions & {
      kind: string
      name: string
    }
    assert.equal([kind, recordedName], ['animatediff', name])
    const recorded = await readTensors(path)
    const video = await pipeline.generate({
      ...options,
      initLatents: recorded.noise!.values as Float32Array,
    })
    assert.ok(largest(video.latents.data, recorded.latents!.values) < 2e-3, name)
    const decoded = await frames(video)
    const size = decoded[0]!.length
    decoded.forEach((frame, i) =>
      assert.ok(
        largest(frame, recorded.video!.values.subarray(i * size, (i + 1) * size)) < 5e-3,
        `${name} frame ${i}`,
      ),
    )
    exact(video)
  }
})

test('any budget down to the least gives the same video bit for bit, predicted = measured', async () => {
  const free = await AnimateDiff.load(undefined, { device: 'cpu' })
  const whole = await free.generate({ ...quick, slices: 1, poison: true })
  const pictures = await frames(whole)
  exact(whole)
  const least = free.smallestBudget()
  for (const budget of [least, Math.floor((least + whole.plan.peakBytes) / 2)]) {
    const pipeline = await AnimateDiff.load(undefined, { device: 'cpu', budget })
    const video = await pipeline.generate({ ...quick, poison: true })
    assert.equal(video.latents.data, whole.latents.data)
    assert.equal(await frames(video), pictures)
    exact(video)
    assert.ok(video.report.every(({ measuredBytes }) => measuredBytes <= budget))
  }
  const threads = await (await AnimateDiff.load(undefined, { device: 'cpu', threads: 3 })).generate(
    { ...quick, slices: 5 },
  )
  assert.equal(threads.latents.data, whole.latents.data)
})

test('a budget that cannot hold is refused before anything is read, with the numbers', async () => {
  const pipeline = await AnimateDiff.load(undefined, { device: 'cpu', budget: '1 MiB' })
  try {
    await pipeline.generate(quick)
    assert.unreachable()
  } catch (error) {
    assert.instance(error, BudgetError)
    const { needed, allowed, stage, op } = error as BudgetError
    assert.is(allowed, 2 ** 20)
    assert.ok(needed > allowed && stage.length > 0 && op.length > 0)
  }
})

test('seeds reproduce, prompts and negatives matter, guidance 1 runs one half', async () => {
  const pipeline = await AnimateDiff.load(undefined, { device: 'cpu' })
  const first = await pipeline.generate(quick)
  assert.equal((await pipeline.generate(quick)).latents.data, first.latents.data)
  assert.not.equal(
    (await pipeline.generate({ ...quick, seed: 6 })).latents.data,
    first.latents.data,
  )
  assert.not.equal(
    (await pipeline.generate({ ...quick, prompt: 'a green ring' })).latents.data,
    first.latents.data,
  )
  assert.not.equal(
    (await pipeline.generate({ ...quick, negative: 'a green ring' })).latents.data,
    first.latents.data,
  )
  assert.is(pipeline.plan({ guidance: 1, steps: 4 }).summary()[1]!.runs, 4)
  assert.is(pipeline.plan({ guidance: 2, steps: 4 }).summary()[1]!.runs, 8)
  const ancestral = { ...quick, scheduler: 'euler-ancestral' }
  const noisy = await pipeline.generate(ancestral)
  exact(noisy)
  assert.equal((await pipeline.generate(ancestral)).latents.data, noisy.latents.data)
  const drawn = await pipeline.generate({ prompt, steps: 1 })
  assert.ok(Number.isSafeInteger(drawn.seed))
})

test('other sizes: one frame, wide, latents that do not halve evenly', async () => {
  const pipeline = await AnimateDiff.load(undefined, { device: 'cpu' })
  for (const size of [
    { frames: 1, width: 64, height: 64 },
    { frames: 3, width: 96, height: 32 },
    { frames: 2, width: 72, height: 40 },
  ]) {
    const video = await pipeline.generate({ ...quick, ...size, steps: 1, scheduler: 'euler' })
    const decoded = await frames(video)
    assert.is(decoded.length, size.frames)
    assert.is(decoded[0]!.length, 3 * size.width * size.height)
    assert.ok(decoded.every(frame => frame.every(Number.isFinite)))
    exact(video)
  }
})

test('plan() needs configurations only', async () => {
  const planned = await plan(fixture('configs/animatediff-sd15'), {
    device: 'cpu',
    width: 512,
    height: 512,
  })
  assert.is(planned.stages.length, 3)
  assert.is(planned.peakBytes, Math.max(...planned.summary().map(({ peakBytes }) => peakBytes)))
  assert.match(planned.table(), /denoise/)
})

test('impossible options are refused by name', async () => {
  const pipeline = await AnimateDiff.load(undefined, { device: 'cpu' })
  const wrong: [Partial<GenerateOptions>, RegExp][] = [
    [{ width: 60 }, /width: expected a multiple of 8/],
    [{ height: 0 }, /height/],
    [{ frames: 33 }, /frames: expected at most 32/],
    [{ frames: 1.5 }, /frames/],
    [{ steps: 0 }, /steps/],
    [{ scheduler: 'nothing' }, /scheduler/],
    [{ guidance: Number.NaN }, /guidance/],
    [{ initLatents: new Float32Array(3) }, /initLatents/],
    [{ slices: -3 }, /slices: expected a positive integer, got -3/],
    [{ recompute: 2 }, /recompute: expected a share/],
    [{ stepz: 4 } as object, /stepz: expected one of .*steps/],
  ]
  for (const [options, message] of wrong) {
    try {
      await pipeline.generate({ ...quick, ...options })
      assert.unreachable(`${message}`)
    } catch (error) {
      assert.instance(error, OptionError, `${message}: ${error}`)
      assert.match((error as Error).message, message)
    }
  }
})

test('what loading cannot use is refused by name', async () => {
  for (const [path, options, message] of [
    [undefined, { bugdet: '1 MiB' } as object, /bugdet: expected one of .*budget/],
    [undefined, { budget: 'much' }, /much/],
    [new URL('file:///tmp'), {}, /path: expected .* got object/],
  ] as const) {
    try {
      await AnimateDiff.load(path as string | undefined, options)
      assert.unreachable(`${message}`)
    } catch (error) {
      assert.instance(error, OptionError, `${message}: ${error}`)
      assert.match((error as Error).message, message)
    }
  }
})

test('abort in the middle of denoising and of decoding: AbortError, pool empty', async () => {
  const pipeline = await AnimateDiff.load(undefined, { device: 'cpu' })
  for (const stage of ['denoise', 'decode']) {
    const controller = new AbortController()
    let seen = 0
    const onProgress = (progress: { stage: string; phase: string }) => {
      if (progress.stage === stage && progress.phase === 'run' && ++seen === 2) controller.abort()
    }
    try {
      const video = await pipeline.generate({
        prompt,
        steps: stage === 'decode' ? 1 : 50,
        signal: controller.signal,
        onProgress,
      })
      await frames(video)
      assert.unreachable()
    } catch (error) {
      assert.instance(error, AbortError, `${error}`)
    }
    assert.is(native().pool().bytes, 0)
  }
})

test('a closed pipeline says that it is closed', async () => {
  const pipeline = await AnimateDiff.load()
  pipeline.close()
  const error = await pipeline.generate({ prompt, steps: 1 }).catch(e => e)
  assert.instance(error, OptionError)
  assert.match(error.message, /expected to be open, got closed/)
})

test('leaving the frames early, or a failing save, gives all memory back and leaves no file', async () => {
  const pipeline = await AnimateDiff.load(undefined, { device: 'cpu' })
  const video = await pipeline.generate({ ...quick, steps: 1 })
  for await (const frame of video.frames()) {
    assert.is(frame.width, 64)
    break
  }
  assert.is(native().pool().bytes, 0)
  const folder = mkdtempSync(join(tmpdir(), 'sluice-'))
  try {
    await video
      .save(join(folder, 'a.webp'), { tensors: join(folder, 'missing', 'frames.safetensors') })
      .then(
        () => assert.unreachable(),
        (error: Error) => assert.ok(error.message.length > 0),
      )
    assert.equal(readdirSync(folder), [])
    await video.save(join(folder, 'b.webp'))
    assert.ok(existsSync(join(folder, 'b.webp')))
  } finally {
    rmSync(folder, { recursive: true })
  }
  assert.is(native().pool().bytes, 0)
})

test('a folder that is no checkpoint is refused', async () => {
  for (const path of ['/nowhere', fixture('golden')]) {
    await AnimateDiff.load(path).then(
      () => assert.unreachable(),
      (error: Error) => assert.instance(error, CheckpointError),
    )
  }
})

test('100 runs in one process grow the resident memory by less than 5 MB', async () => {
  const pipeline = await AnimateDiff.load(undefined, { device: 'cpu' })
  const once = async () => {
    const video = await pipeline.generate({ ...quick, steps: 1, frames: 2 })
    await frames(video)
  }
  setFlagsFromString('--expose_gc')
  const collect = runInNewContext('gc') as () => void
  const resident = () => {
    collect()
    return process.memoryUsage().rss
  }
  // The system's and V8's own slack comes and goes: the least of several readings is what stays.
  const series = async (runs: number) => {
    let least = Number.POSITIVE_INFINITY
    for (let i = 1; i <= runs; i++) {
      await once()
      if (i % 10 === 0) least = Math.min(least, resident())
    }
    return least
  }
  const before = await series(40)
  const grown = (await series(100)) - before
  assert.ok(grown < 5e6, `${grown} bytes`)
})

test.run()
