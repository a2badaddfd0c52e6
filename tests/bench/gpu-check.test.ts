import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { execute } from '../../bench/gpu/child.js'
import { emulatedPlugin } from '../cuda/support.js'
import { scratch } from '../io/scratch.js'
import { root } from '../support/recorded.js'

const { path, clean } = scratch('gpu-check')
test.after(clean)

const check = (args: readonly string[], env: Record<string, string> = {}) =>
  execute(process.execPath, [`${root}dist/bench/gpu/check.js`, '--out', path(''), ...args], {
    seconds: 500,
    env: { SLUICE_CUDA_BACKEND: emulatedPlugin, ...env },
  })
const only = ['--small', '--only', 'device,kernels/quantise f32,components/clip-text f16']

test('a call checks what is asked for, and the next goes on from there', async () => {
  const cut = await check([...only, '--minutes', '0.0001'])
  assert.is(cut.code, 3, cut.output)
  assert.match(cut.output, /left for another call: .*clip-text/)
  const whole = await check([...only, '--copy', path('copy')])
  assert.is(whole.code, 0, whole.output)
  assert.match(whole.output, /3 passed, 0 failed, 0 skipped, 0 left/)
  const [json, table] = readdirSync(path('copy')).sort()
  assert.equal([json, table], ['gpu-check-emulated-gpu.json', 'gpu-check-emulated-gpu.md'])
  const { items } = JSON.parse(readFileSync(path(`copy/${json}`), 'utf8'))
  assert.is(items['kernels/quantise f32'].detail, '11 tests')
  assert.match(readFileSync(path(`copy/${table}`), 'utf8'), /\| components\/clip-text f16 \| ok \|/)
  const again = await check(only)
  assert.match(again.output, /^3 passed, 0 failed/m)
  // With edits that are not committed everything runs again.
  const isClean = !items['kernels/quantise f32'].commit.endsWith('-changed')
  assert.is(/^ok/m.test(again.output), !isClean)
})

const small = ['--small', '--only', 'kernels/quantise f32']

test('what passed on another device or with other settings runs again', async () => {
  assert.is((await check(small, {})).code, 0)
  for (const [variable, value] of [
    ['SLUICE_EMULATION_ARCH', '75'],
    ['SLUICE_CUDA_GRAPHS', '0'],
  ] as const)
    assert.match((await check(small, { [variable]: value })).output, /^ok +kernels\/quantise f32/)
})

test('an item that fails says why; one that is cut off is left', async () => {
  const failed = await check(['--small', '--only', 'memory'], {
    SLUICE_EMULATION_MEMORY: '1000000',
  })
  assert.is(failed.code, 1)
  assert.match(failed.output, /FAILED +memory\/generations: ended with 1: .*expected .* got /)
  const cut = await check([...small, '--again', '--minutes', '0.002'], {})
  assert.is(cut.code, 3, cut.output)
  assert.match(cut.output, /0 passed, 0 failed, 0 skipped, 1 left/)
})

test('bad options end with 2, a result file that is none with 8 and its name', async () => {
  for (const args of [['--bogus'], ['--minutes'], ['stray'], ['--minutes', 'abc']])
    assert.is((await check(args, {})).code, 2, args.join(' '))
  writeFileSync(path('gpu-check-emulated-gpu.json'), 'garbage')
  const { code, output } = await check(small, {})
  assert.is(code, 8)
  assert.match(output, /gpu-check-emulated-gpu\.json: expected the results of earlier calls/)
  rmSync(path('gpu-check-emulated-gpu.json'))
})

test('what fails is said: a storage that no kernel knows, an item that there is not, no device', async () => {
  const env = { SLUICE_EMULATION_ARCH: '75' }
  const item = `${root}dist/bench/gpu/items/component.js`
  const ended = await execute(process.execPath, [item, 'clip-text', 'f8'], {
    seconds: 500,
    env: { SLUICE_CUDA_BACKEND: emulatedPlugin, ...env },
  })
  assert.is.not(ended.code, 0)
  assert.match((await check(['--only', 'kernel'])).output, /expected a section \(device, memory/)
  const none = await execute(process.execPath, [`${root}dist/bench/gpu/check.js`], {
    seconds: 500,
    env: { SLUICE_CUDA_BACKEND: emulatedPlugin, SLUICE_EMULATION_DEVICES: '0' },
  })
  assert.is(none.code, 6)
  assert.match(none.output, /cuda:0: expected a device, got none; .*found no NVIDIA driver/)
})

test.run()
