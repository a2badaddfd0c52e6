import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { OptionError } from '../lib/errors.js'
import { formatBytes, parseBytes } from '../lib/units.js'

test('bytes with binary and decimal units', () => {
  for (const [text, bytes] of [
    ['512MiB', 512 * 2 ** 20],
    ['2 GiB', 2 ** 31],
    ['1.5e9', 1.5e9],
    ['800 MB', 8e8],
    ['1.5k', 1536],
    ['2.3 MB', 2_300_000],
    ['180', 180],
  ] as const) {
    assert.is(parseBytes(text), bytes, text)
  }
  assert.is(parseBytes(7), 7)
})

test('what is no whole number of bytes is refused', () => {
  for (const text of ['15.5', '0.5 B', '-1', 'much', '1 XiB', '1e999', '', ' ', '1,5 MB'])
    assert.throws(
      () => parseBytes(text, 'capacity'),
      (error: unknown) => error instanceof OptionError,
      text,
    )
  assert.throws(() => parseBytes(Number.NaN), /budget: expected bytes such as/)
  assert.throws(() => parseBytes('15.5', 'capacity'), /capacity: .*got "15.5"/)
})

test('bytes for people, in three figures', () => {
  for (const [bytes, text] of [
    [0, '0 B'],
    [1023, '1023 B'],
    [1536, '1.50 KiB'],
    [857_735_168, '818 MiB'],
    [3_415_083_728, '3.18 GiB'],
  ] as const) {
    assert.is(formatBytes(bytes), text)
  }
})

test.run()
