import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type CommandWriter, dtypeCode } from '../../../lib/planner/commands.js'
import { storedWords } from '../../../lib/program/index.js'
import { narrow } from '../../support/interpreter-quantise.js'
import { check, type Extents, from, Memory, normals, sameBits } from './support.js'

for (const [channels, gaps] of [
  [1, [0, 0, 0]],
  [4, [0, 0, 0]],
  [31, [2, 1, 3]],
  [32, [0, 0, 0]],
  [33, [1, 0, 0]],
  [48, [0, 5, 0]],
  [81, [3, 0, 2]],
  [320, [0, 0, 0]],
] as const) {
  test(`eight-bit storage of ${channels} channels and back`, async () => {
    const extents: Extents = [2, 3, 5, channels]
    const words = storedWords(channels)
    const fill = normals(channels)
    // Pixels of very different size, and one of zeros.
    let at = 0
    const value = () => {
      const pixel = Math.floor(at++ / channels)
      return pixel === 7 ? 0 : fill() * 10 ** ((pixel % 5) - 2)
    }
    const memory = new Memory()
    const source = memory.operand(extents, { gaps, fill: value })
    const stored = memory.operand([2, 3, 5, words], { gaps: [1, 2, 0] })
    const back = memory.operand(extents, { gaps: [gaps[0], 1, 0] })
    const storedView = { ...stored.view, dtype: dtypeCode.i32 }
    const write = (writer: CommandWriter, first: number, end: number) => {
      const part: Extents = [end - first, 3, 5, channels]
      writer.quantise('quantise', 0, 0, {
        extents: part,
        source: from(source.view, first),
        out: { ...from(stored.view, first), dtype: dtypeCode.i32 },
      })
      writer.quantise('dequantise', 0, 0, {
        extents: part,
        source: { ...from(stored.view, first), dtype: dtypeCode.i32 },
        out: from(back.view, first),
      })
    }
    const pixelOf = (f: number, y: number, x: number) =>
      Float32Array.from({ length: channels }, (_, c) => source.get(f, y, x, c))
    const whole = (writer: CommandWriter) => write(writer, 0, 2)
    const words1 = await memory.run(whole)
    for (const [f, y, x] of [
      [0, 0, 0],
      [0, 2, 1],
      [1, 0, 3],
      [1, 2, 4],
    ] as const) {
      const [frame, row, pixel] = storedView.strides
      const begin = storedView.offset / 4 + f * frame + y * row + x * pixel
      const expected = narrow(pixelOf(f, y, x), channels)
      sameBits(
        `pixel ${f},${y},${x}`,
        words1.slice(begin, begin + words),
        new Uint32Array(expected.buffer),
      )
    }
    // Every value comes back to within half a step of its block's scale, whatever threads and slices.
    const values = new Float32Array(words1.buffer)
    const [frame, row, pixel] = back.view.strides
    for (let f = 0; f < 2; f++) {
      for (let y = 0; y < 3; y++) {
        for (let x = 0; x < 5; x++) {
          const own = pixelOf(f, y, x)
          own.forEach((wanted, c) => {
            const first = c - (c % 32)
            const most = own
              .subarray(first, first + 32)
              .reduce((m, v) => Math.max(m, Math.abs(v)), 0)
            const got = values[back.view.offset / 4 + f * frame + y * row + x * pixel + c]!
            assert.ok(Math.abs(got - wanted) <= (most / 254) * 1.00001, `${got} for ${wanted}`)
          })
        }
      }
    }
    for (const threads of [2, 3]) sameBits('threads', await memory.run(whole, threads), words1)
    const sliced = (writer: CommandWriter) => {
      for (let f = 0; f < 2; f++) write(writer, f, f + 1)
    }
    sameBits('sliced', await memory.run(sliced, 2), words1)
  })
}

test('what is not finite is stored without harm', async () => {
  const memory = new Memory()
  const odd = [Number.NaN, Number.POSITIVE_INFINITY, 1, Number.NEGATIVE_INFINITY]
  let i = 0
  const source = memory.operand([1, 1, 1, 4], { fill: () => odd[i++]! })
  const stored = memory.operand([1, 1, 1, 2], {})
  await memory.run(writer =>
    writer.quantise('quantise', 0, 0, {
      extents: [1, 1, 1, 4],
      source: source.view,
      out: { ...stored.view, dtype: dtypeCode.i32 },
    }),
  )
})

test('nothing is written beside what was asked for', async () => {
  const memory = new Memory()
  const extents: Extents = [1, 2, 3, 8]
  const source = memory.operand([1, 2, 3, storedWords(8)], { fill: () => 0 })
  const out = memory.operand(extents, { gaps: [5, 1, 0] })
  await check('dequantise', {
    memory,
    out,
    tolerance: 0,
    expected: () => 0,
    whole: writer =>
      writer.quantise('dequantise', 0, 0, {
        extents,
        source: { ...source.view, dtype: dtypeCode.i32 },
        out: out.view,
      }),
  })
})

test('commands that would race or read other types are refused', async () => {
  const memory = new Memory()
  const source = memory.operand([1, 2, 3, 8], { fill: () => 0 })
  const out = memory.operand([1, 2, 3, storedWords(8)], {})
  const command = (change: object) =>
    memory.run(writer =>
      writer.quantise('quantise', 0, 0, {
        extents: [1, 2, 3, 8],
        source: source.view,
        out: { ...out.view, dtype: dtypeCode.i32 },
        ...change,
      }),
    )
  for (const [change, message] of [
    [{ out: out.view }, /out: expected dtype i32/],
    [{ out: { ...out.view, dtype: dtypeCode.i32, strides: [0, 3, 2] } }, /written twice/],
    [{ source: { ...source.view, dtype: dtypeCode.i32 } }, /source: expected dtype f32/],
    [{ extents: [1, 2, 3, 8000] }, /written twice/],
  ] as const) {
    const error = await command(change).then(
      () => undefined,
      (thrown: Error) => thrown,
    )
    assert.match(`${error?.message}`, message)
  }
})

test.run()
