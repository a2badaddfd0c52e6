import { existsSync, readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Frontier } from '../../lib/index.js'
import { calibrate } from '../../lib/runtime/calibrate.js'
import { measuredKinds } from '../../lib/runtime/calibrate-kinds.js'
import { writeCalibration } from '../../lib/runtime/calibration.js'
import { scratch } from '../io/scratch.js'
import { sluice, start } from '../support/cli.js'

const { path, clean } = scratch('frontier')
test.after(clean)

const size = ['--frames', '4', '--steps', '3', '--threads', '2']

test('the frontier as a table, JSON and a chart', async () => {
  const chart = path('chart.svg')
  const [table, json] = await Promise.all([
    sluice('plan', '--frontier', ...size, '--chart', chart),
    sluice('plan', '--frontier', ...size, '--json'),
  ])
  assert.is(table.code, 0, table.stderr)
  const frontier = JSON.parse(json.stdout) as Frontier
  assert.ok(frontier.points.length > 2)
  for (const { peakBytes } of frontier.points)
    assert.match(table.stdout, peakBytes.toLocaleString('en-US'))
  assert.match(table.stdout, 'times predicted, built in: roofline')
  const circles = readFileSync(chart, 'utf8').match(/<circle/g)!
  assert.is(circles.length, frontier.points.length)
})

test('wishes that exclude each other are refused', async () => {
  for (const [args, message] of [
    [['--frontier', '--budget', '1GiB'], /expected one of --budget, --frontier/],
    [['--fastest', '--smallest'], /expected one of --smallest, --fastest/],
    [['--chart', path('x.svg')], /expected --frontier with it/],
    [['--frontier', '--chart', path('x.png')], /expected a file \.svg/],
    [['--frontier', '--save', path('x.plan')], /expected no --save/],
  ] as const) {
    const { code, stderr } = await sluice('plan', ...size, ...args)
    assert.is(code, 2)
    assert.match(stderr, message)
  }
  assert.not.ok(existsSync(path('x.svg')))
})

test('plans name the measurements that they used', async () => {
  const table = path('table.json')
  const kinds = measuredKinds.filter(({ kind }) => kind === 'norm_fold')
  await writeCalibration(table, await calibrate({ threads: 2, kinds }))
  const planned = (SLUICE_CALIBRATION: string) =>
    start(['plan', ...size], { env: { SLUICE_CALIBRATION } }).finished
  assert.match((await planned(table)).stdout, /predicted time .*; calibration table\.json/)
  assert.match((await planned('none')).stdout, /predicted time .*; built in: roofline/)
  const missing = await planned(path('missing.json'))
  assert.is(missing.code, 8)
  assert.match(missing.stderr, /missing\.json/)
  const fastest = await sluice('plan', '--fastest', ...size)
  assert.is(fastest.stdout, (await planned('none')).stdout)
})

test('calibrate needs a place to write', async () => {
  const { code, stderr } = await start(['calibrate'], { env: { SLUICE_CALIBRATION: 'none' } })
    .finished
  assert.is(code, 2)
  assert.match(stderr, /SLUICE_CALIBRATION: expected a file/)
  const threads = await sluice('calibrate', '--threads', '0')
  assert.is(threads.code, 2)
})

test.run()
