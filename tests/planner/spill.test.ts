// Features that wait in the host's memory, beside a GPU.
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { leastBudget } from '../../lib/planner/least-budget.js'
import { type PlanOptions, StagePlanner } from '../../lib/planner/plan.js'
import { decodeStage, encodeStage } from '../../lib/planner/plan-file.js'
import { Streaming } from '../../lib/planner/streaming.js'
import { type Program, tensorBytes } from '../../lib/program/index.js'
import { checkPlan } from '../support/memory-model.js'
import { skipLike } from '../support/random-program.js'

const specOf = (program: Program) => ({
  name: program.name,
  state: {},
  programs: { main: program },
})

const options: PlanOptions = {
  target: { backend: 'cuda', threads: 1 },
  weightDtype: () => 'f16',
  activations: 'f16',
  streaming: 'never',
  recompute: 0,
}

const shapes: readonly [frames: number, rows: number, cols: number][] = [
  [1, 12, 8],
  [3, 8, 6],
  [5, 9, 7],
]

test('what waits on the host leaves the device, at the price of its copies', () => {
  for (const shape of shapes) {
    const program = skipLike(...shape)
    const kept = new StagePlanner(specOf(program), { ...options, spill: false })
    const free = new StagePlanner(specOf(program), options)
    const [least, without] = [free, kept].map(planner => leastBudget(b => planner.plan(b)))
    assert.ok(least! < without!, `${shape}: ${least} of ${without}`)
    const arena = (planner: StagePlanner, budget?: number) => planner.plan(budget).arenaBytes
    if (shape[0] > 1) assert.ok(arena(free, least) < 0.9 * arena(kept, without), `${shape}`)
    const plan = free.plan(least!)
    assert.is(plan.peakBytes, least)
    const main = plan.programs.main!
    const away = main.program.nodes.filter(({ output }) => output.host)
    assert.ok(away.length > 0)
    const bytes = away.reduce((sum, { output }) => sum + tensorBytes(output), 0)
    assert.ok(plan.hostBytes >= bytes && plan.hostBytes < bytes + 256 * away.length)
    assert.ok(main.work.seconds > kept.plan(without).programs.main!.work.seconds)
    // Nothing is spilled where there is room, though at the very least without it a plan that spills is found sooner.
    assert.is(free.plan(Math.ceil(1.05 * without!)).hostBytes, 0)
    assert.is(free.plan().hostBytes, 0)
  }
})

test('every read finds its element, and the plan is read back from its data', () => {
  for (const shape of shapes) {
    for (const streaming of ['never', 'always'] as const) {
      const program = skipLike(...shape)
      const own = { ...options, streaming }
      const planner = new StagePlanner(specOf(program), own)
      const plan = planner.plan(leastBudget(budget => planner.plan(budget)))
      const streams = new Streaming(plan.weights, 'cuda')
      assert.equal(checkPlan(plan.programs.main!, streams), [], `${shape} ${streaming}`)
      const record = JSON.parse(JSON.stringify(encodeStage(plan)))
      const back = decodeStage(record, specOf(program), own)
      assert.equal(JSON.parse(JSON.stringify(encodeStage(back))), record)
      assert.throws(
        () => decodeStage({ ...record, hostBytes: 0 }, specOf(program), own),
        /on the host/,
      )
    }
  }
})

test('the memory of a CPU is the host: nothing is spilled there', () => {
  const program = skipLike(3, 8, 6)
  const target = { backend: 'cpu', threads: 2 }
  const planner = new StagePlanner(specOf(program), { ...options, activations: 'f32', target })
  const plan = planner.plan(leastBudget(budget => planner.plan(budget)))
  assert.is(plan.hostBytes, 0)
  assert.not.ok(plan.programs.main!.program.nodes.some(({ op }) => op === 'move'))
})

test.run()
