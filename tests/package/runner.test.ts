import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ROOT, temporaryFolder } from './checkout.js'

interface Verdict {
  passed: number
  failed: number
  skipped: number
  reason: string
}
interface Runner {
  testFiles(compiled: string, sources: string, patterns: string[]): string[]
  runFile(path: string, timeout: number): Promise<Verdict>
}

const runner: Runner = await import(pathToFileURL(join(ROOT, 'scripts/test.mjs')).href)
const uvu = JSON.stringify(import.meta.resolve('uvu'))

let root = ''
test.before.each(() => {
  root = temporaryFolder()
})
test.after.each(() => rmSync(root, { recursive: true }))

async function run(body: string, timeout = 60): Promise<Verdict> {
  const file = join(root, 'a.test.mjs')
  writeFileSync(file, `import { test } from ${uvu}\n${body}`)
  const { passed, failed, skipped, reason } = await runner.runFile(file, timeout)
  return { passed, failed, skipped, reason }
}

const wrong = `test('wrong', () => { throw new Error('no') })\n`
const right = `test('right', () => {})\n`

test('passes, failures and skips are counted', async () => {
  const body = `${right}${right}${wrong}test.skip('later', () => {})\ntest.run()`
  assert.equal(await run(body), { passed: 2, failed: 1, skipped: 1, reason: '' })
})

test('a crash after passing tests is a failure', async () => {
  const ended = await run(
    `${right}test('crash', () => process.kill(process.pid, 'SIGSEGV'))\ntest.run()`,
  )
  assert.is(ended.failed, 1)
  assert.is(ended.reason, 'killed by SIGSEGV')
})

test('a bad exit after all tests passed is a failure', async () => {
  const ended = await run(`${right}process.on('exit', () => process.exit(3))\ntest.run()`)
  assert.equal(ended, { passed: 1, failed: 1, skipped: 0, reason: 'exit code 3' })
})

test('a file that cannot load, or forgets test.run(), is a failure', async () => {
  assert.is((await run(`import './absent.js'`)).failed, 1)
  assert.is((await run(right)).reason, 'ran no test')
})

test('a failing before hook fails its tests', async () => {
  assert.is(
    (await run(`test.before(() => { throw new Error('no') })\n${right}test.run()`)).failed,
    1,
  )
})

test('a hanging file is stopped', async () => {
  const ended = await run(`${right}test.run()\nsetInterval(() => {}, 1000)`, 1.5)
  assert.is(ended.failed, 1)
  assert.is(ended.reason, 'still running after 1.5 s')
})

test('files: pattern, order, and no leftovers of removed sources', () => {
  for (const file of [
    'out/b.test.js',
    'out/x/a.test.js',
    'out/gone.test.js',
    'out/help.js',
    'in/b.test.ts',
    'in/x/a.test.ts',
  ]) {
    mkdirSync(dirname(join(root, file)), { recursive: true })
    writeFileSync(join(root, file), '')
  }
  const files = (...patterns: string[]) =>
    runner.testFiles(join(root, 'out'), join(root, 'in'), patterns)
  assert.equal(files(), ['b.test.js', 'x/a.test.js'])
  assert.equal(files('x/'), ['x/a.test.js'])
  assert.equal(files('nothing'), [])
})

test.run()
