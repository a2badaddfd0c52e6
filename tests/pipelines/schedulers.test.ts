import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { AnimateDiff, type GenerateOptions, OptionError, type Video } from '../../lib/index.js'
import { gaussian } from '../../lib/io/random.js'
import { readSafetensorsHeader } from '../../lib/io/safetensors.js'
import { scratch } from '../io/scratch.js'
import { copyModel } from '../support/checkpoints.js'
import { fixture, readTensors } from '../support/recorded.js'

const { path, clean } = scratch('schedulers')
test.after(clean)

const prompt = 'a red circle moving right on a black background'
const small = { prompt, frames: 2, width: 32, height: 32, seed: 5 }
const multistep = ['dpmpp-2m', 'pndm', 'lcm', 'euler-ancestral']

function largest(a: ArrayLike<number>, b: ArrayLike<number>): number {
  assert.is(a.length, b.length)
  let most = 0
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!))
  return most
}

function exact(video: Video): void {
  for (const { stage, predictedBytes, measuredBytes } of video.report)
    if (stage !== 'decode') assert.is(measuredBytes, predictedBytes, stage)
}

for (const name of ['ad-dpmpp-2m', 'ad-pndm', 'ad-plms', 'ad-lcm', 'ad-euler-karras']) {
  test(`${name}: latents within 2e-3 of diffusers`, async () => {
    const file = fixture(`golden/${name}.safetensors`)
    const { config, ...options } = JSON.parse(
      readSafetensorsHeader(file).metadata.case!,
    ) as GenerateOptions & { config?: object }
    const model = config && copyModel(path(name))
    if (model) writeFileSync(join(model, 'scheduler/scheduler_config.json'), JSON.stringify(config))
    const { noise, latents } = await readTensors(file)
    // Recorded with the draws of this seed, those of the steps too.
    const drawn = gaussian(options.seed!, noise!.values.length)
    assert.ok(largest(drawn, noise!.values) < 1e-6)
    const pipeline = await AnimateDiff.load(model, { device: 'cpu' })
    const video = await pipeline.generate({ ...options, poison: true })
    const difference = largest(video.latents.data, latents!.values)
    assert.ok(difference < 2e-3, `${difference}`)
    exact(video)
  })
}

test('any budget and any slices give the same latents bit for bit, predicted = measured', async () => {
  for (const scheduler of multistep) {
    const options = { ...small, steps: 4, scheduler, poison: true }
    const free = await AnimateDiff.load(undefined, { device: 'cpu' })
    const whole = await free.generate({ ...options, slices: 1 })
    exact(whole)
    const sliced = await free.generate({ ...options, slices: 3 })
    exact(sliced)
    assert.equal(sliced.latents.data, whole.latents.data, scheduler)
    const budget = sliced.plan.peakBytes
    const tight = await AnimateDiff.load(undefined, { device: 'cpu', budget, threads: 1 })
    const fitted = await tight.generate(options)
    exact(fitted)
    assert.ok(fitted.plan.peakBytes <= budget && budget < whole.plan.peakBytes)
    assert.equal(fitted.latents.data, whole.latents.data, scheduler)
  }
})

test('predictions held are state of the denoising stage', async () => {
  const pipeline = await AnimateDiff.load(undefined, { device: 'cpu' })
  const stage = (scheduler: string, steps = 8) =>
    pipeline.plan({ ...small, steps, scheduler }).stage('denoise')
  const latents = 4 * 2 * 4 * 4 * 4
  const held = (scheduler: string, steps?: number) =>
    Object.entries(stage(scheduler, steps).state)
      .filter(([name]) => /^predicted\d*$/.test(name))
      .reduce((sum, [, { bytes }]) => sum + bytes, 0)
  assert.equal(
    ['ddim', 'euler', 'dpmpp-2m', 'pndm', 'lcm'].map(name => held(name) / latents),
    [1, 1, 2, 6, 1],
  )
  assert.is(held('dpmpp-2m', 1), latents)
  const added = stage('dpmpp-2m').peakBytes - stage('ddim').peakBytes
  // One more prediction, and the two factors of its conversion in a line of their own.
  assert.is(added, latents + 64)
})

