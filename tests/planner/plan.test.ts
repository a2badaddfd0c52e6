import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { BudgetError } from '../../lib/errors.js'
import { planStage, type StagePlan } from '../../lib/planner/plan.js'
import { layerNorm, linear, type Program, program } from '../../lib/program/index.js'
import { checkPlan } from '../support/memory-model.js'
import { decoderLike, randomProgram, temporalDecoderLike } from '../support/random-program.js'

function plan(
  program: Program,
  options: { budget?: number; slices?: number; recompute?: number } = {},
): StagePlan {
  const state = {}
  return planStage(
    { name: 'test', state, programs: { main: program } },
    {
      target: { backend: 'cpu', threads: 2 },
      weightDtype: () => 'f16',
      streaming: 'never',
      ...options,
    },
  )
}

/** The least budget: what the refusal of an impossible one says is needed. */
function smallest(program: Program, recompute?: number): number {
  try {
    return plan(program, { budget: 0, recompute }).peakBytes
  } catch (error) {
    assert.instance(error, BudgetError)
    return (error as BudgetError).needed
  }
}

test('plans of 120 random programs are sound at every budget', () => {
  for (let seed = 0; seed < 120; seed++) {
    const program = randomProgram(seed)
    const free = plan(program)
    const least = smallest(program)
    assert.ok(least <= free.peakBytes)
    for (const share of [0.5, 0]) {
      const budget = Math.floor(least + share * (free.peakBytes - least))
      const fitted = plan(program, { budget })
      assert.ok(fitted.peakBytes <= budget, `seed ${seed}: ${fitted.peakBytes} > ${budget}`)
      assert.equal(checkPlan(fitted.programs.main!), [], `seed ${seed} share ${share}`)
    }
  }
})

test('a decoder in bands of rows is sound, and needs less than any slices', () => {
  for (const [rows, cols] of [
    [12, 6],
    [17, 5],
    [9, 11],
    [32, 3],
  ] as const) {
    const program = decoderLike(rows, cols, 48)
    const main = plan(program, { budget: smallest(program) }).programs.main!
    assert.ok(main.slicings.some(({ bands }) => bands))
    assert.equal(checkPlan(main), [], `${rows}x${cols}`)
    assert.ok(main.bytes < plan(program, { slices: 1000 }).programs.main!.bytes)
  }
})

test('a temporal decoder lies over what it is made of, makes tensors again for a price, and stays sound', () => {
  for (const [frames, rows, cols] of [
    [5, 8, 6],
    [7, 5, 7],
    [4, 16, 6],
  ] as const) {
    const program = temporalDecoderLike(frames, rows, cols)
    const name = program.name
    const kept = plan(program, { budget: smallest(program, 0), recompute: 0 }).programs.main!
    assert.equal(checkPlan(kept), [], name)
    assert.ok(
      kept.program.nodes.every(node => !node.name.endsWith('(again)')),
      name,
    )
    const spent = plan(program, { budget: smallest(program, 0.3), recompute: 0.3 }).programs.main!
    assert.equal(checkPlan(spent), [], name)
    assert.ok(spent.bytes < kept.bytes, `${name}: ${spent.bytes}, ${kept.bytes} without`)
    const whole = plan(program).programs.main!
    assert.ok(spent.work.flops > whole.work.flops && spent.work.flops <= 1.3 * whole.work.flops)
    assert.ok(
      spent.buffers.some(({ tied }) => tied),
      `${name}: nothing lies over anything`,
    )
  }
})

test('the peak of a free plan is enough, and what a refusal names is no more, down to a few bytes of weights', () => {
  const target = { backend: 'cpu', threads: 1 }
  for (const channels of [7, 8, 17]) {
    for (const shape of [
      [1, 3, 9, channels],
      [3, 2, 5, channels],
      [2, 5, 32, channels],
    ]) {
      const made = program('small', ({ input, weight }) => {
        const x = input('x', shape)
        const normed = layerNorm(x, weight('g', [channels]), weight('b', [channels]))
        return channels === 8
          ? { sample: normed }
          : { sample: linear(normed, weight('w', [9, channels])) }
      })
      const spec = { name: 'small', state: { 'in:x': { shape, dtype: 'f32' as const } } }
      const under = (budget?: number) =>
        planStage(
          { ...spec, programs: { main: made } },
          { target, weightDtype: () => 'f32', budget },
        )
      const free = under().peakBytes
      assert.ok(under(free).peakBytes <= free)
      try {
        under(0)
        assert.unreachable()
      } catch (error) {
        assert.instance(error, BudgetError)
        const { needed } = error as BudgetError
        assert.ok(needed <= free, `${shape}: ${needed} needed, ${free} free`)
        assert.ok(under(needed).peakBytes <= needed)
        assert.throws(() => under(needed - 64))
      }
    }
  }
})

test('any slice count gives a sound plan', () => {
  for (let seed = 0; seed < 60; seed++) {
    for (const slices of [1, 2, 3, 100])
      assert.equal(
        checkPlan(plan(randomProgram(seed), { slices }).programs.main!),
        [],
        `seed ${seed} slices ${slices}`,
      )
  }
})

test('an arena never falls below its lower bound and is the same twice', () => {
  for (let seed = 0; seed < 40; seed++) {
    const program = randomProgram(seed)
    const { programs } = plan(program)
    const { bytes, lowerBound, offsets } = programs.main!
    assert.ok(bytes <= 1.2 * lowerBound, `seed ${seed}: ${bytes} for ${lowerBound}`)
    assert.equal(plan(program).programs.main!.offsets, offsets)
  }
})

test('the checker finds a plan that overlaps', () => {
  const { programs } = plan(randomProgram(3))
  const main = programs.main!
  const broken = { ...main, offsets: main.offsets.map(() => 0) }
  assert.ok(checkPlan(broken).length > 0)
})

test('a refusal says stage, operator, tensor and bytes, and the bytes it names suffice', () => {
  const program = randomProgram(11)
  try {
    plan(program, { budget: 100 })
    assert.unreachable()
  } catch (error) {
    assert.instance(error, BudgetError)
    const { needed, allowed, stage, op, tensor, message } = error as BudgetError
    assert.is(allowed, 100)
    assert.is(stage, 'test')
    assert.ok(op.length > 0 && tensor.length > 0)
    assert.match(message, `${needed}`)
    assert.is(plan(program, { budget: needed }).peakBytes, needed)
    assert.throws(
      () => plan(program, { budget: needed - 1 }),
      (error: Error) => error instanceof BudgetError,
    )
  }
})

test.run()
