import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { OptionError } from '../../lib/errors.js'
import { gaussian, philox4x32 } from '../../lib/io/random.js'

test('Philox4x32-10 gives the known answers of Random123', () => {
  const cases: [number[], number, number, number[]][] = [
    [[0, 0, 0, 0], 0, 0, [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      0xffffffff,
      0xffffffff,
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      0xa4093822,
      0x299f31d0,
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ]
  for (const [counter, key0, key1, expected] of cases) {
    const words = Uint32Array.from(counter)
    philox4x32(words, key0, key1)
    assert.equal([...words], expected)
  }
})

test('a seed gives the same noise, whatever the length', () => {
  const long = gaussian(7, 1001)
  assert.equal(gaussian(7, 1001), long)
  for (const length of [0, 1, 2, 3, 5, 998])
    assert.equal(gaussian(7, length), long.slice(0, length))
})

test('seeds and streams differ, above 32 bits too', () => {
  const draws = [
    gaussian(7, 8),
    gaussian(8, 8),
    gaussian(7, 8, 1),
    gaussian(7 + 2 ** 32, 8),
    gaussian(Number.MAX_SAFE_INTEGER, 8),
  ]
  assert.is(new Set(draws.flatMap(draw => [...draw])).size, 40)
})

test('the noise is standard normal', () => {
  const n = 400_000
  const x = gaussian(42, n)
  const moment = (k: number) => x.reduce((sum, v) => sum + v ** k, 0) / n
  // Five standard errors: 1/√n, √2/√n, √15/√n, √96/√n.
  assert.ok(Math.abs(moment(1)) < 5 / Math.sqrt(n))
  assert.ok(Math.abs(moment(2) - 1) < 5 * Math.sqrt(2 / n))
  assert.ok(Math.abs(moment(3)) < 5 * Math.sqrt(15 / n))
  assert.ok(Math.abs(moment(4) - 3) < 5 * Math.sqrt(96 / n))
  for (const lag of [1, 2, 3, 4]) {
    let sum = 0
    for (let i = lag; i < n; i++) sum += x[i]! * x[i - lag]!
    assert.ok(Math.abs(sum / n) < 5 / Math.sqrt(n), `lag ${lag}`)
  }
  assert.ok(x.every(Number.isFinite))
})

test('the values of a seed stay', () => {
  assert.equal(
    [...gaussian(0, 6)],
    [
      0.991137683391571, -0.9246625900268555, -0.6176089644432068, -0.48206859827041626,
      -0.15363822877407074, 0.18082590401172638,
    ],
  )
  assert.equal(
    [...gaussian(123456789012, 3, 5)],
    [-1.2929184436798096, 0.01969348080456257, -0.820789098739624],
  )
})

test('wrong seeds are refused', () => {
  for (const seed of [-1, 1.5, Number.NaN, 2 ** 53])
    assert.throws(
      () => gaussian(seed, 1),
      (e: Error) => e instanceof OptionError,
    )
})

test.run()