test('progress counts evaluations of the network, which may be more than the steps', async () => {
  const pipeline = await AnimateDiff.load(undefined, { device: 'cpu' })
  for (const [scheduler, evaluations] of [
    ['ddim', 4],
    ['pndm', 13],
  ] as const) {
    const seen: { done: number; total: number; step?: number; steps?: number }[] = []
    await pipeline.generate({
      ...small,
      steps: 4,
      scheduler,
      onProgress: progress => {
        if (progress.stage === 'denoise' && progress.phase === 'run') seen.push(progress)
      },
    })
    const { total } = seen[0]!
    assert.ok(seen.every((entry, i) => i === 0 || entry.done >= seen[i - 1]!.done))
    assert.ok(seen.every(entry => entry.total === total && entry.steps === evaluations))
    assert.is(seen.at(-1)!.done, total)
    assert.is(new Set(seen.map(({ step }) => step)).size, evaluations)
    const { runs } = pipeline.plan({ ...small, steps: 4, scheduler }).summary()[1]!
    assert.is(runs, 2 * evaluations)
  }
})

test('few steps without guidance: one half of the batch, and a seed repeats', async () => {
  const pipeline = await AnimateDiff.load(undefined, { device: 'cpu' })
  for (const choice of [{ scheduler: 'lcm' }, { scheduler: 'euler', spacing: 'trailing' }]) {
    const options = { ...small, ...choice, steps: 4, guidance: 1 }
    assert.is(pipeline.plan(options).summary()[1]!.runs, 4)
    const first = await pipeline.generate(options)
    exact(first)
    assert.ok(first.latents.data.every(Number.isFinite))
    assert.equal((await pipeline.generate(options)).latents.data, first.latents.data)
    const other = await pipeline.generate({ ...options, seed: 6 })
    assert.not.equal(other.latents.data, first.latents.data)
  }
})

test('spacing and karras change the steps, are in the plan, and are refused where they mean nothing', async () => {
  const pipeline = await AnimateDiff.load(undefined, { device: 'cpu' })
  const run = async (options: object) =>
    (
      await pipeline.generate({
        ...small,
        steps: 3,
        guidance: 1,
        scheduler: 'dpmpp-2m',
        ...options,
      })
    ).latents.data
  const results = [
    await run({}),
    await run({ karras: true }),
    await run({ spacing: 'leading' }),
    await run({ spacing: 'linspace' }),
  ]
  results.forEach((a, i) => {
    for (const b of results.slice(i + 1)) assert.not.equal(a, b)
  })
  assert.equal(await run({ spacing: 'trailing', karras: false }), results[0])

  const saved = path('plan.json')
  const options = { ...small, steps: 3, guidance: 1, scheduler: 'dpmpp-2m', karras: true }
  await pipeline.plan(options).save(saved)
  const again = await pipeline.generate({ prompt, seed: 5, plan: saved })
  assert.equal(again.latents.data, results[1])

  const wrong: [Partial<GenerateOptions>, RegExp][] = [
    [{ plan: saved, karras: false }, /karras: expected true as in the plan, got false/],
    [{ spacing: 'even' }, /spacing: expected one of leading, linspace, trailing, got "even"/],
    [{ scheduler: 'lcm', spacing: 'leading' }, /spacing: expected none with lcm/],
    [{ scheduler: 'ddim', karras: true }, /karras: expected one of the schedulers euler, dpmpp-2m/],
    [{ scheduler: 'lcm', steps: 51 }, /steps: expected an integer from 1 to 50/],
    [{ scheduler: 'unipc' }, /scheduler: expected one of ddim .*, got "unipc"/],
  ]
  for (const [options, message] of wrong) {
    try {
      await pipeline.generate({ prompt, seed: 5, ...options })
      assert.unreachable(`${message}`)
    } catch (error) {
      assert.instance(error, OptionError, `${error}`)
      assert.match((error as Error).message, message)
    }
  }
})

test.run()
