import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { FileError } from '../../lib/index.js'
import { type ReportData, type ReportInput, reportData } from '../../lib/report/data.js'
import { reportPage } from '../../lib/report/page.js'
import { pageScript } from '../../lib/report/script.js'
import { writeReport } from '../../lib/report/write.js'
import { scratch } from '../io/scratch.js'
import { embeddedPlan, fullSizePlan, smallestPlan } from './plans.js'

const { path, list, clean } = scratch('report-page')
test.after(clean)

const input = async (extra: Partial<ReportInput> = {}): Promise<ReportInput> => ({
  plan: await embeddedPlan(),
  model: 'model',
  sluice: '0',
  ...extra,
})

function dataIn(page: string): ReportData {
  const [, json] = /<script type="application\/json" id="data">(.*?)<\/script>/s.exec(page)!
  return JSON.parse(json!) as ReportData
}

test('the page carries its data as JSON', async () => {
  const data = reportData(await input())
  assert.equal(dataIn(reportPage(data)), JSON.parse(JSON.stringify(data)))
})

test('nothing of what a user gives is markup', async () => {
  const nasty = `</script><!--<img src=x onerror=alert(1)>'"\u2028&amp;`
  const data = reportData(await input({ prompt: nasty, model: nasty }))
  const { strings } = data.stages[1]!.programs[0]!
  for (let i = 0; i < strings.length; i++) strings[i] += nasty
  data.stages[1]!.programs[0]!.ops.name = data.stages[1]!.programs[0]!.ops.name.map(
    name => name + nasty,
  )
  const page = reportPage(data)
  assert.not.match(page, '<img')
  assert.not.match(page, '<!--')
  assert.is(page.match(/<script/g)!.length, 2)
  assert.is(page.match(/<\/script>/g)!.length, 2)
  assert.match(page, '&#60;img src=x onerror=alert(1)&#62;')
  assert.is(dataIn(page).prompt, nasty)
})

test('the page names no other resource, and forbids itself to fetch any', async () => {
  const page = reportPage(reportData(await input({ plan: await smallestPlan() })))
  assert.not.match(
    page,
    /https?:|\/\/[a-z]+\.[a-z]|<link|<iframe|<img|url\(|@import|import\(|fetch\(/,
  )
  assert.not.match(page, /\ssrc=/)
  assert.match(page, 'default-src &#39;none&#39;')
  assert.not.match(page, /^\s*(import|export)\b/m)
})

test('modules that become one script do not share names', () => {
  const names = [...pageScript().matchAll(/^(?:function|class|const|let) (\w+)/gm)].map(m => m[1]!)
  assert.ok(names.includes('formatBytes') && names.includes('start'))
  assert.equal([...new Set(names)], names)
})

test('peaks are marked equal, differing or not run', async () => {
  const plan = await embeddedPlan()
  const entry = (stage: string, measuredBytes: number) => ({
    stage,
    predictedBytes: plan.stage(stage).peakBytes,
    measuredBytes,
    seconds: 1,
  })
  const measured = [entry('text', plan.stage('text').peakBytes), entry('denoise', 64)]
  const page = reportPage(reportData(await input({ plan, measured })))
  for (const mark of ['= equal', '≠ differs', 'not run'])
    assert.is(page.split(mark).length, 2, mark)
  assert.match(page, '1 not as predicted')
  assert.match(reportPage(reportData(await input({ plan }))), 'nothing has run')
})

test('a plan of true size stays below 3 MB', async () => {
  const page = reportPage(reportData(await input({ plan: await fullSizePlan('3 GiB') })))
  assert.ok(page.length < 3e6, `${page.length} bytes`)
})

test('the file appears complete or not at all', async () => {
  await writeReport(path('report.html'), await input())
  assert.match(readFileSync(path('report.html'), 'utf8'), /<\/html>\n$/)
  try {
    await writeReport(path('none/report.html'), await input())
    assert.unreachable()
  } catch (error) {
    assert.instance(error, FileError)
  }
  assert.equal(list(), ['report.html'])
})

test.run()
