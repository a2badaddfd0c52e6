// Runs a program on the GPU and says what memory it had, whether it agrees with the CPU, and what is left.
import { conv2d, program, silu } from '../../../lib/program/index.js'
import { devices } from '../../../lib/runtime/device.js'
import { compile } from '../../../lib/runtime/executable.js'
import { randomValues } from '../../support/random-program.js'
import { difference } from '../../support/recorded.js'

const one = program('one', ({ input, weight }) => ({
  y: conv2d(silu(input('x', [2, 5, 6, 8])), weight('kernel', [8, 8, 3, 3])),
}))
const { inputs, weights } = randomValues(one, 1)
const found = () => devices().find(({ id }) => id === 'cuda:0')!
const before = found()
const results: Float32Array[] = []
for (const device of ['cpu', 'cuda:0']) {
  await using executable = await compile(one, { device, weights, dtype: 'f32' })
  results.push((await executable.run(inputs)).y!)
}
const equal = difference(results[1]!, results[0]!).relative < 1e-5 ? 'equal' : 'different'
const left = before.freeBytes - found().freeBytes
console.log(
  `${before.detail.split(', ').pop()}, ${equal}, ${left === 0 ? 'all given back' : `${left} bytes left`}`,
)
