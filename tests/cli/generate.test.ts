import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readSafetensorsHeader } from '../../lib/io/safetensors.js'
import { scratch } from '../io/scratch.js'
import { sluice, start } from '../support/cli.js'
import { fixture, readTensors } from '../support/recorded.js'

const { path, clean } = scratch('generate')
test.after(clean)

/** A folder of its own for one test. */
function folder(name: string): string {
  mkdirSync(path(name))
  return path(name)
}

function largest(a: ArrayLike<number>, b: ArrayLike<number>): number {
  assert.is(a.length, b.length)
  let most = 0
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!)
    if (!(difference <= most)) most = difference
  }
  return most
}

const stages = ['text', 'denoise', 'decode']

for (const [name, args] of [
  ['ad-red-circle', []],
  ['ad-blue-square', []],
  ['ad-wide', ['--slices', '3']],
] as const) {
  test(`${name} ${args.join(' ')}: the recorded latents and frames`, async () => {
    const file = fixture(`golden/${name}.safetensors`)
    const { prompt, negative, steps, guidance, scheduler } = JSON.parse(
      readSafetensorsHeader(file).metadata.case!,
    )
    const out = folder(name)
    const { code, stdout, stderr } = await sluice(
      ...['generate', prompt, '--negative', negative, '--init-latents', `${file}#noise`],
      ...['--steps', `${steps}`, '--guidance', `${guidance}`, '--scheduler', scheduler, ...args],
      ...[
        '-o',
        `${out}/video.webp`,
        '--save-latents',
        `${out}/latents.st`,
        '--save-frames',
        `${out}/frames.st`,
      ],
    )
    assert.is(code, 0, stderr)
    assert.is(stderr, stages.map(stage => `sluice: ${stage}\n`).join(''))
    for (const stage of stages)
      assert.match(stdout, new RegExp(`^${stage} +([\\d,]+) +\\1 +equal +.+ s$`, 'm'))

    const golden = await readTensors(file)
    const { latents } = await readTensors(`${out}/latents.st`)
    const { video } = await readTensors(`${out}/frames.st`)
    assert.equal(latents!.shape, golden.latents!.shape)
    assert.equal(video!.shape, golden.video!.shape)
    assert.ok(largest(latents!.values, golden.latents!.values) <= 2e-3)
    assert.ok(largest(video!.values, golden.video!.values) <= 5e-3)
    assert.is(readFileSync(`${out}/video.webp`).toString('latin1', 8, 12), 'WEBP')
    assert.equal(readdirSync(out).sort(), ['frames.st', 'latents.st', 'video.webp'])
  })
}

test('a name from the prompt, which replaces nothing; folders are made; the seed repeats', async () => {
  const cwd = folder('names')
  const run = (...args: string[]) =>
    start(
      [
        'generate',
        'A red circle!',
        '--steps',
        '1',
        '--frames',
        '2',
        '--seed',
        '3',
        '--quiet',
        ...args,
      ],
      { cwd },
    ).finished
  for (const args of [
    [],
    [],
    ['-o', 'deep/er/x.gif', '--save-frames', 'deep/x.st'],
    ['-o', 'frames/'],
  ]) {
    const { code, stdout, stderr } = await run(...args)
    assert.is(code, 0, stderr)
    assert.equal([stdout, stderr], ['', ''])
  }
  assert.equal(readdirSync(cwd).sort(), [
    'a-red-circle-2.webp',
    'a-red-circle.webp',
    'deep',
    'frames',
  ])
  assert.equal(readFileSync(`${cwd}/a-red-circle.webp`), readFileSync(`${cwd}/a-red-circle-2.webp`))
  assert.equal(readdirSync(`${cwd}/deep/er`), ['x.gif'])
  assert.equal(readdirSync(`${cwd}/frames`).sort(), ['frame-0000.png', 'frame-0001.png'])
})

test('latents alone', async () => {
  const cwd = folder('latents')
  const { code, stderr } = await start(
    ['generate', 'a ring', '--steps', '1', '--no-decode', '--save-latents', 'l.st'],
    { cwd },
  ).finished
  assert.is(code, 0)
  assert.is(stderr, 'sluice: text\nsluice: denoise\n')
  assert.equal(readdirSync(cwd), ['l.st'])
  assert.equal((await readTensors(`${cwd}/l.st`)).latents!.shape, [1, 4, 16, 8, 8])
})

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  test(`${signal} while denoising: code ${code}, nothing written`, async () => {
    const cwd = folder(signal)
    const args = [
      'generate',
      'a red circle',
      '--steps',
      '1000',
      '-o',
      'new/x.webp',
      '--save-frames',
      'new/f.st',
      '--save-latents',
      'l.st',
    ]
    const { child, shows, finished } = start(args, { cwd })
    await shows('sluice: denoise')
    child.kill(signal)
    const result = await finished
    assert.equal([result.code, result.signal], [code, null])
    assert.match(result.stderr, `sluice: cancelled by ${signal}\n`)
    assert.equal(readdirSync(cwd), [])
  })
}

test('SIGINT while decoding: the latents are there, the video is not', async () => {
  const cwd = folder('decoding')
  const size = [
    '--frames',
    '32',
    '--width',
    '192',
    '--height',
    '192',
    '--steps',
    '1',
    '--guidance',
    '1',
  ]
  const args = [
    'generate',
    'a red circle',
    ...size,
    '-o',
    'new/x.mp4',
    '--save-frames',
    'new/f.st',
    '--save-latents',
    'l.st',
  ]
  const { child, shows, finished } = start(args, { cwd })
  await shows('sluice: decode')
  assert.ok(existsSync(`${cwd}/l.st`))
  child.kill('SIGINT')
  assert.is((await finished).code, 130)
  assert.equal(readdirSync(cwd), ['l.st'])
})

test.run()
