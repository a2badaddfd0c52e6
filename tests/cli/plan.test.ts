import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { AnimateDiff } from '../../lib/index.js'
import { scratch } from '../io/scratch.js'
import { fullSize, sparseFullSize } from '../support/checkpoints.js'
import { sluice, start } from '../support/cli.js'
import { fixture } from '../support/recorded.js'

const { path, clean } = scratch('plan')
test.after(clean)

interface Plan {
  peakBytes: number
  budget?: number
  options: Record<string, number>
  stages: {
    stage: string
    peakBytes: number
    weightBytes: number
    mostSlices: number
    programs: unknown[]
  }[]
}

async function planned(...args: string[]): Promise<Plan> {
  const { code, stdout, stderr } = await sluice('plan', '--json', ...args)
  assert.is(stderr, '')
  assert.is(code, 0)
  return JSON.parse(stdout) as Plan
}

test('the table has a line for each stage and the peak', async () => {
  const { code, stdout } = await sluice('plan', 'a prompt', '--frames', '8')
  assert.is(code, 0)
  const { peakBytes } = (await AnimateDiff.load()).plan({ frames: 8 })
  for (const stage of ['text', 'denoise', 'decode'])
    assert.match(stdout, new RegExp(`^${stage} `, 'm'))
  assert.match(stdout, `predicted peak ${peakBytes.toLocaleString('en-US')} bytes`)
  assert.match(stdout, '8 frames of 64 x 64, 25 steps')
})

test('the JSON is that of the library', async () => {
  const pipeline = await AnimateDiff.load(undefined, { threads: 1, budget: '9 MiB' })
  const expected = JSON.parse(JSON.stringify(pipeline.plan({ steps: 7, guidance: 1 })))
  assert.equal(
    await planned('--steps', '7', '--guidance', '1', '--threads', '1', '--budget', '9MiB'),
    expected,
  )
})

test('the least budget fits, and one byte less does not', async () => {
  const plan = await planned('--smallest')
  assert.is(plan.budget, plan.peakBytes)
  assert.ok(plan.peakBytes < (await planned()).peakBytes)
  assert.is((await planned('--budget', `${plan.budget}`)).peakBytes, plan.peakBytes)
  assert.is((await sluice('plan', '--budget', `${plan.budget! - 1}`)).code, 5)
})

test('what may be computed again lowers the least budget, and is a share', async () => {
  const least = async (share: string) =>
    (await planned('--frames', '1', '--smallest', '--streaming', 'never', '--recompute', share))
      .peakBytes
  assert.ok((await least('0.2')) < (await least('0')))
  const { code, stderr } = await sluice('plan', '--recompute', '2')
  assert.is(code, 2)
  assert.match(stderr, /recompute: expected a share from 0 to 1, got 2/)
})

test('the start noise gives the size', async () => {
  const { options } = await planned(
    '--init-latents',
    `${fixture('golden/ad-wide.safetensors')}#noise`,
  )
  assert.equal([options.frames, options.height, options.width], [12, 64, 96])
})

test('configurations alone are enough; weights are taken as float16 unless told', async () => {
  const size = ['--model', fullSize, '--width', '512', '--height', '512']
  const half = await planned(...size)
  assert.equal(half, await planned(...size, '--weights', 'f16'))
  const whole = await planned(...size, '--weights', 'f32')
  // A decoder's doubling convolutions, by phases, are float32 in both.
  for (const [i, { stage, weightBytes }] of whole.stages.entries())
    assert.ok(weightBytes > (stage === 'decode' ? 1.6 : 1.9) * half.stages[i]!.weightBytes, stage)
})

test('gigabytes of weights are not read', async () => {
  const model = await sparseFullSize(path('sparse'))
  // What the process read in all, said when it ends.
  const hook = `data:text/javascript,import{readFileSync}from'node:fs';process.on('exit',()=>process.stderr.write(readFileSync('/proc/self/io','utf8')))`
  const env =
    process.platform === 'linux'
      ? { NODE_OPTIONS: `--import "${hook.replaceAll('"', '\\"')}"` }
      : {}
  const { stdout, stderr, code } = await start(['plan', '--json', '--model', model], { env })
    .finished
  assert.is(code, 0, stderr)
  const { stages } = JSON.parse(stdout) as Plan
  assert.equal(JSON.parse(stdout), await planned('--model', fullSize))
  assert.ok(stages[1]!.weightBytes > 2 ** 31)
  if (process.platform === 'linux') {
    const read = Number(/rchar: (\d+)/.exec(stderr)![1])
    assert.ok(read < 2 ** 26, `${read} bytes were read`)
  }
})

test.run()
