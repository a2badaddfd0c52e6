import { existsSync } from 'node:fs'
import { type Browser, chromium, type Page } from 'playwright-core'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { xOf } from '../../lib/report/client/axes.js'
import { rectOf } from '../../lib/report/client/map.js'
import { aliveAt, stepAt, timelineOf } from '../../lib/report/client/timeline.js'
import { View } from '../../lib/report/client/view.js'
import { type ReportData, reportData } from '../../lib/report/data.js'
import { kinds } from '../../lib/report/kinds.js'
import { writeReport } from '../../lib/report/write.js'
import { scratch } from '../io/scratch.js'
import { embeddedPlan, smallestPlan } from './plans.js'

const executablePath = process.env.CHROMIUM || '/usr/bin/chromium'
const inBrowser = existsSync(executablePath) ? test : test.skip
if (inBrowser === test.skip)
  console.log(`no ${executablePath}: pages are not opened; install chromium or set CHROMIUM`)

const { path, list, clean } = scratch('report-browser')
let browser: Browser | undefined
test.after(async () => {
  await browser?.close()
  clean()
})

const flags = [
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

interface Opened {
  page: Page
  data: ReportData
  /** Console errors, exceptions, and requests for anything but the file. */
  complaints: string[]
}

/** Opens a report from its file, without a network. */
async function open(colorScheme: 'light' | 'dark' = 'light'): Promise<Opened> {
  const input = { plan: await smallestPlan(), model: 'model', sluice: '0' }
  const file = path('report.html')
  await writeReport(file, input)
  browser ??= await chromium.launch({ executablePath, headless: true, args: flags })
  const context = await browser.newContext({
    offline: true,
    colorScheme,
    viewport: { width: 1280, height: 900 },
  })
  const page = await context.newPage()
  const complaints: string[] = []
  page.on('console', message => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text())
  })
  page.on('pageerror', error => complaints.push(error.message))
  page.on('request', request => {
    if (request.url() !== `file://${file}`) complaints.push(request.url())
  })
  await page.goto(`file://${file}`)
  return { page, data: reportData(input), complaints }
}

/** The denoising stage's main program, as the page sees it. */
function timelineIn(data: ReportData) {
  const stage = data.stages.find(({ name }) => name === 'denoise')!
  return timelineOf(
    stage,
    stage.programs[0]!,
    kinds.map(({ id }) => id),
  )
}

const canvas = (page: Page, pane: string) => page.locator(`canvas[data-pane=${pane}]:visible`)

for (const scheme of ['light', 'dark'] as const) {
  inBrowser(`${scheme}: opens without a network and draws every pane`, async () => {
    const { page, complaints } = await open(scheme)
    for (const pane of ['chart', 'groups', 'arena', 'overview']) {
      // Colours of a pane: an empty canvas has one.
      const colours = `(canvas => {
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data
        return new Set(new Uint32Array(pixels.buffer)).size
      })(document.querySelector('#stage-1 canvas[data-pane=${pane}]'))`
      // Not waitForFunction, whose polling the page's own policy forbids.
      let drawn = false
      for (let i = 0; i < 250 && !drawn; i++) {
        drawn = ((await page.evaluate(colours)) as number) > 4
        if (!drawn) await page.waitForTimeout(20)
      }
      assert.ok(drawn, pane)
    }
    await page.screenshot({ path: path(`${scheme}.png`), fullPage: true })
    assert.ok(list().includes(`${scheme}.png`))
    assert.equal(complaints, [])
    await page.context().close()
  })
}

inBrowser('pointing at the arena map shows what is there', async () => {
  const { page, data, complaints } = await open()
  const timeline = timelineIn(data)
  const arena = canvas(page, 'arena')
  await arena.scrollIntoViewIfNeeded()
  const box = (await arena.boundingBox())!
  const view = new View(timeline)
  const large = [...timeline.blocks].sort(
    (a, b) => b.bytes * (b.end - b.start) - a.bytes * (a.end - a.start),
  )
  for (const block of large.slice(0, 4)) {
    const { x, y, width, height } = rectOf(view, box, block)
    await page.mouse.move(box.x + x + width / 2, box.y + y + height / 2)
    const tip = page.locator('#tip')
    await tip.locator('strong', { hasText: block.name }).waitFor()
    const text = await tip.innerText()
    assert.match(text, block.shape)
    assert.match(text, `${block.bytes.toLocaleString('en-US')} bytes`)
    assert.match(text, `offset ${block.offset.toLocaleString('en-US')} to`)
    assert.match(text, `alive in steps ${block.start + 1} to ${block.end} of`)
  }
  await page.mouse.move(2, 2)
  await page.locator('#tip').waitFor({ state: 'hidden' })
  assert.equal(complaints, [])
  await page.context().close()
})

