import { mkdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ROOT, temporaryFolder } from './checkout.js'

interface Setup {
  packagesAreFresh(root: string): boolean
  isFresh(root: string, stamp: string, sources: string[]): boolean
}

const setup: Setup = await import(pathToFileURL(join(ROOT, 'scripts/setup.mjs')).href)

let root = ''
test.before.each(() => {
  root = temporaryFolder()
})
test.after.each(() => rmSync(root, { recursive: true }))

function put(path: string, text: string, seconds?: number) {
  const file = join(root, path)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
  if (seconds !== undefined) utimesSync(file, seconds, seconds)
}

function lock(path: string, packages: Record<string, object>) {
  put(path, JSON.stringify({ packages }))
}

test('packages are stale without node_modules', () => {
  lock('package-lock.json', { '': {} })
  assert.is(setup.packagesAreFresh(root), false)
})

test('packages are fresh when versions agree and only optional ones are absent', () => {
  const a = { version: '1.0.0' }
  lock('package-lock.json', {
    '': {},
    'node_modules/a': a,
    'node_modules/b': { version: '1.0.0', optional: true },
  })
  lock('node_modules/.package-lock.json', { 'node_modules/a': a })
  assert.is(setup.packagesAreFresh(root), true)
})

test('packages are stale when a version differs or one is absent', () => {
  lock('package-lock.json', { '': {}, 'node_modules/a': { version: '1.0.1' } })
  lock('node_modules/.package-lock.json', { 'node_modules/a': { version: '1.0.0' } })
  assert.is(setup.packagesAreFresh(root), false)
  lock('node_modules/.package-lock.json', {})
  assert.is(setup.packagesAreFresh(root), false)
})

test('a build is stale without a stamp, after an edit, and after a file came or went', () => {
  const old = () => utimesSync(join(root, 'src/deep'), 100, 100)
  const oldTop = () => utimesSync(join(root, 'src'), 100, 100)
  put('src/deep/a.cpp', '', 100)
  old()
  oldTop()
  assert.is(setup.isFresh(root, 'stamp', ['src']), false)
  put('stamp', '', 200)
  assert.is(setup.isFresh(root, 'stamp', ['src', 'absent']), true)
  utimesSync(join(root, 'src/deep/a.cpp'), 300, 300)
  assert.is(setup.isFresh(root, 'stamp', ['src']), false)
  rmSync(join(root, 'src/deep/a.cpp'))
  assert.is(setup.isFresh(root, 'stamp', ['src']), false, 'the folder is newer')
})

test.run()
