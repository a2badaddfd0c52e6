import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { leastBudget } from '../../lib/planner/least-budget.js'
import type { StagePlan } from '../../lib/planner/plan.js'
import { add, mul, type Program, program } from '../../lib/program/index.js'
import {
  type CompileOptions,
  openProgram,
  planProgramOf,
  programPlanner,
} from '../../lib/runtime/executable.js'
import { interpret } from '../support/interpreter.js'
import {
  causalOverFrames,
  decoderLike,
  randomProgram,
  randomValues,
  temporalDecoderLike,
} from '../support/random-program.js'
import { difference } from '../support/recorded.js'

interface Outcome {
  values: Float32Array
  predicted: number
  measured: number
}

/** `SLUICE_PROGRAMS=200` tries as many random programs, for minutes. */
const programs = Number(process.env.SLUICE_PROGRAMS) || 60

async function execute(program: Program, seed: number, options: CompileOptions): Promise<Outcome> {
  return await opened(
    program,
    seed,
    planProgramOf(program, { device: 'cpu', ...options, ...sourced(program, seed) }),
  )
}

const sourced = (program: Program, seed: number) => ({
  weights: randomValues(program, seed).weights,
})

async function opened(program: Program, seed: number, plan: StagePlan): Promise<Outcome> {
  const { inputs, weights } = randomValues(program, seed)
  const options = { device: 'cpu', weights, poison: true }
  await using executable = await openProgram(plan, program, options)
  const { sample } = await executable.run(inputs)
  return {
    values: sample!,
    predicted: executable.plan.peakBytes,
    measured: executable.close().peakBytes,
  }
}

function smallest(program: Program, seed: number, recompute?: number): number {
  const planner = programPlanner(program, { device: 'cpu', recompute, ...sourced(program, seed) })
  return leastBudget(budget => planner.plan(budget)) || planner.plan().peakBytes
}

test('random programs: native equals the plain reference', async () => {
  for (let seed = 0; seed < programs; seed++) {
    const program = randomProgram(seed)
    const { inputs, weights } = randomValues(program, seed)
    const expected = interpret(program, { inputs, weights: tensor => weights[tensor.name] }).sample!
    const { values } = await execute(program, seed, {})
    const { relative } = difference(values, expected)
    assert.ok(relative < 1e-4, `seed ${seed}: ${relative}`)
  }
})

test('random programs: sliced equals unsliced bit for bit, at five budgets and three thread counts', async () => {
  for (let seed = 0; seed < programs; seed++) {
    const program = randomProgram(seed)
    const whole = await execute(program, seed, { slices: 1, threads: 1 })
    assert.is(whole.measured, whole.predicted, `seed ${seed} whole`)
    const planner = programPlanner(program, { device: 'cpu', ...sourced(program, seed) })
    const least = leastBudget(budget => planner.plan(budget))
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      const budget = Math.max(least, Math.floor(least + share * (whole.predicted - least)))
      const sliced = await opened(program, seed, planner.plan(budget))
      assert.is(sliced.measured, sliced.predicted, `seed ${seed} share ${share}`)
      assert.ok(sliced.measured <= budget)
      assert.equal(sliced.values, whole.values, `seed ${seed} share ${share}`)
    }
    for (const threads of [2, 3]) {
      assert.equal(
        (await execute(program, seed, { slices: 100, threads })).values,
        whole.values,
        `seed ${seed} threads ${threads}`,
      )
    }
  }
})

test('numbers of each frame repeat over its positions, one pixel too', async () => {
  for (const shape of [
    [3, 1, 1, 8],
    [3, 2, 1, 8],
    [1, 1, 2, 8],
  ]) {
    const repeating = program('repeating', ({ input }) => {
      const [a, b] = [input('a', shape), input('b', [shape[0]!, 8])]
      return { sample: add(mul(a, b), b) }
    })
    const { inputs } = randomValues(repeating, 1)
    const expected = interpret(repeating, { inputs, weights: () => undefined }).sample!
    for (const slices of [1, 2, 3]) {
      const { values } = await execute(repeating, 1, { slices })
      assert.ok(difference(values, expected).max < 1e-6, `${shape} in ${slices}`)
    }
  }
})

test('attention over frames that sees no later one is the same in any slices of frames', async () => {
  for (const shape of [
    [4, 1, 1, 8],
    [5, 2, 2, 8],
    [16, 1, 300, 8],
    [9, 3, 2, 48],
  ]) {
    const causal = causalOverFrames(shape)
    const { inputs } = randomValues(causal, 3)
    const expected = interpret(causal, { inputs, weights: () => undefined }).sample!
    const whole = await execute(causal, 3, { slices: 1, threads: 1 })
    assert.ok(difference(whole.values, expected).max < 1e-5, `${shape}`)
    for (const slices of [2, 3, 100]) {
      const { values } = await execute(causal, 3, { slices })
      assert.equal(values, whole.values, `${shape} in ${slices}`)
    }
  }
})

test('bands of rows give the same bits, predicted = measured', async () => {
  const programs = [
    decoderLike(12, 6),
    decoderLike(17, 5),
    decoderLike(9, 11),
    decoderLike(32, 3),
    temporalDecoderLike(2, 12, 6),
    temporalDecoderLike(1, 9, 7),
  ]
  for (const [rows, program] of programs.entries()) {
    const whole = await execute(program, rows, { slices: 1, threads: 1 })
    // Kept, and made again with the rows around each band.
    for (const recompute of [0, 1]) {
      const budget = smallest(program, rows, recompute)
      const banded = await execute(program, rows, { budget, recompute })
      assert.equal(banded.values, whole.values, `${program.name} ${recompute}`)
      assert.is(banded.measured, banded.predicted)
      assert.ok(banded.predicted < whole.predicted)
    }
    // And some bands kept, some made again.
    const [from, to] = [1, 0].map(recompute => smallest(program, rows, recompute))
    for (const share of [0.25, 0.5, 0.75]) {
      const budget = Math.floor(from! + share * (to! - from!))
      const partly = await execute(program, rows, { budget, recompute: 1 })
      assert.equal(partly.values, whole.values, `${program.name} ${share}`)
      assert.is(partly.measured, partly.predicted)
    }
  }
})

test('what lies over another tensor and what is made again has the same bits', async () => {
  for (const [frames, rows, cols] of [
    [5, 8, 6],
    [7, 5, 7],
    [3, 16, 4],
  ] as const) {
    const program = temporalDecoderLike(frames, rows, cols)
    const whole = await execute(program, frames, { slices: 1, threads: 1 })
    for (const recompute of [0, 0.3]) {
      const budget = smallest(program, frames, recompute)
      const least = await execute(program, frames, { budget, recompute })
      assert.equal(least.values, whole.values, `${program.name} ${recompute}`)
      assert.is(least.measured, least.predicted)
      assert.ok(least.predicted < whole.predicted)
    }
  }
})

test.run()
