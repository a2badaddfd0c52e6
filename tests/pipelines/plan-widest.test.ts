import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { AnimateDiff, BudgetError } from '../../lib/index.js'
import type { Staged } from '../../lib/pipelines/pipeline.js'
import { planWidest, widestFirst } from '../../lib/pipelines/plan-widest.js'
import { withRehash } from '../../lib/pipelines/rehash-stage.js'
import { rehashSummary } from '../../lib/pipelines/rehash-summary.js'
import { planStage, type StagePlan, type StageSpec } from '../../lib/planner/plan.js'
import { tensorBytes } from '../../lib/program/index.js'
import { embedded } from '../support/checkpoints.js'

const feature = 'up_blocks.2.motion_modules.1'
const pipeline = await AnimateDiff.load(undefined, { device: 'cpu' })
/** What a pipeline stages, without a rehash of its own. */
const plain = (pipeline as unknown as { stagesFor(shape: object): Staged }).stagesFor({
  frames: 16,
  height: 64,
  width: 64,
  steps: 4,
  guidance: 2,
})
const staged = (wish: string) => withRehash(plain, 2, wish, embedded)

const stateOf = (stages: readonly StageSpec[]) =>
  Object.values(stages.find(({ name }) => name === 'denoise')!.state).reduce(
    (sum, spec) => sum + tensorBytes(spec),
    0,
  )

/** Stands for the planner: a stage fits where its state does. */
const fits = (budget: number) => (stage: StageSpec) => {
  const needed = stage.name === 'denoise' ? stateOf([stage]) : 0
  const shortfall = { needed, allowed: budget, stage: stage.name, op: '', tensor: '' }
  if (needed > budget) throw new BudgetError(`${needed}`, shortfall)
  return { name: stage.name } as StagePlan
}

test('storage left open is narrowed step by step, at last without rehash', () => {
  const ladder = [...widestFirst(staged(`paper:2,feature=${feature}`))]
  assert.equal(
    ladder.map(({ rehash }) => rehash?.run.storage),
    ['f32', 'f16', 'int8', undefined],
  )
  const tensor = 16 * 8 * 8 * 48 * 4
  assert.equal(
    ladder.map(({ rehash }) => rehash?.cacheBytes),
    [2 * tensor, tensor, (2 * tensor * 14) / 48, undefined],
  )
  const needs = ladder.map(({ stages }) => stateOf(stages))
  for (const [i, need] of needs.entries()) {
    assert.is(planWidest(ladder[0]!, fits(need)).staged, ladder[i])
    assert.is(planWidest(ladder[0]!, fits(need + 1)).staged, ladder[i])
  }
  assert.throws(
    () => planWidest(ladder[0]!, fits(needs[3]! - 1)),
    (e: Error) => e instanceof BudgetError && e.needed === needs[3],
  )
})

test('a storage that was asked for is kept, or rehash is off', () => {
  const ladder = [...widestFirst(staged(`paper:2,feature=${feature},storage=f16`))]
  assert.equal(
    ladder.map(({ rehash }) => rehash?.run.storage),
    ['f16', undefined],
  )
})

test('what the budget changed is said', () => {
  const [f32, f16] = [...widestFirst(staged(`paper:2,feature=${feature}`))]
  const target = { backend: 'cpu', threads: 2 }
  const plans = f16!.stages.map(stage => planStage(stage, { target, weightDtype: () => 'f16' }))
  const narrowed = rehashSummary(f32!.rehash!, f16!.rehash, plans)
  assert.is(narrowed.note, 'kept as f16: the budget cannot hold f32')
  assert.is(narrowed.storage, 'f16')
  const off = rehashSummary(f32!.rehash!, undefined, plans)
  assert.is(off.note, 'off: the budget cannot hold its cache of 384 KiB, nor a narrower one')
  assert.equal([off.feature, off.cacheBytes, off.speedup], [undefined, 0, 1])
  assert.is(rehashSummary(f16!.rehash!, f16!.rehash, plans).note, undefined)
})

test.run()
