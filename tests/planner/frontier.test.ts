import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { BudgetError } from '../../lib/errors.js'
import { frontierOf, type PlanUnder, undominated } from '../../lib/planner/frontier.js'
import { planStage } from '../../lib/planner/plan.js'
import type { Program } from '../../lib/program/graph.js'
import { frontierChart } from '../../lib/report/frontier.js'
import { decoderLike, randomProgram } from '../support/random-program.js'

function planner(name: string, program: Program): PlanUnder {
  return budget =>
    planStage(
      { name, state: {}, programs: { main: program }, runs: { main: 3 } },
      { target: { backend: 'cpu', threads: 2 }, weightDtype: () => 'f16', budget },
    )
}

function least(plan: PlanUnder): number {
  try {
    return plan(0).peakBytes
  } catch (error) {
    assert.instance(error, BudgetError)
    return (error as BudgetError).needed
  }
}

const programs = [randomProgram(2), randomProgram(31), randomProgram(57), decoderLike(16, 6, 48)]

test('a frontier runs from the least memory to the fastest, each point better in one way', () => {
  for (const [i, program] of programs.entries()) {
    const plan = planner(`${i}`, program)
    const { points } = frontierOf([plan])
    const free = plan()
    assert.ok(points[0]!.peakBytes <= least(plan))
    assert.ok(points[points.length - 1]!.peakBytes <= free.peakBytes)
    assert.ok(points[points.length - 1]!.seconds <= 3 * free.programs.main!.work.seconds)
    for (let p = 1; p < points.length; p++) {
      assert.ok(points[p]!.peakBytes > points[p - 1]!.peakBytes)
      assert.ok(points[p]!.seconds < points[p - 1]!.seconds)
    }
  }
})

test('every peak is enough as a budget', () => {
  for (const program of programs) {
    const plan = planner('stage', program)
    for (const { peakBytes } of frontierOf([plan], 6).points)
      assert.ok(plan(peakBytes).peakBytes <= peakBytes)
  }
})

test('a point is what planning every stage under its peak gives', () => {
  const stages = programs.map((program, i) => planner(`${i}`, program))
  for (const { peakBytes, seconds } of frontierOf(stages).points) {
    const sum = stages
      .map(plan => 3 * plan(peakBytes).programs.main!.work.seconds)
      .reduce((total, each) => total + each, 0)
    assert.ok(Math.abs(sum - seconds) <= 1e-4 * seconds, `${peakBytes}: ${sum} and ${seconds}`)
  }
})

test('so is each point of a stage alone, whatever its last buffer leaves of a multiple of 64 bytes', () => {
  const decoders = [decoderLike(12, 6, 48), decoderLike(9, 11), decoderLike(24, 8, 24)]
  for (const program of [...decoders, randomProgram(8), randomProgram(13)]) {
    const plan = planner(program.name, program)
    for (const { peakBytes, seconds } of frontierOf([plan]).points) {
      const again = 3 * plan(peakBytes).programs.main!.work.seconds
      assert.ok(
        Math.abs(again - seconds) <= 1e-4 * seconds,
        `${program.name} ${peakBytes}: ${again}`,
      )
    }
  }
})

test('more memory is never slower', () => {
  for (const [i, program] of programs.entries()) {
    const plan = planner(`${i}`, program)
    const [low, high] = [least(plan), plan().peakBytes]
    let slowest = Number.POSITIVE_INFINITY
    for (let step = 0; step <= 8; step++) {
      const { seconds } = plan(Math.ceil(low + ((high - low) * step) / 8)).programs.main!.work
      assert.ok(seconds <= slowest, `${i}, ${step} of 8: ${seconds} after ${slowest}`)
      slowest = seconds
    }
  }
})

test('a frontier is the same twice', () => {
  const stages = programs.map((program, i) => planner(`${i}`, program))
  assert.equal(frontierOf(stages), frontierOf(stages))
})

test('stages share one budget: the largest peak, and the sum of their times', () => {
  const stages = programs.map((program, i) => planner(`${i}`, program))
  const { points, cost } = frontierOf(stages)
  assert.is(cost, 'built in: roofline')
  assert.is(points[0]!.stages.length, stages.length)
  for (const point of points) {
    assert.is(point.peakBytes, Math.max(...point.stages.map(({ peakBytes }) => peakBytes)))
    const sum = point.stages.reduce((total, { seconds }) => total + seconds, 0)
    assert.ok(Math.abs(point.seconds - sum) < 1e-12)
    assert.is(point.slices, Math.max(...point.stages.map(({ slices }) => slices)))
  }
  assert.equal(undominated(points), points)
  const needed = Math.max(...stages.map(plan => least(plan)))
  assert.is(points[0]!.peakBytes, needed)
})

test('what another beats is dropped', () => {
  const point = (peakBytes: number, seconds: number) => ({ peakBytes, seconds })
  const all = [point(4, 1), point(2, 3), point(3, 3), point(2, 4), point(5, 1), point(1, 9)]
  assert.equal(undominated(all), [point(1, 9), point(2, 3), point(4, 1)])
  assert.equal(undominated([]), [])
})

test('the chart marks every point and loads nothing', () => {
  const frontier = frontierOf(programs.map((program, i) => planner(`<${i}>`, program)))
  const svg = frontierChart(frontier, 'a & b')
  assert.is(svg.match(/<circle/g)!.length, frontier.points.length)
  assert.is(svg.match(/<title>/g)!.length, frontier.points.length)
  assert.match(svg, 'a &#38; b')
  assert.not.match(svg, /NaN|Infinity|undefined/)
  assert.not.match(svg, /https?:(?!\/\/www\.w3\.org\/2000\/svg)|url\(|href/)
  const one = { ...frontier, points: frontier.points.slice(0, 1) }
  assert.not.match(frontierChart(one, 'one'), /NaN|Infinity/)
})

test.run()
