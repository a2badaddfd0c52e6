// Runs a program of two branches that touch nothing of each other, three times from other inputs, and prints a digest of each run.
import { createHash } from 'node:crypto'
import { add, gelu, program, silu } from '../../../lib/program/index.js'
import { compile } from '../../../lib/runtime/executable.js'
import { gpu } from '../support.js'

const extents = [32, 48] as const
const twoBranches = program('two branches', ({ input }) => {
  let left = input('left', extents)
  let right = input('right', extents)
  for (let i = 0; i < 4; i++) {
    left = silu(left)
    right = gelu(right)
  }
  return { sum: add(left, right) }
})
const values = (round: number) =>
  Float32Array.from({ length: 32 * 48 }, (_, i) => Math.sin(i * (round + 1)))

await using executable = await compile(twoBranches, { device: gpu })
for (let round = 0; round < 3; round++) {
  const { sum } = await executable.run({ left: values(round), right: values(round + 7) })
  console.log(createHash('sha256').update(sum!).digest('hex').slice(0, 12))
}
