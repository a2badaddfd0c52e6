import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { scratch } from '../io/scratch.js'
import { editHeader } from '../support/checkpoints.js'
import { sluice } from '../support/cli.js'
import { fixture } from '../support/recorded.js'
import { materialise } from '../support/seeded.js'

const { path, clean } = scratch('verify')
test.after(clean)

const components = [
  'unet-motion',
  'vae',
  'clip-text',
  'unet-spatio-temporal',
  'vae-temporal',
  'clip-vision',
]
const names = [...components, 'unet-motion-mid', 'unet-motion-whole', 'vae-plain', 'clip-text-gelu']

test.before(async () => {
  for (const name of names) {
    cpSync(fixture(name), path(name), { recursive: true })
    await materialise(fixture(name), path(name))
  }
})

interface Case {
  path: string
  passed: boolean
  sha256: string
  outputs: { output: string; largest: number; relative: number }[]
  programs: {
    program: string
    slices: number
    budget?: number
    predictedBytes: number
    measuredBytes: number
  }[]
  error?: { code: string; message: string }
}

async function verified(
  paths: string[],
  ...args: string[]
): Promise<{ code: number | null; passed: boolean; cases: Case[]; stderr: string }> {
  const { code, stdout, stderr } = await sluice('verify', ...paths, '--json', ...args)
  return { code, stderr, ...JSON.parse(stdout) }
}

let unsliced: Case[] = []

test('recorded components agree, and peaks are as predicted', async () => {
  const { code, passed, cases } = await verified(names.map(path))
  unsliced = cases
  for (const { outputs, programs } of cases) {
    for (const { output, relative } of outputs)
      assert.ok(relative > 0 && relative <= 2e-4, `${output}: ${relative}`)
    for (const { measuredBytes, predictedBytes } of programs)
      assert.is(measuredBytes, predictedBytes)
  }
  assert.equal(cases.map(({ outputs }) => outputs.map(({ output }) => output)).slice(0, 3), [
    ['sample.0', 'sample.1', 'sample.2'],
    ['latent_mean', 'latent_logvar', 'image'],
    ['last_hidden_state', 'penultimate', 'pooled'],
  ])
  assert.ok(passed)
  assert.is(code, 0)
})

for (const [args, cases] of [
  [['--slices', '3'], names],
  [['--smallest'], components],
] as const) {
  test(`${args.join(' ')}: the same bits, within the budget`, async () => {
    const { code, cases: sliced } = await verified(cases.map(path), ...args)
    assert.is(code, 0)
    assert.equal(
      sliced.map(({ sha256 }) => sha256),
      unsliced.slice(0, cases.length).map(({ sha256 }) => sha256),
    )
    const programs = sliced.flatMap(({ programs }) => programs)
    assert.ok(programs.some(({ slices }) => slices > 1))
    for (const { measuredBytes, predictedBytes, budget } of programs) {
      assert.is(measuredBytes, predictedBytes)
      if (args[0] === '--smallest') assert.is(predictedBytes, budget)
    }
  })
}

test('a budget', async () => {
  const { budget } = { budget: unsliced[1]!.programs[1]!.predictedBytes - 1 }
  const { code, cases } = await verified([path('vae')], '--budget', `${budget}`)
  assert.is(code, 0)
  assert.is(cases[0]!.sha256, unsliced[1]!.sha256)
  assert.ok(cases[0]!.programs.every(({ measuredBytes }) => measuredBytes <= budget))
  const tight = await verified([path('vae')], '--budget', '1MiB')
  assert.is(tight.code, 5)
  assert.is(tight.cases[0]!.error!.code, 'BUDGET')
})

test('a difference above the tolerance fails', async () => {
  const { code, stdout } = await sluice('verify', path('vae-plain'), '--tolerance', '1e-9')
  assert.is(code, 1)
  assert.match(stdout, /vae-plain: vae, .+: FAILED/)
  assert.match(stdout, /^image .+ above 1e-9$/m)
})

test('weights of another network fail', async () => {
  cpSync(path('vae-plain'), path('swapped'), { recursive: true })
  editHeader(join(path('swapped'), 'vae/diffusion_pytorch_model.safetensors'), header => {
    const [a, b] = [
      header['decoder.up_blocks.0.resnets.0.conv1.weight']!,
      header['decoder.up_blocks.0.resnets.0.conv2.weight']!,
    ]
    ;[a.data_offsets, b.data_offsets] = [b.data_offsets, a.data_offsets]
  })
  const { code, cases } = await verified([path('swapped')])
  assert.is(code, 1)
  assert.equal(
    cases[0]!.outputs.map(({ relative }) => relative > 2e-4),
    [false, false, true],
  )
})

test('scheduler records', async () => {
  const names = ['ddim-leading', 'ddim-trailing-v', 'euler', 'euler-svd', 'euler-ancestral']
  const records = [...names, 'dpmpp-2m-karras', 'dpmpp-2m-sde', 'lcm', 'pndm', 'pndm-switched'].map(
    name => fixture(`schedulers/${name}.json`),
  )
  const { code, stdout } = await sluice('verify', ...records)
  assert.is(code, 0, stdout)
  for (const record of records) assert.match(stdout, new RegExp(`${record}: scheduler .+: passed`))
  assert.is(stdout.match(/^(timesteps|init_noise_sigma|scaled|sample) .+ ok$/gm)?.length, 40)
})

test('what cannot be run is named, and the other cases run', async () => {
  const record = readFileSync(fixture('schedulers/lcm.json'), 'utf8')
  writeFileSync(path('unknown.json'), record.replace('LCMScheduler', 'TCDScheduler'))
  cpSync(fixture('schedulers/lcm.safetensors'), path('unknown.safetensors'))
  const { code, cases, stderr } = await verified([
    fixture('vae'),
    path('unknown.json'),
    path('vae-plain'),
  ])
  assert.is(code, 4)
  assert.equal(
    cases.map(({ passed }) => passed),
    [true, false, false],
  )
  assert.match(
    stderr,
    /expected a folder vae with config\.json and weights beside case\.json, got none/,
  )
  assert.match(stderr, /unknown\.json: scheduler: expected one of ddim/)
})

test('cases that are none', async () => {
  mkdirSync(path('empty'))
  assert.match(
    (await sluice('verify', path('empty'))).stderr,
    /case\.json: expected a JSON file, got no such file/,
  )
  cpSync(fixture('vae'), path('odd'), { recursive: true })
  writeFileSync(path('odd/case.json'), '{"component": "speech"}')
  const { code, stderr } = await sluice('verify', path('odd'))
  assert.is(code, 4)
  assert.match(stderr, /expected a component of clip-text, clip-vision, .+, got speech/)
})

test.run()
