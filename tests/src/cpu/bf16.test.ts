import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { DeviceError, OptionError } from '../../../lib/errors.js'
import { leastBudget } from '../../../lib/planner/least-budget.js'
import { conv2d, convTime, linear, type Program, program } from '../../../lib/program/index.js'
import {
  type CompileOptions,
  compile,
  planProgramOf,
  programPlanner,
} from '../../../lib/runtime/executable.js'
import { native } from '../../../lib/runtime/native.js'
import type { VerifyOptions } from '../../../lib/verify/session.js'
import { verify } from '../../../lib/verify/verify.js'
import { start } from '../../support/cli.js'
import { interpret } from '../../support/interpreter.js'
import { roundTo } from '../../support/interpreter-math.js'
import { randomProgram, randomValues } from '../../support/random-program.js'
import { difference, fixture } from '../../support/recorded.js'
import { materialise } from '../../support/seeded.js'

const offered = native().cpu().bf16
const bf16 = { device: 'cpu', compute: 'bf16' } as const
/** The model of AMX only has to see every kind of operation. */
const programs = native().cpu().selected === 'amx-emulated' ? 10 : 25
/** Where the processor has no products of bfloat16, they are refused, which is all there is to see. */
const computing = offered ? test : test.skip

type Values = ReturnType<typeof randomValues>

async function run(program: Program, { inputs, weights }: Values, options: CompileOptions) {
  await using executable = await compile(program, { ...options, weights, poison: true })
  const { sample } = await executable.run(inputs)
  const { plan } = executable
  return { sample: sample!, predicted: plan.peakBytes, measured: executable.close().peakBytes }
}

/** Numbers that bfloat16 holds, so that products are exact in float32. */
function exact({ inputs, weights }: Values): Values {
  const round = (values: Record<string, Float32Array>) =>
    Object.fromEntries(
      Object.entries(values).map(([name, list]) => [name, list.map(x => roundTo(x, 'bf16'))]),
    )
  return { inputs: round(inputs as Record<string, Float32Array>), weights: round(weights) }
}

interface Form {
  readonly name: string
  readonly shape: readonly number[]
  readonly body: Parameters<typeof program>[1]
}

const forms: readonly Form[] = [
  {
    name: 'a linear layer of several blocks',
    shape: [3, 1, 7, 1300],
    body: ({ input, weight }) => ({
      sample: linear(input('x', [3, 1, 7, 1300]), weight('w', [37, 1300]), {
        bias: weight('b', [37]),
      }),
    }),
  },
  {
    name: 'geglu',
    shape: [2, 1, 9, 20],
    body: ({ input, weight }) => ({
      sample: linear(input('x', [2, 1, 9, 20]), weight('w', [2 * 24, 20]), {
        bias: weight('b', [48]),
        act: 'geglu',
      }),
    }),
  },
  {
    name: '3x3 of several blocks over two sources',
    shape: [2, 5, 6, 330],
    body: ({ input, weight }) => ({
      sample: conv2d(
        [input('x', [2, 5, 6, 330]), input('y', [2, 5, 6, 24])],
        weight('w', [50, 354, 3, 3]),
        { bias: weight('b', [50]) },
      ),
    }),
  },
  {
    name: 'stride 2',
    shape: [2, 9, 8, 6],
    body: ({ input, weight }) => ({
      sample: conv2d(input('x', [2, 9, 8, 6]), weight('w', [18, 6, 3, 3]), { stride: 2 }),
    }),
  },
  {
    name: 'over time',
    shape: [5, 3, 3, 10],
    body: ({ input, weight }) => ({
      sample: convTime(input('x', [5, 3, 3, 10]), weight('w', [20, 10, 3, 1, 1])),
    }),
  },
]

