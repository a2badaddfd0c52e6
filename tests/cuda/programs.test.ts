import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { BudgetError } from '../../lib/errors.js'
import type { Program } from '../../lib/program/index.js'
import { type CompileOptions, compile, planProgramOf } from '../../lib/runtime/executable.js'
import { interpret } from '../support/interpreter.js'
import {
  causalOverFrames,
  decoderLike,
  randomProgram,
  randomValues,
  skipLike,
  temporalDecoderLike,
} from '../support/random-program.js'
import { difference } from '../support/recorded.js'
import { gpu, useEmulation } from './support.js'

useEmulation()

/** Most that results may differ from float64's, relative to their spread. */
const tolerance = { f32: 1e-4, f16: 1e-2, bf16: 8e-2 } as const

async function execute(program: Program, seed: number, options: CompileOptions) {
  const { inputs, weights } = randomValues(program, seed)
  await using executable = await compile(program, {
    device: gpu,
    weights,
    poison: true,
    ...options,
  })
  const { sample } = await executable.run(inputs)
  const predicted = executable.plan.peakBytes
  return { values: sample!, predicted, measured: executable.close().peakBytes }
}

function expectedOf(program: Program, seed: number): Float32Array {
  const { inputs, weights } = randomValues(program, seed)
  return interpret(program, { inputs, weights: tensor => weights[tensor.name] }).sample!
}

/** Against the reference in every storage, then sliced: the same bits, predicted = measured. */
async function agrees(program: Program, seed: number, rest: CompileOptions = {}): Promise<void> {
  const expected = expectedOf(program, seed)
  for (const dtype of ['f32', 'f16', 'bf16'] as const) {
    const whole = await execute(program, seed, { dtype, slices: 1 })
    const { relative } = difference(whole.values, expected)
    assert.ok(relative < tolerance[dtype], `${program.name} ${seed} ${dtype}: ${relative}`)
    assert.is(whole.measured, whole.predicted)
    if (dtype === 'bf16') continue
    const budget = smallest(program, seed, dtype, rest)
    const sliced = await execute(program, seed, { dtype, budget, ...rest })
    assert.equal(sliced.values, whole.values, `${program.name} ${seed} ${dtype}, sliced`)
    assert.is(sliced.measured, sliced.predicted)
    if (dtype !== 'f16') continue
    const streamed = await execute(program, seed, { dtype, streaming: 'always' })
    assert.equal(streamed.values, whole.values, `${program.name} ${seed} ${dtype}, streamed`)
    assert.is(streamed.measured, streamed.predicted)
  }
}

function smallest(
  program: Program,
  seed: number,
  dtype: 'f32' | 'f16',
  rest: CompileOptions,
): number {
  const { weights } = randomValues(program, seed)
  try {
    return planProgramOf(program, { device: gpu, budget: 0, dtype, weights, ...rest }).peakBytes
  } catch (error) {
    return (error as BudgetError).needed
  }
}

test('random programs agree with the reference, sliced to the same bits', async () => {
  for (let seed = 0; seed < 8; seed++) await agrees(randomProgram(seed), seed)
})

test('the end of a decoder, in bands of rows', async () => {
  await agrees(decoderLike(9, 7), 3)
  // And with what stands at full resolution made again in each band.
  const decoder = decoderLike(9, 7, 32)
  const dear = { recompute: 1, spill: false, streaming: 'never' } as const
  await agrees(decoder, 4, dear)
  const { weights } = randomValues(decoder, 4)
  const budget = smallest(decoder, 4, 'f16', dear)
  const options = { device: gpu, dtype: 'f16', weights, budget, ...dear } as const
  const { nodes } = planProgramOf(decoder, options).programs.main!.program
  assert.ok(nodes.some(({ name }) => name.endsWith('(again)')))
})

test('attention over frames that sees no later one, in slices of frames', async () => {
  for (const shape of [
    [5, 2, 2, 16],
    [19, 1, 3, 40],
  ]) {
    const causal = causalOverFrames(shape)
    const expected = expectedOf(causal, 3)
    for (const dtype of ['f32', 'f16'] as const) {
      const whole = await execute(causal, 3, { dtype, slices: 1 })
      assert.ok(difference(whole.values, expected).relative < tolerance[dtype])
      const sliced = await execute(causal, 3, { dtype, slices: 3 })
      assert.equal(sliced.values, whole.values, `${shape} ${dtype}`)
    }
  }
})

test('skips that wait on the host', async () => {
  const skips = skipLike(3, 8, 6)
  await agrees(skips, 7)
  const { weights } = randomValues(skips, 7)
  const budget = smallest(skips, 7, 'f16', {})
  const options = { device: gpu, dtype: 'f16', weights, budget } as const
  const { hostBytes, programs } = planProgramOf(skips, options)
  assert.ok(hostBytes > 0)
  assert.ok(programs.main!.program.nodes.some(({ op }) => op === 'move'))
})

test('temporal blocks whose statistics span all frames', async () => {
  await agrees(temporalDecoderLike(3, 4, 6), 5)
})

test.run()
