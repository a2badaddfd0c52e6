import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { AbortError, FileError } from '../../lib/errors.js'
import { CommandCosts, type CostModel, roofline } from '../../lib/planner/cost.js'
import {
  type CostTable,
  checkCostTable,
  commandShape,
  costTableVersion,
  growing,
  interpolate,
  tableModel,
} from '../../lib/planner/cost-table.js'
import { formGroups, unsliced } from '../../lib/planner/group.js'
import { planStage, prepareStage } from '../../lib/planner/plan.js'
import type { Program } from '../../lib/program/graph.js'
import type { Target } from '../../lib/program/op.js'
import { wholeRegion, withAxis } from '../../lib/program/region.js'
import { calibrate } from '../../lib/runtime/calibrate.js'
import { measuredKinds } from '../../lib/runtime/calibrate-kinds.js'
import { calibrationPath, costModel, writeCalibration } from '../../lib/runtime/calibration.js'
import { scratch } from '../io/scratch.js'
import { randomNumbers, randomProgram } from '../support/random-program.js'

const { path, list, clean } = scratch('cost')
const environment = { ...process.env }
test.after.each(() => {
  process.env.SLUICE_CALIBRATION = environment.SLUICE_CALIBRATION ?? 'none'
  process.env.XDG_CACHE_HOME = environment.XDG_CACHE_HOME ?? ''
})
test.after(clean)

const target: Target = { backend: 'cpu', threads: 2 }

/** A table of every measured kind with times that a seed makes up: rising, with noise. */
function madeUp(seed: number, noise = 0.2): CostTable {
  const next = randomNumbers(seed)
  const grids = Object.fromEntries(
    measuredKinds.map(({ kind, axes }) => {
      let seconds = [1e-9 * (0.5 + next())]
      for (const axis of axes)
        seconds = seconds.flatMap(before =>
          axis.map(extent => before * extent ** 0.9 * (1 + noise * next())),
        )
      return [kind, { axes, seconds }]
    }),
  )
  return {
    format: 'sluice-calibration',
    version: costTableVersion,
    cpu: 'made up',
    isa: 'avx2',
    threads: 2,
    machine: { flopsPerSecond: 1e11, bytesPerSecond: 1e10, secondsPerCommand: 2e-6 },
    activations: { silu: 1e-9, gelu: 2e-9 },
    grids,
  }
}

const nodesOf = (program: Program) =>
  prepareStage(
    { name: 'test', state: {}, programs: { main: program } },
    { target, weightDtype: () => 'f16' },
  ).prepared[0]!.program.nodes

test('a grid gives its own seconds, and powers between and beyond', () => {
  const axes = [
    [2, 16, 64],
    [1, 10],
  ]
  const power = (x: number, y: number) => 3e-6 * x ** 0.7 * y ** 1.3
  const grid = { axes, seconds: axes[0]!.flatMap(x => axes[1]!.map(y => power(x, y))) }
  for (const x of axes[0]!)
    for (const y of axes[1]!)
      assert.ok(Math.abs(interpolate(grid, [x, y]) / power(x, y) - 1) < 1e-12)
  assert.ok(Math.abs(interpolate(grid, [23, 4]) / power(23, 4) - 1) < 1e-12)
  // Beyond the grid, time is proportional to the work.
  assert.ok(Math.abs(interpolate(grid, [128, 40]) / (8 * power(64, 10)) - 1) < 1e-12)
  assert.ok(Math.abs(interpolate(grid, [1, 1]) / (power(2, 1) / 2) - 1) < 1e-12)
  const single = { axes: [[8]], seconds: [5] }
  assert.is(interpolate(single, [4]), 2.5)
})

test('noise is lowered to what more work takes', () => {
  const { seconds } = growing({
    axes: [
      [1, 2, 3],
      [1, 2],
    ],
    seconds: [1, 9, 2, 3, 4, 5],
  })
  assert.equal(seconds, [1, 3, 2, 3, 4, 5])
})

test('more of a node never takes less time', () => {
  for (let seed = 0; seed < 40; seed++) {
    const model = tableModel(madeUp(seed, 2), 'made up')
    for (const node of nodesOf(randomProgram(seed))) {
      const whole = wholeRegion(node.output.shape)
      for (const axis of whole.keys()) {
        let before = 0
        const extent = node.output.shape[axis]!
        // Channels of an op come whole.
        if (axis === whole.length - 1) continue
        for (let stop = 1; stop <= extent; stop++) {
          const seconds = model.seconds(node, withAxis(whole, axis, [0, stop]), 'f16')
          const least = before * (1 - 1e-9)
          assert.ok(seconds >= least, `seed ${seed} ${node.op} axis ${axis} ${stop}: ${seconds}`)
          before = seconds
        }
      }
    }
  }
})

test('a group takes the sum of its commands, and no less in more slices', () => {
  for (const model of [roofline(target), tableModel(madeUp(7), 'made up')]) {
    for (let seed = 0; seed < 30; seed++) {
      const costs = new CommandCosts(model, () => 'f16')
      for (const group of formGroups({
        ...randomProgram(seed),
        nodes: nodesOf(randomProgram(seed)),
      })) {
        const free = unsliced(group)
        const whole = group.nodes.reduce(
          (sum, node) => sum + costs.command(node, wholeRegion(node.output.shape)),
          0,
        )
        assert.ok(Math.abs(costs.group(group, free) / whole - 1) < 1e-9)
        for (const chunk of [1, 2, 3]) {
          if (chunk >= group.extent) continue
          const sliced = costs.group(group, { ...free, chunk })
          assert.ok(sliced >= whole * (1 - 1e-9), `seed ${seed}: ${sliced} < ${whole}`)
        }
        if (group.axis === 1 && group.extent > 2) {
          const bands = costs.group(group, { ...free, bands: group.extent })
          assert.ok(Math.abs(bands / costs.group(group, { ...free, chunk: 1 }) - 1) < 1e-9)
        }
      }
    }
  }
})

