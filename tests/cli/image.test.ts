import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readSafetensorsHeader } from '../../lib/io/safetensors.js'
import type { ReportData } from '../../lib/report/data.js'
import { scratch } from '../io/scratch.js'
import { embedded } from '../support/checkpoints.js'
import { type Finished, sluice, start } from '../support/cli.js'
import { difference, fixture, readTensors } from '../support/recorded.js'
import { svdCheckpoint, tinySvd } from '../support/svd-checkpoint.js'

const { path, list, clean } = scratch('cli-image')
test.after(clean)

const model = await tinySvd(path('tiny'))
const recordedModel = await svdCheckpoint(path('svd'))
const image = fixture('svd-run/image.png')
const golden = fixture('svd-run/golden.safetensors')
const configs = fixture('configs/svd')
const stages = ['image', 'encode', 'denoise', 'decode']
const small = ['--frames', '2', '--width', '16', '--height', '24', '--steps', '1']

test('generate: the recorded latents and frames', async () => {
  const { steps, minGuidance, maxGuidance, fps, motionBucketId, noiseAugStrength } = JSON.parse(
    readSafetensorsHeader(golden).metadata.case!,
  )
  const { code, stdout, stderr } = await sluice(
    ...['generate', '--image', image, '--model', recordedModel, '--fps', `${fps}`],
    ...['--steps', `${steps}`],
    ...['--min-guidance', `${minGuidance}`, '--max-guidance', `${maxGuidance}`],
    ...['--motion-bucket', `${motionBucketId}`, '--noise-aug', `${noiseAugStrength}`],
    ...['--init-latents', `${golden}#noise`, '--image-noise', golden, '--decode-chunk', '2'],
    ...['-o', path('run/video.webp'), '--save-latents', path('run/latents.st')],
    ...['--save-frames', path('run/frames.st'), '--report', path('run/report.html')],
  )
  assert.is(code, 0, stderr)
  assert.is(stderr, stages.map(stage => `sluice: ${stage}\n`).join(''))
  for (const stage of stages)
    assert.match(stdout, new RegExp(`^${stage} +([\\d,]+) +\\1 +equal +.+ s$`, 'm'))
  const recorded = await readTensors(golden)
  const { latents } = await readTensors(path('run/latents.st'))
  const { video } = await readTensors(path('run/frames.st'))
  assert.equal(latents!.shape, recorded.latents!.shape)
  assert.equal(video!.shape, recorded.chunked!.shape)
  assert.ok(difference(latents!.values, recorded.latents!.values).max <= 2e-3)
  assert.ok(difference(video!.values, recorded.chunked!.values).max <= 5e-3)
  const page = readFileSync(path('run/report.html'), 'utf8')
  const data = JSON.parse(/id="data">(.*?)<\/script>/s.exec(page)![1]!) as ReportData
  assert.is(data.image, image)
  for (const { peakBytes, measuredBytes } of data.stages) assert.is(measuredBytes, peakBytes)
})

test('a name from the image', async () => {
  mkdirSync(path('names'))
  const args = ['generate', '--image', image, '--model', model, ...small, '--quiet']
  const { code, stderr } = await start(args, { cwd: path('names') }).finished
  assert.is(code, 0, stderr)
  assert.equal(readdirSync(path('names')), ['image.webp'])
})

test('plan: the true checkpoint, and one saved that runs', async () => {
  const full = await sluice('plan', '--model', configs)
  assert.is(full.code, 0, full.stderr)
  assert.match(full.stdout, '14 frames of 1024 x 576, 25 steps')
  for (const stage of stages) assert.match(full.stdout, new RegExp(`^${stage} `, 'm'))

  const plan = path('plan.json')
  const planned = ['plan', '--image', image, '--model', model, ...small, '--smallest']
  assert.is((await sluice(...planned, '--decode-chunk', '1', '--save', plan)).code, 0)
  const run = ['generate', '--image', image, '--model', model, '--plan', plan, '--seed', '3']
  const { code, stdout, stderr } = await sluice(...run, '-o', path('planned.webp'))
  assert.is(code, 0, stderr)
  assert.match(stdout, '2 frames of 16 x 24, 1 steps')
  for (const stage of stages)
    assert.match(stdout, new RegExp(`^${stage} +([\\d,]+) +\\1 +equal `, 'm'))
  refused(
    await sluice(...run, '--decode-chunk', '2'),
    2,
    /decodeChunk: expected 1 as in the plan, got 2/,
  )
})

