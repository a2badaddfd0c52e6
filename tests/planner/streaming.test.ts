// Weights that come with their ops: plans that hold them when they are needed, and no longer.
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { BudgetError } from '../../lib/errors.js'
import {
  type PlanOptions,
  planStage,
  type StagePlan,
  StagePlanner,
} from '../../lib/planner/plan.js'
import { decodeStage, encodeStage } from '../../lib/planner/plan-file.js'
import { Streaming } from '../../lib/planner/streaming.js'
import type { Program } from '../../lib/program/graph.js'
import { checkPlan } from '../support/memory-model.js'
import { networks } from '../support/networks.js'
import { decoderLike, randomProgram, temporalDecoderLike } from '../support/random-program.js'

const specOf = (program: Program) => ({
  name: program.name,
  state: {},
  programs: { main: program },
})

const optionsFor = (backend: string): PlanOptions => ({
  target: { backend, threads: backend === 'cpu' ? 2 : 1 },
  weightDtype: () => 'f16',
  streaming: 'always',
})

function needed(planner: StagePlanner): number {
  try {
    return planner.plan(0).peakBytes
  } catch (error) {
    assert.instance(error, BudgetError)
    return (error as BudgetError).needed
  }
}

function checkStreamed(plan: StagePlan, name: string): void {
  const { weights, target } = plan
  assert.is(weights.bytes, 0, name)
  assert.is(plan.peakBytes, plan.arenaBytes)
  assert.is(plan.hostBytes, target.backend === 'cpu' ? 0 : weights.streamedBytes)
  const main = plan.programs.main!
  assert.equal(checkPlan(main, new Streaming(weights, target.backend)), [], name)
}

const programs = [
  ...Array.from({ length: 6 }, (_, seed) => randomProgram(seed)),
  decoderLike(9, 5, 24),
  temporalDecoderLike(3, 8, 6),
]

test('every weight is there whenever its op runs, at any budget, for both ways to stream', () => {
  for (const backend of ['cpu', 'cuda']) {
    for (const [i, program] of programs.entries()) {
      const planner = new StagePlanner(specOf(program), optionsFor(backend))
      const free = planner.plan()
      const least = needed(planner)
      assert.ok(least <= free.peakBytes)
      for (const share of [0, 0.5, 1]) {
        const budget = Math.floor(least + share * (free.peakBytes - least))
        const plan = planner.plan(budget)
        assert.ok(plan.peakBytes <= budget)
        checkStreamed(plan, `${backend} ${i} at ${share}`)
      }
    }
  }
})

test('a streamed plan is read back from its data, and not where a weight has lost its place', () => {
  for (const backend of ['cpu', 'cuda']) {
    for (const program of programs.slice(0, 6)) {
      const options = optionsFor(backend)
      const planner = new StagePlanner(specOf(program), options)
      const plan = planner.plan(needed(planner))
      const record = JSON.parse(JSON.stringify(encodeStage(plan)))
      const back = decodeStage(record, specOf(program), options)
      assert.equal(JSON.parse(JSON.stringify(encodeStage(back))), record)
      checkStreamed(back, 'read back')
      const main = record.programs[0]
      const at = main.buffers.findIndex((b: { tensors: number[] }) => b.tensors[0]! < 0)
      const changed = (change: object) => ({
        ...record,
        programs: [
          {
            ...main,
            buffers: main.buffers.map((b: object, i: number) =>
              i === at ? { ...b, ...change } : b,
            ),
          },
        ],
      })
      const { bytes, start, end } = main.buffers[at]
      for (const change of [
        { bytes: bytes - 2 },
        { start: start + 1, end: end + 1 },
        { tensors: [] },
      ])
        assert.throws(
          () => decodeStage(changed(change), specOf(program), options),
          /plan of stage .* expected/,
        )
      assert.throws(
        () => decodeStage({ ...record, streamed: [] }, specOf(program), options),
        /the weights/,
      )
    }
  }
})

test('a budget streams only as much as it must, the ops that compute longest for a byte first', () => {
  const program = networks['clip text']!({ frames: 1, rows: 64, cols: 64 })
  const planner = new StagePlanner(specOf(program), { ...optionsFor('cuda'), streaming: 'auto' })
  const free = planner.plan()
  assert.is(free.weights.streamed.length, 0)
  const least = needed(planner)
  assert.ok(least < 0.7 * free.peakBytes, `${least} of ${free.peakBytes}`)
  let streamed = 0
  for (const share of [0.9, 0.6, 0.3, 0]) {
    const budget = Math.ceil(least + share * (free.peakBytes - least))
    const plan = planner.plan(budget)
    assert.ok(plan.peakBytes <= budget)
    assert.ok(plan.weights.streamedBytes >= streamed)
    streamed = plan.weights.streamedBytes
    assert.ok(plan.programs.main!.work.seconds >= free.programs.main!.work.seconds)
  }
  assert.ok(streamed > 0)
})

test('streams where fine slices would cost more than that', () => {
  const program = networks['vae decoder']!({ frames: 1, rows: 128, cols: 128 })
  const [never, auto] = (['never', 'auto'] as const).map(
    streaming =>
      new StagePlanner(specOf(program), { ...optionsFor('cuda'), spill: false, streaming }),
  )
  const budget = needed(never!)
  const [sliced, streamed] = [never!.plan(budget), auto!.plan(budget)]
  assert.ok(streamed.peakBytes <= budget)
  assert.ok(streamed.weights.streamedBytes > 0)
  assert.ok(streamed.programs.main!.work.seconds < sliced.programs.main!.work.seconds)
})

test('never streams where it is told so', () => {
  const options = { ...optionsFor('cuda'), streaming: 'never' as const }
  const program = randomProgram(2)
  const free = planStage(specOf(program), options)
  assert.ok(free.weights.bytes > 0)
  assert.throws(
    () => planStage(specOf(program), { ...options, budget: free.weights.bytes }),
    (error: unknown) => error instanceof BudgetError,
  )
  assert.throws(
    () => planStage(specOf(program), { ...options, streaming: 'maybe' as never }),
    /streaming: expected one of auto, never, always, got maybe/,
  )
})

test.run()