test('every measured kind is one that commands have, with as many extents', () => {
  const kinds = new Map(measuredKinds.map(kind => [kind.kind, kind]))
  const seen = new Set<string>()
  for (const { kind, axes, op, weights, program } of measuredKinds) {
    const extents = axes.map(axis => axis[0]!)
    const node = nodesOf(program(extents)).find(node => node.op === op)!
    const shape = commandShape(node, wholeRegion(node.output.shape), weights)!
    assert.is(shape.kind, kind)
    if (kind !== 'combine') assert.equal(shape.extents, extents, kind)
    seen.add(kind)
  }
  assert.is(seen.size, kinds.size)
})

test('the same table gives the same plan, which names it', () => {
  const plan = (cost: CostModel) =>
    planStage(
      { name: 'test', state: {}, programs: { main: randomProgram(5) } },
      { target, weightDtype: () => 'f16', cost },
    )
  const first = plan(tableModel(madeUp(1), 'first'))
  assert.equal(JSON.stringify(first), JSON.stringify(plan(tableModel(madeUp(1), 'first'))))
  assert.is(first.cost, 'first')
  assert.is(plan(roofline(target)).cost, 'built in: roofline')
  const other = plan(tableModel(madeUp(2), 'other'))
  assert.is.not(other.programs.main!.work.seconds, first.programs.main!.work.seconds)
})

test('a damaged table is refused', () => {
  const table = madeUp(3)
  assert.is(checkCostTable(JSON.parse(JSON.stringify(table))), undefined)
  const grid = table.grids.unary!
  const damages: unknown[] = [
    undefined,
    [],
    { ...table, format: 'another' },
    { ...table, version: costTableVersion + 1 },
    { ...table, threads: 0 },
    { ...table, machine: { ...table.machine, bytesPerSecond: -1 } },
    { ...table, machine: undefined },
    { ...table, activations: { silu: Number.NaN } },
    { ...table, grids: undefined },
    { ...table, grids: { unary: { ...grid, seconds: grid.seconds.slice(1) } } },
    { ...table, grids: { unary: { ...grid, axes: [[2, 1], grid.axes[1]] } } },
    { ...table, grids: { unary: { ...grid, seconds: grid.seconds.map(() => 0) } } },
    { ...table, grids: { unary: {} } },
    { ...table, grids: { unary: null } },
    { ...table, grids: { conv3: grid } },
  ]
  for (const damaged of damages)
    assert.type(checkCostTable(damaged), 'string', JSON.stringify(damaged)?.slice(0, 80))
})

test('a table in the cache is used, one that is damaged is not, and a named one must be sound', async () => {
  delete process.env.SLUICE_CALIBRATION
  process.env.XDG_CACHE_HOME = path('cache')
  const file = calibrationPath(2)!
  assert.match(file, /cache.sluice.calibration-[0-9a-f]{8}-\w+-2\.json$/)
  assert.is(costModel(target).name, 'built in: roofline')
  await writeCalibration(file, madeUp(4))
  assert.match(costModel(target).name, /^calibration calibration-.*-2\.json$/)
  assert.is(costModel({ ...target, threads: 3 }).name, 'built in: roofline')
  assert.is(costModel({ ...target, backend: 'cuda' }).name, 'built in: roofline')
  process.env.SLUICE_CALIBRATION = 'none'
  assert.is(costModel(target).name, 'built in: roofline')

  delete process.env.SLUICE_CALIBRATION
  process.env.XDG_CACHE_HOME = path('damaged')
  mkdirSync(dirname(calibrationPath(2)!), { recursive: true })
  writeFileSync(calibrationPath(2)!, '{"format": "sluice-cal')
  assert.match(costModel(target).name, /^built in: roofline, since calibration-.* cannot be used/)
  process.env.SLUICE_CALIBRATION = calibrationPath(2)!
  assert.throws(
    () => costModel(target),
    (error: Error) => error instanceof FileError,
  )
  process.env.SLUICE_CALIBRATION = path('missing.json')
  assert.throws(
    () => costModel(target),
    (error: Error) => error instanceof FileError,
  )
  process.env.SLUICE_CALIBRATION = file
  assert.match(costModel(target).name, /calibration/)
  assert.throws(() => costModel({ ...target, threads: 1 }), /expected a table for 1 threads/)
})

test('a measurement makes a table that plans can use, and stops when asked', async () => {
  const kinds = measuredKinds
    .filter(({ kind }) => ['conv3.f16', 'norm_fold', 'attention_time', 'affine'].includes(kind))
    .map(kind => ({ ...kind, axes: kind.axes.map(axis => axis.slice(0, 2)) }))
  const seen: number[] = []
  const table = await calibrate({ threads: 1, kinds, onProgress: done => seen.push(done) })
  assert.is(checkCostTable(table), undefined)
  assert.is(table.threads, 1)
  assert.equal(Object.keys(table.grids).sort(), kinds.map(({ kind }) => kind).sort())
  assert.is(seen[seen.length - 1], 8 + 2 + 8 + 4)
  const file = path('measured.json')
  await writeCalibration(file, table)
  process.env.SLUICE_CALIBRATION = file
  assert.is(costModel({ backend: 'cpu', threads: 1 }).name, 'calibration measured.json')
  assert.ok(list().every(name => !name.endsWith('.tmp')))

  const stop = new AbortController()
  const stopped = calibrate({
    threads: 1,
    signal: stop.signal,
    onProgress: () => stop.abort(),
  })
  const error = await stopped.catch(error => error)
  assert.instance(error, AbortError)
})

test.run()
