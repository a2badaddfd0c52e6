import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { BudgetError } from '../../lib/errors.js'
import { add, mul, type Program, program } from '../../lib/program/index.js'
import { type CompileOptions, compile, planProgramOf } from '../../lib/runtime/executable.js'
import { interpret } from '../support/interpreter.js'
import { decoderLike, randomProgram, randomValues } from '../support/random-program.js'
import { difference } from '../support/recorded.js'

interface Outcome {
  values: Float32Array
  predicted: number
  measured: number
}

async function execute(program: Program, seed: number, options: CompileOptions): Promise<Outcome> {
  const { inputs, weights } = randomValues(program, seed)
  await using executable = await compile(program, {
    device: 'cpu',
    weights,
    poison: true,
    ...options,
  })
  const { sample } = await executable.run(inputs)
  return {
    values: sample!,
    predicted: executable.plan.peakBytes,
    measured: executable.close().peakBytes,
  }
}

function smallest(program: Program, seed: number): number {
  try {
    return planProgramOf(program, {
      device: 'cpu',
      budget: 0,
      weights: randomValues(program, seed).weights,
    }).peakBytes
  } catch (error) {
    return (error as BudgetError).needed
  }
}

test('random programs: native equals the plain reference', async () => {
  for (let seed = 0; seed < 60; seed++) {
    const program = randomProgram(seed)
    const { inputs, weights } = randomValues(program, seed)
    const expected = interpret(program, { inputs, weights: tensor => weights[tensor.name] }).sample!
    const { values } = await execute(program, seed, {})
    const { relative } = difference(values, expected)
    assert.ok(relative < 1e-4, `seed ${seed}: ${relative}`)
  }
})

test('random programs: sliced equals unsliced bit for bit, at five budgets and three thread counts', async () => {
  for (let seed = 0; seed < 60; seed++) {
    const program = randomProgram(seed)
    const whole = await execute(program, seed, { slices: 1, threads: 1 })
    assert.is(whole.measured, whole.predicted, `seed ${seed} whole`)
    const least = smallest(program, seed)
    for (const [i, share] of [0, 0.25, 0.5, 0.75, 1].entries()) {
      const budget = Math.max(least, Math.floor(least + share * (whole.predicted - least)))
      const threads = undefined
      const sliced = await execute(program, seed, { budget, threads })
      assert.is(sliced.measured, sliced.predicted, `seed ${seed} share ${share}`)
      assert.ok(sliced.measured <= budget)
      assert.equal(sliced.values, whole.values, `seed ${seed} share ${share} ${i}`)
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

test('bands of rows give the same bits, predicted = measured', async () => {
  for (const [rows, cols] of [
    [12, 6],
    [17, 5],
    [9, 11],
    [32, 3],
  ] as const) {
    const program = decoderLike(rows, cols)
    const whole = await execute(program, rows, { slices: 1, threads: 1 })
    const banded = await execute(program, rows, { budget: smallest(program, rows) })
    assert.equal(banded.values, whole.values, `${rows}x${cols}`)
    assert.is(banded.measured, banded.predicted)
    assert.ok(banded.predicted < whole.predicted)
  }
})

test.run()
