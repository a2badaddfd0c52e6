import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { OptionError } from '../../lib/errors.js'
import { largestDifference, meanSquaredError, psnr, ssim } from '../../lib/quality/metrics.js'

const noise = (length: number, seed: number): Float32Array => {
  let state = seed
  return Float32Array.from({ length }, () => {
    state = (state * 1664525 + 1013904223) % 2 ** 32
    return state / 2 ** 31 - 1
  })
}

/** SSIM straight from the paper's formulas: a two-dimensional window and central moments. */
function plainSsim(a: Float32Array, b: Float32Array, h: number, w: number, range: number): number {
  const n = 11
  const weight = (r: number, c: number) => Math.exp(-((r - 5) ** 2 + (c - 5) ** 2) / 4.5)
  let total = 0
  for (let r = 0; r < n; r++) for (let c = 0; c < n; c++) total += weight(r, c)
  let sum = 0
  let count = 0
  for (let top = 0; top + n <= h; top++) {
    for (let left = 0; left + n <= w; left++, count++) {
      const expect = (f: (x: number, y: number) => number) => {
        let value = 0
        for (let r = 0; r < n; r++) {
          for (let c = 0; c < n; c++) {
            const i = (top + r) * w + left + c
            value += (weight(r, c) / total) * f(a[i]!, b[i]!)
          }
        }
        return value
      }
      const ux = expect(x => x)
      const uy = expect((_, y) => y)
      const vx = expect(x => (x - ux) ** 2)
      const vy = expect((_, y) => (y - uy) ** 2)
      const cov = expect((x, y) => (x - ux) * (y - uy))
      const c1 = (0.01 * range) ** 2
      const c2 = (0.03 * range) ** 2
      sum += ((2 * ux * uy + c1) * (2 * cov + c2)) / ((ux ** 2 + uy ** 2 + c1) * (vx + vy + c2))
    }
  }
  return sum / count
}

test('psnr of a known difference', () => {
  const a = new Float32Array(100)
  const b = a.map(() => 0.02)
  assert.ok(Math.abs(psnr(a, b, 2) - 40) < 1e-4)
  assert.ok(Math.abs(meanSquaredError(a, b) - 4e-4) < 1e-9)
  assert.is(psnr(a, a, 2), Number.POSITIVE_INFINITY)
})

test('the largest difference, and NaN where a value is none', () => {
  assert.is(largestDifference(Float32Array.of(1, -2, 3), Float32Array.of(1, 2, 2)), 4)
  assert.ok(Number.isNaN(largestDifference(Float32Array.of(1, Number.NaN), Float32Array.of(9, 0))))
})

test('ssim as the formulas say', () => {
  const [h, w] = [17, 23]
  const a = noise(h * w, 1)
  const b = a.map((value, i) => 0.7 * value + 0.2 * noise(h * w, 2)[i]!)
  const expected = plainSsim(a, b, h, w, 2)
  assert.ok(expected > 0.5 && expected < 0.99)
  assert.ok(Math.abs(ssim(a, b, { planes: 1, height: h, width: w }, 2) - expected) < 1e-9)
})

test('ssim is the mean over planes, and 1 for equal pictures', () => {
  const shape = { planes: 1, height: 16, width: 12 }
  const [a, b] = [noise(192, 3), noise(192, 4)]
  const both = (x: Float32Array, y: Float32Array) => Float32Array.from([...x, ...y])
  assert.ok(Math.abs(ssim(a, a, shape, 2) - 1) < 1e-12)
  const mean = ssim(both(a, a), both(a, b), { ...shape, planes: 2 }, 2)
  assert.ok(Math.abs(mean - (1 + ssim(a, b, shape, 2)) / 2) < 1e-12)
})

test('pictures smaller than the window are compared too', () => {
  const bright = noise(8 * 8, 5).map(value => 2 + value)
  const shape = { planes: 1, height: 8, width: 8 }
  assert.ok(Math.abs(ssim(bright, bright, shape, 2) - 1) < 1e-12)
  const inverted = bright.map(value => 4 - value)
  assert.ok(ssim(bright, inverted, shape, 2) < 0)
})

test('arrays of other sizes and odd ranges are refused', () => {
  const a = new Float32Array(4)
  for (const call of [
    () => psnr(a, new Float32Array(3), 2),
    () => psnr(new Float32Array(0), new Float32Array(0), 2),
    () => psnr(a, a, 0),
    () => largestDifference(a, new Float32Array(5)),
    () => ssim(a, a, { planes: 1, height: 3, width: 1 }, 2),
  ])
    assert.throws(call, (error: Error) => error instanceof OptionError)
})

test.run()
