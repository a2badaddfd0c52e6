// Attention that goes head by head: of queries, keys and values only those of some heads are there at a time.
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { leastBudget } from '../../lib/planner/least-budget.js'
import type { StagePlan } from '../../lib/planner/plan.js'
import { decodeStage, encodeStage } from '../../lib/planner/plan-file.js'
import { add, attention, linear, type Program, program } from '../../lib/program/index.js'
import { openProgram, programPlanner } from '../../lib/runtime/executable.js'
import { checkPlan } from '../support/memory-model.js'
import { randomValues } from '../support/random-program.js'

/** Attention that is wider than what it reads and writes, so that its queries, keys and values are most of the memory. */
function wideAttention(shape: readonly number[], wide: number, heads: number): Program {
  return program(`wide-${shape.join('x')}`, ({ input, weight }) => {
    const narrow = shape[3]!
    const source = input('x', shape)
    const [q, k, v] = ['q', 'k', 'v'].map(name =>
      linear(source, weight(name, [wide, narrow]), { bias: weight(`${name}.bias`, [wide]) }),
    )
    const seen = attention(q!, k!, v!, { heads })
    return { sample: add(linear(seen, weight('out', [narrow, wide])), source) }
  })
}

const cases: readonly (readonly [shape: readonly number[], wide: number, heads: number])[] = [
  [[4, 12, 10, 16], 128, 8],
  [[3, 16, 9, 12], 240, 6],
  [[2, 19, 14, 20], 192, 12],
]

const runsOf = (plan: StagePlan) =>
  plan.programs.main!.groups.flatMap(({ inner, id }) =>
    inner.flatMap((run, i) => {
      const chunk = plan.programs.main!.slicings[id]!.inner[i]!
      return run.axis === 3 && chunk < run.extent ? [{ ...run, chunk }] : []
    }),
  )

test('slices of heads hold less than all queries, keys and values, and give the same bits', async () => {
  for (const [shape, wide, heads] of cases) {
    const wideProgram = wideAttention(shape, wide, heads)
    const { inputs, weights } = randomValues(wideProgram, wide)
    const options = { device: 'cpu', weights, streaming: 'never', poison: true } as const
    const planner = programPlanner(wideProgram, options)
    const run = async (plan: StagePlan) => {
      await using executable = await openProgram(plan, wideProgram, options)
      const { sample } = await executable.run(inputs)
      assert.is(executable.close().peakBytes, plan.peakBytes)
      return sample!
    }
    const least = planner.plan(leastBudget(budget => planner.plan(budget)))
    const [slices] = runsOf(least)
    assert.ok(slices, `${shape}: expected slices of heads`)
    assert.is(slices!.granule % 16, 0)
    assert.is(slices!.granule % (wide / heads), 0)
    assert.is(slices!.chunk % slices!.granule, 0)
    const whole = planner.plan()
    assert.equal(await run(least), await run(whole), `${shape}`)
    assert.equal(checkPlan(least.programs.main!), [], `${shape}`)
    // Rows alone need all keys and values.
    const positions = shape.slice(0, 3).reduce((a, b) => a * b, 1)
    assert.ok(least.arenaBytes < whole.arenaBytes - 4 * positions * wide, `${shape}`)
  }
})

test('a plan in slices of heads comes back from its data, and not with slices that cut a head', () => {
  const [shape, wide, heads] = cases[1]!
  const wideProgram = wideAttention(shape, wide, heads)
  const { weights } = randomValues(wideProgram, 1)
  const planner = programPlanner(wideProgram, { device: 'cpu', weights, streaming: 'never' })
  const plan = planner.plan(leastBudget(budget => planner.plan(budget)))
  const spec = { name: plan.name, state: plan.state, programs: { main: wideProgram } }
  const options = { target: plan.target, weightDtype: () => 'f32' as const }
  const record = JSON.parse(JSON.stringify(encodeStage(plan)))
  assert.equal(JSON.parse(JSON.stringify(encodeStage(decodeStage(record, spec, options)))), record)
  for (const change of [{ granule: 16 }, { granule: 1 }, { granule: 40 }]) {
    const damaged = JSON.parse(JSON.stringify(record))
    for (const { inner } of damaged.programs[0].groups)
      for (const run of inner) if (run.axis === 3) Object.assign(run, change)
    assert.throws(() => decodeStage(damaged, spec, options), /plan of stage .* expected/)
  }
})

test.run()
