import { PassThrough } from 'node:stream'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { describeError, exitCodeOf } from '../../lib/cli/errors.js'
import { formatSeconds } from '../../lib/cli/format.js'
import { ProgressReport } from '../../lib/cli/progress.js'
import { BudgetError } from '../../lib/errors.js'

function show(isTTY: boolean, quiet = false): string {
  const stream = Object.assign(new PassThrough(), { isTTY, columns: 200 })
  const report = new ProgressReport(quiet, stream as unknown as NodeJS.WriteStream)
  report.update({ stage: 'text', phase: 'load', done: 0, total: 4 })
  report.update({ stage: 'text', phase: 'run', done: 10, total: 10 })
  report.update({ stage: 'denoise', phase: 'load', done: 1, total: 2 })
  report.update({ stage: 'denoise', phase: 'run', done: 30, total: 50, step: 2, steps: 5 })
  report.stop()
  return String(stream.read() ?? '')
}

test('a bar for each stage on a terminal', () => {
  const text = show(true)
  assert.match(text, /text .+ 100%/)
  assert.match(text, /denoise .+ 60% .+ step 3 of 5/)
  // The cursor is shown again.
  assert.ok(text.lastIndexOf('\u001b[?25h') > text.lastIndexOf('\u001b[?25l'))
})

test('a line for each stage elsewhere, and nothing when quiet', () => {
  assert.is(show(false), 'sluice: text\nsluice: denoise\n')
  assert.is(show(true, true), '')
})

test('errors thrown on purpose are one line, others ask for a report', () => {
  const known = new BudgetError('budget: expected\n  more', {
    needed: 2,
    allowed: 1,
    stage: 's',
    op: 'o',
    tensor: 't',
  })
  assert.equal([describeError(known), exitCodeOf(known)], ['sluice: budget: expected more', 5])
  assert.is(describeError(known, 'a/b'), 'sluice: a/b: budget: expected more')
  const unknown = new TypeError('x is undefined')
  assert.is(exitCodeOf(unknown), 70)
  assert.match(describeError(unknown), /please report[\s\S]+TypeError: x is undefined\n +at /)
})

test('times', () => {
  assert.equal([0.123, 12.34, 59.96, 200].map(formatSeconds), [
    '0.12 s',
    '12.3 s',
    '60.0 s',
    '3 min 20 s',
  ])
})

test.run()
