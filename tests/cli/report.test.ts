import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { ReportData } from '../../lib/report/data.js'
import { scratch } from '../io/scratch.js'
import { sluice } from '../support/cli.js'

const { path, list, clean } = scratch('cli-report')
test.after(clean)

function dataIn(file: string): ReportData {
  const page = readFileSync(file, 'utf8')
  return JSON.parse(/id="data">(.*?)<\/script>/s.exec(page)![1]!) as ReportData
}

const short = ['--steps', '2', '--frames', '4', '--seed', '3']

test('generate: measured beside predicted for the stages that ran', async () => {
  const file = path('new/folder/report.html')
  const prompt = 'a <b>red</b> circle'
  const { code, stdout, stderr } = await sluice(
    ...['generate', prompt, ...short, '--no-decode', '--report', file],
  )
  assert.is(code, 0, stderr)
  assert.match(stdout, `wrote ${file}`)
  const data = dataIn(file)
  assert.is(data.prompt, prompt)
  assert.is(data.seed, 3)
  for (const { name, peakBytes, measuredBytes, seconds } of data.stages) {
    assert.is(measuredBytes, name === 'decode' ? undefined : peakBytes)
    assert.is(seconds === undefined, name === 'decode')
  }
})

test('generate: all stages with a video', async () => {
  const [file, video] = [path('full.html'), path('full.webp')]
  const { code, stderr } = await sluice('generate', 'x', ...short, '-o', video, '--report', file)
  assert.is(code, 0, stderr)
  assert.ok(existsSync(video))
  for (const { peakBytes, measuredBytes } of dataIn(file).stages)
    assert.is(measuredBytes, peakBytes)
})

test('plan: the numbers are those of the JSON', async () => {
  const file = path('plan.html')
  const { code, stdout } = await sluice('plan', '--json', '--budget', '8.4MiB', '--report', file)
  assert.is(code, 0)
  const plan = JSON.parse(stdout) as { peakBytes: number; stages: { peakBytes: number }[] }
  const data = dataIn(file)
  assert.is(data.peakBytes, plan.peakBytes)
  assert.equal(
    data.stages.map(stage => stage.peakBytes),
    plan.stages.map(stage => stage.peakBytes),
  )
})

test('plan --explain: text, and the same choices as JSON and on the page', async () => {
  const file = path('explain.html')
  const { code, stdout } = await sluice('plan', '--explain', '--frames', '4', '--report', file)
  assert.is(code, 0)
  assert.match(stdout, 'what would lower the peak')
  const { alternatives } = dataIn(file)
  assert.ok(alternatives!.length > 2)
  for (const { options } of alternatives!) assert.match(stdout, options)
  const json = await sluice('plan', '--explain', '--frames', '4', '--json')
  assert.equal(JSON.parse(json.stdout).alternatives, alternatives)
  const plain = await sluice('plan', '--frames', '4', '--json')
  assert.equal(JSON.parse(json.stdout).plan, JSON.parse(plain.stdout))
})

test('a place that cannot be written is refused before any work', async () => {
  writeFileSync(path('file'), '')
  const before = list()
  for (const [command, file] of [
    ['plan', path('file/report.html')],
    ['generate', path('file/report.html')],
    ['plan', path('.')],
  ] as const) {
    const { code, stdout, stderr } = await sluice(command, 'x', '--report', file)
    assert.is(code, 8, stderr)
    assert.is(stdout, '')
    assert.match(stderr, /expected a (folder to write to|file), got/)
  }
  assert.equal(list(), before)
})

test('contradictions are refused', async () => {
  const same = path('same.webp')
  const twice = await sluice('generate', 'x', '-o', same, '--report', same)
  assert.is(twice.code, 2)
  assert.match(twice.stderr, 'expected one output there, got two')
  const frontier = await sluice('plan', '--frontier', '--report', same)
  assert.is(frontier.code, 2)
  assert.match(frontier.stderr, '--report')
})

test.run()
