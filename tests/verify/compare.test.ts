import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CheckpointError } from '../../lib/errors.js'
import { compare, isWithin, worse } from '../../lib/verify/compare.js'

test('the largest difference, over the standard deviation of what was expected', () => {
  const { output, largest, relative } = compare('x', [1, 2.5, 5], [1, 3, 5])
  assert.is(output, 'x')
  assert.is(largest, 0.5)
  assert.ok(Math.abs(relative - 0.5 / Math.sqrt(8 / 3)) < 1e-12)
})

test('constants are measured by their size, zeros absolutely', () => {
  assert.is(compare('x', [4.5], [4]).relative, 0.125)
  assert.is(compare('x', [0.5, 0], [0, 0]).relative, 0.5)
})

test('NaN is never within a tolerance, wherever it stands', () => {
  for (const [actual, expected] of [
    [
      [Number.NaN, 0],
      [1, 0],
    ],
    [
      [1, Number.NaN],
      [1, 0],
    ],
    [
      [1, 0],
      [1, Number.NaN],
    ],
  ] as const) {
    const difference = compare('x', actual, expected)
    assert.ok(Number.isNaN(difference.largest))
    assert.not(isWithin(difference, Number.POSITIVE_INFINITY))
    const good = compare('x', [1], [1])
    assert.is(worse(good, difference), difference)
    assert.is(worse(difference, good), difference)
  }
  assert.ok(isWithin(compare('x', [1], [1]), 0))
})

test('another number of values is a wrong recording', () => {
  assert.throws(
    () => compare('x', [1, 2], [1]),
    (error: unknown) => error instanceof CheckpointError,
  )
})

test.run()
