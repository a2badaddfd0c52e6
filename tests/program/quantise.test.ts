import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ProgramError } from '../../lib/errors.js'
import { add, cast, dequantise, program, quantise, storedWords } from '../../lib/program/index.js'
import { compile, run } from '../../lib/runtime/executable.js'
import { interpret } from '../support/interpreter.js'
import { randomNumbers } from '../support/random-program.js'

const shape = [3, 4, 5, 70]
const there = program('eight-bit', ({ input }) => {
  const x = input('x', shape)
  const back = dequantise(quantise(add(x, x)), 70)
  return { back: add(back, x) }
})
const random = randomNumbers(1)
const x = Float32Array.from({ length: 3 * 4 * 5 * 70 }, () => random() - 0.5)

test('eight-bit storage in a program is what the interpreter says, in any slices', async () => {
  const expected = interpret(there, { inputs: { x } }).back!
  const { back } = await run(there, { x }, { device: 'cpu' })
  assert.equal(back, expected)
  for (const slices of [2, 3]) {
    await using sliced = await compile(there, { device: 'cpu', slices, threads: 2 })
    assert.equal((await sliced.run({ x })).back, expected)
  }
})

test('stored words: a scale for each 32 channels, a byte for each channel', () => {
  assert.equal([1, 4, 5, 32, 33, 48, 320].map(storedWords), [2, 2, 3, 9, 11, 14, 90])
})

test('other ranks, dtypes and channel counts are refused', () => {
  const wrong = [
    () => program('p', ({ input }) => ({ y: quantise(input('x', [3, 4])) })),
    () => program('p', ({ input }) => ({ y: quantise(cast(input('x', [1, 1, 1, 4]), 'f16')) })),
    () => program('p', ({ input }) => ({ y: dequantise(input('x', [1, 1, 1, 2], 'i32'), 5) })),
    () => program('p', ({ input }) => ({ y: dequantise(input('x', [1, 1, 1, 2]), 4) })),
  ]
  for (const trace of wrong)
    assert.throws(
      trace,
      (e: Error) => e instanceof ProgramError && /quantise.*expected a source/.test(e.message),
    )
})

test.run()
