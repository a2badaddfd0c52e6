import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { AnimateDiff, formatBytes } from '../../lib/index.js'
import { alternativesOf } from '../../lib/report/alternatives.js'
import { reportData } from '../../lib/report/data.js'
import { explainText } from '../../lib/report/explain.js'
import { reportPage } from '../../lib/report/page.js'
import { embeddedPlan } from './plans.js'

const device = { device: 'cpu', threads: 2 }

async function planAll() {
  const plan = await embeddedPlan()
  const pipeline = await AnimateDiff.load(undefined, device)
  return {
    plan,
    found: await alternativesOf(plan, {
      smallestBudget: () => pipeline.smallestBudget(),
      plan: async (change, budget) =>
        (await AnimateDiff.load(undefined, { ...device, budget })).plan(change),
    }),
  }
}

let all: ReturnType<typeof planAll> | undefined
const alternatives = () => {
  all ??= planAll()
  return all
}

test('every alternative lowers the peak and is what planning it gives', async () => {
  const { plan, found } = await alternatives()
  assert.equal([...new Set(found.map(({ kind }) => kind))], ['budget', 'frames', 'size'])
  for (const { kind, options, peakBytes, stages, time } of found) {
    const numbers = options.match(/\d+/g)!.map(Number)
    const [first, second] = numbers
    const budget = kind === 'budget' ? first : undefined
    const change = { budget: {}, frames: { frames: first }, size: { width: first, height: second } }
    const other = (await AnimateDiff.load(undefined, { ...device, budget })).plan(
      change[kind as keyof typeof change],
    )
    assert.is(other.peakBytes, peakBytes)
    assert.ok(peakBytes < plan.peakBytes)
    assert.is(Math.max(...stages.map(stage => stage.peakBytes)), peakBytes)
    assert.ok(kind === 'budget' ? time >= 1 : time < 1)
  }
})

test('the text names what holds each peak and what would lower it', async () => {
  const { plan, found } = await alternatives()
  const data = reportData({ plan, model: 'model', sluice: '0', alternatives: found })
  const text = explainText(data)
  for (const stage of plan.stages) {
    const [largest] = Object.values(stage.programs).sort((a, b) => b.bytes - a.bytes)
    assert.match(text, `${stage.name}: ${formatBytes(stage.peakBytes)} = weights`)
    assert.match(text, largest!.peak.op)
  }
  for (const { change, peakBytes, options } of found)
    for (const part of [change, formatBytes(peakBytes), options]) assert.match(text, part)
  assert.match(reportPage(data), 'What would lower the peak')
})

test('without other plans there is no advice', async () => {
  const text = explainText(reportData({ plan: await embeddedPlan(), model: 'model', sluice: '0' }))
  assert.match(text, 'largest tensors')
  assert.not.match(text, 'would lower')
})

test.run()
