// Weights that come with their ops: the same bits as with all weights resident, predicted = measured.
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { leastBudget } from '../../lib/planner/least-budget.js'
import { openProgram, programPlanner } from '../../lib/runtime/executable.js'
import { decoderLike, randomProgram, randomValues } from '../support/random-program.js'

/** `SLUICE_PROGRAMS=200` tries as many random programs, for minutes. */
const count = Number(process.env.SLUICE_PROGRAMS) || 8
const programs = [
  ...Array.from({ length: count }, (_, seed) => randomProgram(seed)),
  decoderLike(12, 6),
]

test('random programs with streamed weights give the same bits at five budgets', async () => {
  for (const [seed, program] of programs.entries()) {
    const { inputs, weights } = randomValues(program, seed)
    const run = async (streaming: 'never' | 'always' | 'auto', budget?: number) => {
      const options = { device: 'cpu', weights, streaming, poison: true }
      const planner = programPlanner(program, options)
      const plan = planner.plan(budget)
      await using executable = await openProgram(plan, program, options)
      const { sample } = await executable.run(inputs)
      const again = (await executable.run(inputs)).sample
      assert.equal(again, sample, 'a second run fetches anew')
      const measured = executable.close()
      assert.is(measured.peakBytes, plan.peakBytes, `seed ${seed} ${streaming} ${budget}`)
      return { sample: sample!, plan }
    }
    const whole = await run('never')
    const options = { device: 'cpu', weights }
    const streamed = programPlanner(program, { ...options, streaming: 'always' })
    const free = streamed.plan().peakBytes
    const least = leastBudget(budget => streamed.plan(budget))
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      const { sample, plan } = await run('always', Math.floor(least + share * (free - least)))
      assert.equal(sample, whole.sample, `seed ${seed} at ${share}`)
      assert.is(plan.weights.bytes, 0)
    }
    const auto = programPlanner(program, options)
    const lowest = leastBudget(budget => auto.plan(budget))
    assert.ok(lowest <= least)
    assert.equal((await run('auto', lowest)).sample, whole.sample)
  }
})

test.run()
