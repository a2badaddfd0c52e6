import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { AnimateDiff } from '../../lib/index.js'
import { planFileVersion } from '../../lib/planner/plan-file.js'
import { scratch } from '../io/scratch.js'
import { fullSize } from '../support/checkpoints.js'
import { type Finished, sluice } from '../support/cli.js'

const { path, list, clean } = scratch('plan-file')
test.after(clean)

const prompt = 'a red circle'
const size = ['--frames', '4', '--steps', '2', '--seed', '5']

function refused({ code, stderr }: Finished, expected: number, message: RegExp): void {
  assert.match(stderr, message)
  assert.is(code, expected, stderr)
  assert.match(stderr, /^sluice: .+\n$/)
}

/** Final latents and what it printed. */
async function latents(name: string, ...args: string[]): Promise<{ data: Buffer; text: string }> {
  const file = path(name)
  const { code, stderr, stdout } = await sluice(
    'generate',
    prompt,
    '--no-decode',
    '--save-latents',
    file,
    ...args,
  )
  assert.is(code, 0, stderr)
  return { data: readFileSync(file), text: stdout }
}

test('a saved plan runs: same table, same measured peaks, same video', async () => {
  const saved = path('plan.json')
  const { code, stdout } = await sluice('plan', ...size, '--smallest', '--save', saved)
  assert.is(code, 0)
  const { options, peakBytes } = JSON.parse(readFileSync(saved, 'utf8'))
  assert.is(options.frames, 4)
  const run = await latents('saved.safetensors', '--plan', saved, '--seed', '5')
  assert.ok(run.text.startsWith(stdout.trimEnd()), run.text)
  assert.match(run.text, 'equal')
  assert.not.match(run.text, 'differs')
  const again = await latents('again.safetensors', ...size, '--budget', `${peakBytes}`)
  assert.equal(run.data, again.data)
})

test('--json is what --save writes', async () => {
  const saved = path('json.json')
  const { stdout } = await sluice('plan', ...size, '--json', '--save', saved)
  assert.equal(JSON.parse(stdout), JSON.parse(readFileSync(saved, 'utf8')))
})

test('a full-size plan is small, and comes back as it was', async () => {
  const saved = path('full.json')
  const { code, stderr } = await sluice('plan', '--model', fullSize, '--save', saved)
  assert.is(code, 0, stderr)
  const text = readFileSync(saved, 'utf8')
  assert.ok(text.length < 10e6, `${text.length} bytes`)
  const pipeline = await AnimateDiff.load(fullSize)
  assert.is(`${JSON.stringify(pipeline.plan({ plan: saved }))}\n`, text)
})

test('a plan that does not belong is refused before anything runs', async () => {
  const saved = path('plan.json')
  const generate = (...args: string[]) => sluice('generate', prompt, '-o', path('x.webp'), ...args)
  refused(await generate('--plan', path('missing.json')), 8, /missing\.json: expected a readable/)
  const other = path('full.json')
  refused(await generate('--plan', other), 10, /of this model and size|state input_ids/)
  const text = readFileSync(saved, 'utf8')
  writeFileSync(path('changed.json'), text.replace('"offset":', '"offset": 1'))
  refused(await generate('--plan', path('changed.json')), 10, /expected a whole file|got/)
  writeFileSync(path('half.json'), text.slice(0, text.length / 2))
  refused(await generate('--plan', path('half.json')), 10, /expected a plan written by sluice/)
  writeFileSync(path('old.json'), text.replace(`"version":${planFileVersion}`, '"version":0'))
  const expected = new RegExp(`expected plan version ${planFileVersion}`)
  refused(await generate('--plan', path('old.json')), 10, expected)
  refused(await generate('--plan', saved, '--frames', '8'), 2, /frames: expected 4 as in the plan/)
  refused(await generate('--plan', saved, '--slices', '2'), 2, /slices: expected nothing/)
  refused(await generate('--plan', saved, '--budget', '1MiB'), 2, /at least the plan's peak/)
  const threads = JSON.parse(text).options.threads as number
  refused(await generate('--plan', saved, '--threads', `${threads + 1}`), 10, /a plan for cpu with/)
  assert.ok(list().every(name => !name.endsWith('.webp') && !name.endsWith('.tmp')))
})

test.run()
