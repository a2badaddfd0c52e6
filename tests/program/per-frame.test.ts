import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { add, program, silu } from '../../lib/program/index.js'
import { compile } from '../../lib/runtime/executable.js'
import { interpret } from '../support/interpreter.js'
import { randomNumbers } from '../support/random-program.js'

for (const [rows, cols] of [
  [1, 1],
  [2, 1],
  [2, 3],
] as const) {
  test(`a vector for each frame of ${rows} x ${cols} pixels, in any slices`, async () => {
    const placed = program('placed', ({ input }) => ({
      y: silu(add(input('x', [4, rows, cols, 6]), silu(input('vectors', [4, 6])))),
    }))
    const random = randomNumbers(rows + cols)
    const inputs = {
      x: Float32Array.from({ length: 24 * rows * cols }, () => random()),
      vectors: Float32Array.from({ length: 24 }, () => random()),
    }
    const expected = interpret(placed, { inputs }).y!
    for (const slices of [1, 2, 4]) {
      await using executable = await compile(placed, { device: 'cpu', slices })
      const { y } = await executable.run(inputs)
      const worst = Math.max(...y!.map((value, i) => Math.abs(value - expected[i]!)))
      assert.ok(worst < 1e-5, `${slices} slices: ${worst}`)
    }
  })
}

test.run()