test('plan: frontier, explanation and dtype', async () => {
  const args = ['plan', '--model', model]
  const { points } = JSON.parse((await sluice(...args, '--frontier', '--json')).stdout)
  assert.ok(points.length > 1)
  assert.ok(points[0].peakBytes < points[points.length - 1].peakBytes)
  assert.equal(
    points[0].stages.map(({ stage }: { stage: string }) => stage),
    stages,
  )
  const explained = await sluice(...args, '--explain', '--report', path('plan.html'))
  assert.is(explained.code, 0, explained.stderr)
  for (const stage of stages) assert.match(explained.stdout, new RegExp(`^${stage}: `, 'm'))
  assert.ok(existsSync(path('plan.html')))
  const arena = async (...more: string[]) =>
    JSON.parse((await sluice(...args, '--json', ...more)).stdout).stages[3].arenaBytes as number
  assert.ok((await arena('--dtype', 'f16')) < 0.8 * (await arena()))
})

/** The command ended so, with one line on stderr, before any stage ran. */
function refused({ code, stderr }: Finished, expected: number, message: RegExp): void {
  assert.match(stderr, message)
  assert.is(code, expected, stderr)
  assert.match(stderr, /^sluice: .+\n$/)
}

test('what a checkpoint does not take is refused', async () => {
  const out = ['-o', path('out.webp')]
  const generate = (...args: string[]) => sluice('generate', '--model', model, ...out, ...args)
  refused(await generate(), 2, /--image: expected a picture for .+ to begin with, got none/)
  refused(
    await generate('a fox', '--image', image),
    2,
    /prompt: expected none for .+ which makes a video from an image, got "a fox"/,
  )
  refused(
    await generate('--image', image, '--guidance', '2'),
    2,
    /--guidance: expected none for .+from an image/,
  )
  refused(await generate('--image', image, '--motion-adapter', model), 2, /motionAdapter/)
  refused(
    await sluice('generate', 'a fox', '--model', embedded, '--image', image, ...out),
    2,
    /--image: expected none for .+ which makes a video from a sentence/,
  )
  refused(await sluice('plan', '--decode-chunk', '2'), 2, /--decode-chunk: expected none/)
  refused(await sluice('plan', 'a fox', '--model', configs), 2, /prompt: expected none/)
})

test('bad images, noises and dtypes', async () => {
  const generate = (...args: string[]) =>
    sluice('generate', '--model', model, '-o', path('out.webp'), ...small, '--image', ...args)
  refused(await generate(path('none.png')), 8, /none\.png/)
  refused(await generate(golden), 8, /expected an image/)
  refused(await generate(image, '--fps', '0.5'), 2, /fps: expected a number of at least 1/)
  refused(await generate(image, '--decode-chunk', '0'), 2, /--decode-chunk: expected an integer/)
  refused(
    await generate(image, '--image-noise', golden),
    2,
    /--image-noise: expected \[1, 3, 24, 16\], got image_noise \[1, 3, 64, 128\]/,
  )
  refused(
    await generate(image, '--init-latents', `${golden}#image_latents`),
    2,
    /--init-latents: expected \[1, frames, 4, rows, cols\], got image_latents/,
  )
  refused(
    await generate(image, '--init-latents', `${golden}#noise`),
    2,
    /--frames: expected 3 as in the start noise/,
  )
  refused(await generate(image, '--dtype', 'f16'), 6, /dtype: expected f32, the only one/)
  refused(await generate(image, '--dtype', 'int4'), 2, /--dtype: expected f32, f16 or bf16/)
  assert.not(list().includes('out.webp'))
})

test.run()
