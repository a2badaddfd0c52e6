import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { scratch } from '../io/scratch.js'
import { start } from '../support/cli.js'

const { path, clean } = scratch('arena')
test.after(clean)

const run = (...args: string[]) => start(['arena', ...args]).finished
const rows = 'id,lower,upper,size\na,0,2,100\nb,1,3,80\nc,2,4,60\n'

test('writes the rows with their offsets', async () => {
  writeFileSync(path('in.csv'), rows)
  const { code, stdout, stderr } = await run(
    path('in.csv'),
    '--capacity',
    '180',
    '-o',
    path('out.csv'),
  )
  assert.is(code, 0, stderr)
  assert.match(stdout, '3 buffers in 180 bytes')
  const written = readFileSync(path('out.csv'), 'utf8').trim().split('\n')
  assert.is(written[0], 'id,lower,upper,size,offset')
  assert.equal(
    written.map(line => line.split(',').slice(0, 4).join(',')),
    rows.trim().split('\n'),
  )
  const piped = await run(path('in.csv'))
  assert.is(piped.code, 0)
  assert.is(piped.stdout, readFileSync(path('out.csv'), 'utf8'))
})

test('blank rows are left out, and rows are numbered as in the file', async () => {
  writeFileSync(path('blank.csv'), 'id,lower,upper,size\n\na,0,2,100\n  \nb,1,3,x\n\n')
  assert.match((await run(path('blank.csv'))).stderr, 'row 5, column size')
  writeFileSync(path('blank.csv'), 'id,lower,upper,size\n\na,0,2,100\n\n')
  const { code, stdout, stderr } = await run(path('blank.csv'))
  assert.is(code, 0, stderr)
  assert.is(stdout, 'id,lower,upper,size,offset\na,0,2,100,0\n')
})

test('exit code 1 and no file when the capacity does not suffice', async () => {
  writeFileSync(path('in.csv'), rows)
  const { code, stdout, stderr } = await run(
    path('in.csv'),
    '--capacity',
    '179',
    '-o',
    path('no.csv'),
  )
  assert.is(code, 1)
  assert.is(stdout, '')
  assert.match(stderr, 'expected offsets within 179 bytes')
  assert.match(stderr, 'there is none')
  assert.not(existsSync(path('no.csv')))
})

test('a malformed table is refused with its row and column', async () => {
  writeFileSync(path('bad.csv'), 'id,lower,upper,size\na,0,2,x\n')
  const { code, stderr } = await run(path('bad.csv'), '--capacity', '1MiB')
  assert.is(code, 8)
  assert.match(stderr, 'row 2, column size: expected a whole number from 0, got "x"')
  assert.is((await run(path('missing.csv'))).code, 8)
  writeFileSync(path('in.csv'), rows)
  const inside = await run(path('in.csv'), '--out', path('bad.csv/out.csv'))
  assert.is(inside.code, 8)
  assert.match(inside.stderr, 'expected a folder to write to, got the file')
})

test.run()
