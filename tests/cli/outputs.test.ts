import { execFileSync } from 'node:child_process'
import { existsSync, lstatSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { scratch } from '../io/scratch.js'
import { sluice } from '../support/cli.js'

const { path, clean } = scratch('outputs')
test.after(clean)

const small = ['--width', '32', '--height', '32', '--steps', '2', '--frames', '2', '--quiet']
const rows = 'id,lower,upper,size\na,0,2,100\n'

test('a place that is no file is refused and stays what it was', async () => {
  execFileSync('mkfifo', [path('pipe')])
  writeFileSync(path('in.csv'), rows)
  for (const args of [
    ['plan', '--save', path('pipe'), ...small],
    ['plan', '--report', path('pipe'), ...small],
    ['arena', path('in.csv'), '--out', path('pipe')],
    ['generate', 'a red circle', ...small, '-o', path('x.gif'), '--save-latents', path('pipe')],
  ]) {
    const { code, stderr } = await sluice(...args)
    assert.is(code, 8, `${args[1]}: ${stderr}`)
    assert.match(stderr, 'expected a file, got a device, pipe or socket')
    assert.ok(lstatSync(path('pipe')).isFIFO())
  }
})

test('what a link names is written, and the link stays', async () => {
  writeFileSync(path('target.plan'), 'old')
  symlinkSync(path('target.plan'), path('link.plan'))
  const { code, stderr } = await sluice('plan', '--save', path('link.plan'), ...small)
  assert.is(code, 0, stderr)
  assert.ok(lstatSync(path('link.plan')).isSymbolicLink())
  assert.match(readFileSync(path('target.plan'), 'utf8'), '"format"')
})

test('folders on the way to an output are made, two outputs at one place are refused', async () => {
  const { code, stderr } = await sluice('plan', '--save', path('new/deep/p.plan'), ...small)
  assert.is(code, 0, stderr)
  assert.ok(existsSync(path('new/deep/p.plan')))
  writeFileSync(path('in.csv'), rows)
  assert.is((await sluice('arena', path('in.csv'), '-o', path('other/out.csv'))).code, 0)
  const twice = await sluice('plan', '--save', path('same'), '--report', path('same'), ...small)
  assert.is(twice.code, 2)
  assert.match(twice.stderr, 'expected one output there, got two')
  assert.not(existsSync(path('same')))
})

test('an empty path is told by its option', async () => {
  for (const option of ['--save', '--report']) {
    const { code, stderr } = await sluice('plan', option, '', ...small)
    assert.is(code, 2)
    assert.match(stderr, `${option}: expected a path, got nothing`)
  }
})

test.run()