inBrowser('the keyboard reaches every step and buffer, and says them', async () => {
  const { page, data, complaints } = await open()
  const timeline = timelineIn(data)
  const { step } = timeline.program.peak
  await canvas(page, 'arena').focus()
  await page.keyboard.press('ArrowRight')
  const readout = page.locator('.readout:visible')
  assert.match(await readout.innerText(), `step ${step + 1} of ${timeline.steps}`)
  await page.keyboard.press('ArrowLeft')
  assert.match(await readout.innerText(), `step ${step} of ${timeline.steps}`)
  await page.keyboard.press('ArrowUp')
  const alive = aliveAt(timeline, step - 1).sort((a, b) => b.bytes - a.bytes)
  const said = await page.locator('#stage-1 figure:visible [aria-live]').textContent()
  assert.match(said!, `${alive[0]!.bytes.toLocaleString('en-US')} bytes`)
  await page.keyboard.press('End')
  assert.match(await readout.innerText(), `step ${timeline.steps} of ${timeline.steps}`)
  assert.equal(complaints, [])
  await page.context().close()
})

inBrowser('tabs, scales, zoom and the tables work', async () => {
  const { page, data, complaints } = await open()
  const timeline = timelineIn(data)
  await page.locator('button[data-buffer]:visible').first().click()
  const first = timeline.program.peak.buffers[0]!
  const block = timeline.blocks[timeline.stage.state.length + first]!
  await page.locator('#tip strong', { hasText: block.name }).waitFor()
  await page.locator('select:visible').selectOption('commands')
  await page.locator('button[data-do=fit]:visible').click()
  const arena = canvas(page, 'arena')
  const box = (await arena.boundingBox())!
  const view = new View(timeline)
  view.rescale('commands')
  const at = (xOf(view, box, step(timeline)) + xOf(view, box, step(timeline) + 1)) / 2
  await page.mouse.move(box.x + at, box.y + 20)
  await page.locator('.readout:visible', { hasText: `step ${step(timeline) + 1} of` }).waitFor()

  await page.getByRole('tab', { name: /^decode/ }).click()
  assert.is(await page.locator('#stage-1').isVisible(), false)
  assert.is(await page.locator('#stage-2').isVisible(), true)
  await page.keyboard.press('Home')
  assert.is(await page.locator('#stage-0').isVisible(), true)
  assert.equal(complaints, [])
  await page.context().close()
})

/** The step that takes most commands: the widest on that scale. */
function step({ marks, steps }: ReturnType<typeof timelineIn>): number {
  let widest = 0
  for (let i = 0; i < steps; i++)
    if (
      marks.commands[i + 1]! - marks.commands[i]! >
      marks.commands[widest + 1]! - marks.commands[widest]!
    )
      widest = i
  return widest
}

test('steps and their places on every scale belong together', async () => {
  const data = reportData({ plan: await embeddedPlan({ slices: 4 }), model: 'model', sluice: '0' })
  const view = new View(timelineIn(data))
  for (const scale of ['commands', 'flops', 'steps'] as const) {
    view.fit()
    view.rescale(scale)
    for (let at = 0; at < view.timeline.steps; at++) {
      const middle = (view.shareOf(at) + view.shareOf(at + 1)) / 2
      assert.is(view.stepOf(middle), at)
      assert.is(stepAt(view.marks, view.marks[at]!), at)
    }
  }
})

test('zoom keeps the place under the pointer, and the ends', async () => {
  const data = reportData({ plan: await embeddedPlan(), model: 'model', sluice: '0' })
  const view = new View(timelineIn(data))
  const before = view.stepOf(0.3)
  view.zoom(8, 0.3)
  assert.is(view.stepOf(0.3), before)
  view.pan(100)
  assert.is(view.to, view.end)
  view.zoom(1e-9)
  assert.equal([view.from, view.to], [0, view.end])
})

test('what is stacked in a step is what is alive in it', async () => {
  const data = reportData({ plan: await smallestPlan(), model: 'model', sluice: '0' })
  const { stacks, stage, program, steps } = timelineIn(data)
  const state = stage.state.reduce((sum, { bytes }) => sum + Math.ceil(bytes / 64) * 64, 0)
  for (let at = 0; at < steps; at++) {
    const stacked = stacks.reduce((sum, { bytes }) => sum + bytes[at]!, 0)
    assert.is(stacked, program.live[at]! + state)
  }
})

test.run()
