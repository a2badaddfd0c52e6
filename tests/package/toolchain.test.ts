import { chmodSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { node, temporaryFolder } from './checkout.js'

/** Runs the check with nothing on PATH but stand-ins that print the given text. */
function check(tools: Record<string, string>, env: NodeJS.ProcessEnv = {}) {
  const path = temporaryFolder()
  try {
    for (const [name, text] of Object.entries(tools)) {
      writeFileSync(join(path, name), `#!/bin/sh\necho '${text}'\n`)
      chmodSync(join(path, name), 0o755)
    }
    return node(['scripts/toolchain.cjs'], { PATH: path, ...env })
  } finally {
    rmSync(path, { recursive: true })
  }
}

const all = { cmake: 'cmake version 3.25.1', 'c++': 'g++ 12', ninja: '1.11' }

test('a complete toolchain is silent', () => {
  assert.equal(check(all), { code: 0, stdout: '', stderr: '' })
})

test('what is missing is named in one line', () => {
  const { code, stderr } = check({})
  assert.is(code, 1)
  assert.match(stderr, /^sluice: building the native addon needs [^\n]+\n$/)
  for (const need of ['cmake (>= 3.24) on PATH', 'C++20 compiler', 'ninja or make']) {
    assert.ok(stderr.includes(need), need)
  }
})

test('a missing cmake alone names cmake alone', () => {
  const { code, stderr } = check({ 'c++': 'g++ 12', make: 'GNU Make 4.3' })
  assert.is(code, 1)
  assert.is(
    stderr,
    'sluice: building the native addon needs cmake (>= 3.24) on PATH; install it, or use a platform with a prebuilt binary (linux-x64)\n',
  )
})

test('an old cmake is told with its version', () => {
  assert.match(check({ ...all, cmake: 'cmake version 3.18.4' }).stderr, /found 3\.18/)
  assert.is(check({ ...all, cmake: 'cmake version 4.0.0' }).code, 0)
})

test('only node-gyp asks for Python', () => {
  const install = { npm_lifecycle_event: 'install' }
  assert.match(check(all, install).stderr, /needs Python 3/)
  assert.is(check({ ...all, python3: 'Python 3.11' }, install).code, 0)
})

test('CXX names the compiler', () => {
  const { 'c++': _, ...none } = all
  assert.is(check(none).code, 1)
  assert.is(check({ ...none, 'my-c++': 'mine' }, { CXX: 'my-c++ -m64' }).code, 0)
})

test.run()
