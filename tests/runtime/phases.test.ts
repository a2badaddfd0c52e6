// Doubled images by phases, end to end: near the plain reference, and the same bits however they are cut.
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { leastBudget } from '../../lib/planner/least-budget.js'
import {
  add,
  conv2d,
  groupNorm,
  type Program,
  program,
  silu,
  upsampleNearest,
} from '../../lib/program/index.js'
import { type CompileOptions, openProgram, programPlanner } from '../../lib/runtime/executable.js'
import { native } from '../../lib/runtime/native.js'
import { interpret } from '../support/interpreter.js'
import { decoderLike, randomValues } from '../support/random-program.js'
import { difference } from '../support/recorded.js'

const { bf16 } = native().cpu()

/** A norm, a doubling convolution with all that may be fused to it, and another one behind it. */
function doubled(frames: number, rows: number, cols: number, inputs: number, outputs: number) {
  return program(`doubled-${inputs}`, ({ input, weight }) => {
    const vector = (name: string) => weight(name, [inputs])
    const normed = groupNorm(
      input('sample', [frames, rows, cols, inputs]),
      vector('gamma'),
      vector('beta'),
      { groups: 2, act: 'silu' },
    )
    const up = conv2d(
      upsampleNearest(normed, [2 * rows, 2 * cols]),
      weight('w', [outputs, inputs, 3, 3]),
      { bias: weight('b', [outputs]) },
    )
    const sum = silu(add(add(up, input('v', [frames, outputs])), input('r', up.shape)))
    const next = conv2d(sum, weight('w2', [6, outputs, 3, 3]))
    const grown = upsampleNearest(next, [4 * rows, 4 * cols])
    return { sample: conv2d(grown, weight('w3', [7, 6, 3, 3])) }
  })
}

const programs: readonly Program[] = [
  decoderLike(13, 11),
  doubled(1, 9, 15, 8, 5),
  doubled(3, 8, 16, 8, 34),
  doubled(2, 150, 70, 322, 18),
]
const small = programs.slice(0, 3)

async function execute(traced: Program, options: CompileOptions, budget?: number) {
  const { inputs, weights } = randomValues(traced, 3)
  const all = { device: 'cpu', weights, poison: true, ...options }
  const plan = programPlanner(traced, all).plan(budget)
  const phases = plan.programs.main!.program.nodes.filter(({ attrs }) => attrs.phases).length
  await using executable = await openProgram(plan, traced, all)
  const { sample } = await executable.run(inputs)
  assert.is(executable.close().peakBytes, plan.peakBytes)
  return { sample: sample!, phases, plan }
}

test('near the plain reference', async () => {
  for (const traced of small) {
    const { inputs, weights } = randomValues(traced, 3)
    const expected = interpret(traced, { inputs, weights: ({ name }) => weights[name] }).sample!
    const { sample, phases } = await execute(traced, {})
    assert.ok(phases > 0, traced.name)
    assert.ok(difference(sample, expected).relative < 1e-5, traced.name)
  }
})

for (const compute of bf16 ? (['f32', 'bf16'] as const) : (['f32'] as const)) {
  test(`the same bits in any slices, on any threads, with weights streamed: ${compute}`, async () => {
    for (const traced of programs) {
      const whole = await execute(traced, { compute, slices: 1, threads: 1 })
      assert.ok(whole.phases > 0, traced.name)
      const cuts = traced === programs[3] ? [7] : [2, 3, 5, 100]
      for (const slices of cuts)
        for (const threads of [1, 2, 3])
          assert.equal((await execute(traced, { compute, slices, threads })).sample, whole.sample)
      const streamed = await execute(traced, { compute, streaming: 'always' })
      assert.is(streamed.plan.weights.bytes, 0)
      assert.equal(streamed.sample, whole.sample)
    }
    for (const traced of small) {
      const { sample } = await execute(traced, { compute, slices: 1, threads: 1 })
      const { weights } = randomValues(traced, 3)
      const planner = programPlanner(traced, { device: 'cpu', weights, compute })
      const least = leastBudget(budget => planner.plan(budget))
      assert.equal((await execute(traced, { compute }, least)).sample, sample)
    }
  })
}

test.run()