for (const { name, body } of forms) {
  computing(`products of bfloat16: ${name}`, async () => {
    const traced = program(name, body)
    const values = exact(randomValues(traced, 5))
    const expected = interpret(traced, {
      inputs: values.inputs,
      weights: tensor => values.weights[tensor.name],
    }).sample!
    const { sample, predicted, measured } = await run(traced, values, bf16)
    assert.is(measured, predicted)
    assert.ok(difference(sample, expected).relative < 1e-5)
    // Numbers with more bits are rounded first.
    const finer = randomValues(traced, 6)
    const { inputs, weights } = exact(finer)
    const { b } = finer.weights
    const rounded = await run(traced, { inputs, weights: { ...weights, ...(b && { b }) } }, bf16)
    assert.equal((await run(traced, finer, bf16)).sample, rounded.sample)
    assert.not.equal((await run(traced, finer, { device: 'cpu' })).sample, rounded.sample)
  })
}

for (const [name, outputs, inputs] of [
  ['odd inputs', 20, 7],
  ['few outputs', 4, 32],
] as const) {
  computing(`float32 is kept: ${name}`, async () => {
    const traced = program(name, ({ input, weight }) => ({
      sample: conv2d(input('x', [2, 6, 5, inputs]), weight('w', [outputs, inputs, 3, 3])),
    }))
    const values = randomValues(traced, 7)
    const { sample } = await run(traced, values, { device: 'cpu' })
    assert.equal((await run(traced, values, bf16)).sample, sample)
  })
}

computing('random programs: the same bits at every budget and thread count', async () => {
  for (let seed = 0; seed < programs; seed++) {
    const traced = randomProgram(seed)
    const values = randomValues(traced, seed)
    const { weights } = values
    const whole = await run(traced, values, { ...bf16, slices: 1, threads: 1 })
    assert.is(whole.measured, whole.predicted)
    const planner = programPlanner(traced, { ...bf16, weights })
    const least = leastBudget(budget => planner.plan(budget)) || planner.plan().peakBytes
    for (const share of [0, 0.5, 1]) {
      const budget = Math.max(least, Math.floor(least + share * (whole.predicted - least)))
      const sliced = await run(traced, values, { ...bf16, budget })
      assert.is(sliced.measured, sliced.predicted)
      assert.equal(sliced.sample, whole.sample, `seed ${seed}, share ${share}`)
    }
    const threaded = await run(traced, values, { ...bf16, slices: 3, threads: 3 })
    assert.equal(threaded.sample, whole.sample, `seed ${seed}, 3 threads`)
    // Rounded to eight bits, but no further from float32 than that.
    const plain = await run(traced, values, { device: 'cpu' })
    assert.ok(difference(whole.sample, plain.sample).relative < 0.1, `seed ${seed}`)
  }
})

for (const name of ['unet-motion-mid', 'vae-temporal']) {
  computing(`a recorded ${name}: the same bits at every budget and thread count`, async () => {
    const path = mkdtempSync(join(tmpdir(), 'sluice-bf16-'))
    try {
      cpSync(fixture(name), path, { recursive: true })
      await materialise(fixture(name), path)
      const run = (options: VerifyOptions) => verify(path, 0.1, { ...bf16, ...options })
      const whole = await run({ slices: 1, threads: 1 })
      assert.ok(whole.passed)
      const most = Math.max(...whole.programs.map(({ predictedBytes }) => predictedBytes))
      for (const options of [
        { smallest: true, threads: 2 },
        { budget: Math.floor(0.8 * most) },
        { slices: 3, threads: 3 },
      ]) {
        const { passed, sha256 } = await run(options)
        assert.ok(passed)
        assert.is(sha256, whole.sha256, JSON.stringify(options))
      }
    } finally {
      rmSync(path, { recursive: true })
    }
  })
}

test('another precision is refused, and bf16 where the processor has none', async () => {
  const [{ body }] = forms as [Form]
  const traced = program('refused', body)
  const thrown = (options: CompileOptions) => {
    try {
      planProgramOf(traced, options)
    } catch (error) {
      return error as Error
    }
    return undefined
  }
  assert.instance(thrown({ device: 'cpu', compute: 'f16' as 'bf16' }), OptionError)
  if (!offered) assert.instance(thrown(bf16), DeviceError)
  const { finished } = start(['plan', '--compute', 'bf16'], { env: { SLUICE_ISA: 'generic' } })
  const { code, stderr } = await finished
  assert.is(code, 6)
  assert.match(stderr, 'expected a processor with AVX512_BF16 or AMX for bf16')
})

test.run()
