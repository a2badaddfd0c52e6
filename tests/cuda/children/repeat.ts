// Runs a program several times, from other inputs each, and says what came of each run; then two programs side by side.
import { createHash } from 'node:crypto'
import { compile } from '../../../lib/runtime/executable.js'
import { randomProgram, randomValues } from '../../support/random-program.js'
import { gpu } from '../support.js'

const digest = (values: Float32Array) =>
  createHash('sha256').update(values).digest('hex').slice(0, 12)

async function opened(seed: number) {
  const program = randomProgram(seed)
  const { weights } = randomValues(program, seed)
  const executable = await compile(program, { device: gpu, weights })
  return {
    executable,
    run: async (round: number) =>
      digest((await executable.run(randomValues(program, round).inputs)).sample!),
  }
}

const first = await opened(1)
for (let round = 0; round < 4; round++) console.log(`alone: ${await first.run(round)}`)
const second = await opened(2)
for (let round = 0; round < 4; round++)
  console.log(`together: ${(await Promise.all([first.run(round), second.run(round)])).join(' ')}`)
first.executable.close()
second.executable.close()
