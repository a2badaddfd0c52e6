import { createRequire } from 'node:module'
import { Worker } from 'node:worker_threads'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { node } from './checkout.js'

// By the package's own name, as a user loads it; a variable keeps the compiler from resolving it.
const name: string = 'sluice'
const namesOf = (module: object) => Object.keys(module).sort()
const expected = namesOf(await import(name))

test('the package exports something', () => {
  for (const wanted of ['AnimateDiff', 'compile', 'devices', 'program']) {
    assert.ok(expected.includes(wanted), wanted)
  }
})

test('require gives the same names', () => {
  assert.equal(namesOf(createRequire(import.meta.url)(name)), expected)
})

test('require gives the very same objects as import', async () => {
  const esm = await import(name)
  const cjs = createRequire(import.meta.url)(name)
  for (const key of expected) assert.is(cjs[key], esm[key], key)
})

test('the bundle exports what the modules do, under the same names', async () => {
  const bundle = await import(name)
  const modules = await import('../../lib/index.js')
  const described = (all: Record<string, unknown>) =>
    Object.entries(all)
      .map(([key, value]) => `${key}: ${typeof value === 'function' ? value.name : typeof value}`)
      .sort()
  assert.equal(described(bundle), described(modules))
})

test('a worker thread loads it', async () => {
  const code = `
    const { parentPort } = require('node:worker_threads')
    parentPort.postMessage(Object.keys(require(${JSON.stringify(name)})).sort())`
  const worker = new Worker(code, { eval: true })
  const names = await new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  await worker.terminate()
  assert.equal(names, expected)
})

test('loading prints nothing', () => {
  const ended = node(['-e', `require(${JSON.stringify(name)})`])
  assert.equal({ ...ended }, { code: 0, stdout: '', stderr: '' })
})

test('a Node that cannot require it says what to do', () => {
  const { code, stderr } = node(['--no-experimental-require-module', '-e', `require('${name}')`])
  assert.is(code, 1)
  assert.match(stderr, /sluice: require\(\) expected Node 20\.19 or newer, got v\d/)
})

test.run()
