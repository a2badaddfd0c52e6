import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { PipelinePlan } from '../../lib/index.js'
import { type ReportData, reportData } from '../../lib/report/data.js'
import { kinds } from '../../lib/report/kinds.js'
import { opAt, type ProgramData } from '../../lib/report/program-data.js'
import { embeddedPlan, fullSizePlan, smallestDecode, smallestPlan } from './plans.js'

const plans: readonly (readonly [string, () => Promise<PipelinePlan>])[] = [
  ['no budget', () => embeddedPlan()],
  ['a budget', () => embeddedPlan({ budget: '8.2 MiB' })],
  ['the least budget', smallestPlan],
  ['3 slices', () => embeddedPlan({ slices: 3, frames: 7 })],
  ['the decoder in the least memory', smallestDecode],
  ['full size', () => fullSizePlan()],
  ['full size in 3 GiB', () => fullSizePlan('3 GiB')],
]

const dataOf = (plan: PipelinePlan): ReportData => reportData({ plan, model: 'model', sluice: '0' })

const upTo64 = (bytes: number): number => Math.ceil(bytes / 64) * 64

interface Rect {
  start: number
  end: number
  low: number
  high: number
}

function rects({ buffers }: ProgramData): Rect[] {
  return buffers.bytes.map((bytes, i) => ({
    start: buffers.start[i]!,
    end: buffers.end[i]!,
    low: buffers.offset[i]!,
    high: buffers.offset[i]! + bytes,
  }))
}

for (const [name, plan] of plans) {
  let made: Promise<PipelinePlan> | undefined
  const make = () => {
    made ??= plan()
    return made
  }

  test(`${name}: stages and totals are the plan's`, async () => {
    const plan = await make()
    const data = dataOf(plan)
    assert.is(data.peakBytes, plan.peakBytes)
    assert.is(data.budget, plan.budget)
    assert.equal(
      data.stages.map(({ name, peakBytes, arenaBytes, weightBytes }) => [
        name,
        peakBytes,
        arenaBytes,
        weightBytes,
      ]),
      plan.stages.map(({ name, peakBytes, arenaBytes, weights }) => [
        name,
        peakBytes,
        arenaBytes,
        weights.bytes,
      ]),
    )
    for (const stage of data.stages) {
      assert.is(stage.peakBytes, stage.arenaBytes + stage.weightBytes)
      for (const program of stage.programs) {
        const own = plan.stage(stage.name).programs[program.name]!
        assert.is(program.commands, own.commands)
        assert.is(program.buffers.bytes.length, own.buffers.length)
        assert.is(program.ops.name.length, own.program.nodes.length)
        assert.is(
          program.ops.commands.reduce((a, b) => a + b, 0),
          own.commands,
        )
      }
    }
  })

  test(`${name}: live bytes reach the lower bound at the peak, and nowhere more`, async () => {
    const plan = await make()
    for (const stage of dataOf(plan).stages) {
      for (const program of stage.programs) {
        const own = plan.stage(stage.name).programs[program.name]!
        const all = rects(program)
        assert.is(program.live.length, program.steps)
        assert.is(Math.max(0, ...program.live), own.lowerBound)
        const { step, op, buffers } = program.peak
        const alive = all.flatMap(({ start, end }, i) => (start <= step && step < end ? [i] : []))
        assert.equal(
          [...buffers].sort((a, b) => a - b),
          alive,
        )
        const sum = alive.reduce((total, i) => total + upTo64(all[i]!.high - all[i]!.low), 0)
        assert.is(sum, own.lowerBound)
        assert.is(program.ops.name[op] ?? '', own.peak.op)
      }
    }
  })

  test(`${name}: no two rectangles overlap in offset and time, none leaves the arena`, async () => {
    for (const stage of dataOf(await make()).stages) {
      for (const state of stage.state) assert.ok(state.offset + state.bytes <= stage.stateBytes)
      for (const program of stage.programs) {
        const all = rects(program).sort((a, b) => a.low - b.low)
        for (const [i, a] of all.entries()) {
          assert.ok(a.low >= stage.stateBytes && a.high <= stage.arenaBytes)
          assert.ok(0 <= a.start && a.start < a.end && a.end <= program.steps)
          for (let j = i + 1; j < all.length && all[j]!.low < a.high; j++) {
            const b = all[j]!
            assert.ok(b.start >= a.end || a.start >= b.end, JSON.stringify([a, b]))
          }
        }
      }
    }
  })

  test(`${name}: groups follow one another over all steps and ops`, async () => {
    for (const stage of dataOf(await make()).stages) {
      for (const program of stage.programs) {
        let [step, op] = [0, 0]
        for (const group of program.groups) {
          assert.is(group.start, step)
          assert.is(group.firstOp, op)
          assert.is(opAt(program.groups, step), op)
          assert.ok(group.slices === 1 || group.axis !== null)
          step += group.ops * group.passes
          op += group.ops
        }
        assert.is(step, program.steps)
        assert.is(op, program.ops.name.length)
        for (const column of [...Object.values(program.buffers), ...Object.values(program.ops)])
          assert.ok([program.buffers.bytes.length, op].includes(column.length))
        for (const kind of program.buffers.kind)
          assert.ok(kinds.some(({ id }) => id === program.strings[kind]))
      }
    }
  })
}

test('measured values stand with the stages that ran', async () => {
  const plan = await embeddedPlan()
  const measured = [
    { stage: 'text', predictedBytes: 1, measuredBytes: plan.stage('text').peakBytes, seconds: 2 },
    { stage: 'denoise', predictedBytes: 1, measuredBytes: 5, seconds: 3 },
  ]
  const { stages } = reportData({ plan, model: 'model', sluice: '0', measured })
  assert.equal(
    stages.map(({ measuredBytes, seconds }) => [measuredBytes, seconds]),
    [
      [plan.stage('text').peakBytes, 2],
      [5, 3],
      [undefined, undefined],
    ],
  )
})

test('the same plan gives the same data', async () => {
  const [a, b] = [dataOf(await embeddedPlan()), dataOf(await embeddedPlan())]
  assert.is(JSON.stringify(a), JSON.stringify(b))
})

test.run()
