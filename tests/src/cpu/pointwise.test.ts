import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  absent,
  actCode,
  binaryCode,
  type CommandWriter,
  dtypeCode,
  type View,
} from '../../../lib/planner/commands.js'
import { activate, roundTo } from '../../support/interpreter-math.js'
import { rejectsCode } from '../support.js'
import {
  check,
  type Extents,
  type FloatType,
  from,
  halfBits,
  halfValue,
  Memory,
  normals,
  positions,
  sameBits,
} from './support.js'

/** An operand's view with strides of 0 along the axes named. */
const repeated = (view: View, axes: readonly number[]): View => ({
  ...view,
  strides: view.strides.map((s, axis) => (axes.includes(axis) ? 0 : s)) as [number, number, number],
})

const operations = {
  add: (a: number, b: number) => a + b,
  sub: (a: number, b: number) => a - b,
  mul: (a: number, b: number) => a * b,
  lerp: (a: number, b: number, t: number) => a + t * (b - a),
}

for (const op of Object.keys(operations) as (keyof typeof operations)[]) {
  for (const [name, extents, gaps, axes, stride] of [
    ['whole', [2, 3, 4, 5], [0, 0, 0], [], 1],
    ['strided', [2, 3, 4, 21], [3, 1, 2], [], 1],
    ['long runs', [2, 1, 3, 9000], [0, 0, 0], [], 1],
    ['b of a frame', [3, 2, 5, 18], [0, 0, 0], [1, 2], 1],
    ['b of each pixel', [2, 3, 4, 33], [0, 0, 0], [], 0],
    ['b of one value', [2, 3, 4, 33], [0, 0, 0], [0, 1, 2], 0],
  ] as const) {
    test(`binary ${op}: ${name}`, async () => {
      const memory = new Memory()
      const fill = normals(op.length + name.length)
      const [frames, rows, cols, channels] = extents as Extents
      const a = memory.operand(extents as Extents, { gaps, fill })
      const b = memory.operand(extents as Extents, { gaps, fill })
      const t = memory.vector([Math.fround(0.3)])
      const out = memory.operand(extents as Extents, { gaps: [gaps[0], 0, 1] })
      const zeros = axes as readonly number[]
      const write = (writer: CommandWriter, first: number, end: number) =>
        writer.binary(0, 0, {
          op: binaryCode[op],
          extents: [end - first, rows, cols, channels],
          bChannelStride: stride,
          a: from(a.view, first),
          b: from(repeated(b.view, zeros), first),
          t: op === 'lerp' ? t : absent,
          out: from(out.view, first),
        })
      const at = (axis: number, position: number) => (zeros.includes(axis) ? 0 : position)
      await check(op, {
        memory,
        out,
        tolerance: 1e-6,
        expected: (f, y, x, c) =>
          operations[op](
            a.get(f, y, x, c),
            b.get(at(0, f), at(1, y), at(2, x), stride ? c : 0),
            Math.fround(0.3),
          ),
        whole: writer => write(writer, 0, frames),
        sliced: writer => {
          for (let f = 0; f < frames; f++) write(writer, f, f + 1)
        },
      })
    })
  }
}

test('binary: in place, over an operand that nothing moves', async () => {
  const memory = new Memory()
  const a = memory.operand([1, 2, 3, 40], { fill: normals(3) })
  const initial = new Map([...positions(a.extents)].map(p => [p.join(), a.get(...p)]))
  const whole = (writer: CommandWriter) =>
    writer.binary(0, 0, {
      op: binaryCode.mul,
      extents: a.extents,
      bChannelStride: 1,
      a: a.view,
      b: a.view,
      t: absent,
      out: a.view,
    })
  const expected = (...p: [number, number, number, number]) => initial.get(p.join())! ** 2
  await check('square', { memory, out: a, tolerance: 1e-6, expected, whole })
})

for (const count of [1, 2, 3, 4]) {
  test(`combine of ${count}`, async () => {
    const memory = new Memory()
    const fill = normals(count)
    const extents: Extents = [2, 3, 5, count === 2 ? 4100 : 19]
    const sources = Array.from({ length: count }, (_, i) =>
      memory.operand(extents, { gaps: [count === 2 ? 0 : i, 0, 0], fill }),
    )
    const factors = Float32Array.from({ length: count }, fill)
    const coefficients = memory.vector(factors)
    const values = new Map(
      [...positions(extents)].map(p => [p.join(), sources.map(s => s.get(...p))]),
    )
    const out = sources.at(-1)!
    await check('combine', {
      memory,
      out,
      tolerance: 1e-6,
      expected: (...p) => values.get(p.join())!.reduce((sum, v, i) => sum + v * factors[i]!, 0),
      whole: writer =>
        writer.combine(0, 0, {
          extents,
          coefficients,
          sources: sources.map(s => s.view),
          out: out.view,
        }),
    })
  })
}

const acts = Object.keys(actCode).filter(act => act !== 'geglu') as Exclude<
  keyof typeof actCode,
  'geglu'
>[]
for (const act of acts) {
  test(`unary ${act}: from far below to far above`, async () => {
    const memory = new Memory()
    const values = [0, -0, 1e-30, -1e-30, 87, -87, 88.5, -88.5, 90, -90, 200, -200, 1e4, -1e4]
    for (let x = -12; x <= 12; x += 1 / 64) values.push(x)
    let i = 0
    const source = memory.operand([1, 1, 1, values.length], { fill: () => values[i++]! })
    const out = memory.operand(source.extents)
    await check(act, {
      memory,
      out,
      tolerance: act === 'none' ? 0 : 4e-7,
      expected: (_f, _y, _x, c) => activate(source.get(0, 0, 0, c), act),
      whole: writer =>
        writer.unary(0, 0, {
          act: actCode[act],
          extents: source.extents,
          source: source.view,
          out: out.view,
        }),
    })
  })
}

test('unary: NaN stays, infinity is no NaN to sigmoid', async () => {
  const memory = new Memory()
  const source = memory.vector([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
  const out = memory.take(12)
  const run = (act: number) =>
    memory.run(w =>
      w.unary(0, 0, { act, extents: [1, 1, 1, 3], source, out: { ...source, offset: out } }),
    )
  const [nan, above, below] = new Float32Array((await run(actCode.sigmoid)).buffer, out, 3)
  assert.ok(Number.isNaN(nan))
  assert.ok(Math.abs(above! - 1) < 2e-7)
  assert.ok(below! >= 0 && below! < 1e-37)
  for (const act of [actCode.silu, actCode.gelu, actCode.quick_gelu, actCode.gelu_tanh]) {
    const [nothing, most] = new Float32Array((await run(act)).buffer, out, 2)
    assert.ok(Number.isNaN(nothing))
    assert.is(most, Number.POSITIVE_INFINITY)
  }
})

/** Every finite pattern of a 16-bit type, and infinities. */
function patterns(dtype: 'f16' | 'bf16'): number[] {
  return Array.from({ length: 1 << 16 }, (_, i) => i).filter(
    i => !Number.isNaN(halfValue(i, dtype)),
  )
}

for (const dtype of ['f16', 'bf16'] as const) {
  test(`unary: every ${dtype} widens exactly and comes back`, async () => {
    const memory = new Memory()
    const all = patterns(dtype)
    const view = (offset: number, type: FloatType): View => ({
      slot: 0,
      dtype: dtypeCode[type],
      offset,
      strides: [0, 0, 0],
    })
    const extents: Extents = [1, 1, 1, all.length]
    const [half, wide, back] = [
      memory.take(all.length * 2),
      memory.take(all.length * 4),
      memory.take(all.length * 2),
    ]
    memory.halves.set(all, half / 2)
    const write = (writer: CommandWriter) => {
      writer.unary(0, 0, { act: 0, extents, source: view(half, dtype), out: view(wide, 'f32') })
      writer.unary(1, 0, { act: 0, extents, source: view(wide, 'f32'), out: view(back, dtype) })
    }
    const words = await memory.run(write)
    const widened = new Float32Array(words.buffer, wide, all.length)
    const returned = new Uint16Array(words.buffer, back, all.length)
    const wrong = all.findIndex((bits, i) => !Object.is(widened[i], halfValue(bits, dtype)))
    assert.is(wrong, -1, `pattern ${all[wrong]}: ${widened[wrong]}`)
    const changed = all.findIndex((bits, i) => returned[i] !== bits)
    assert.is(changed, -1, `pattern ${all[changed]} came back as ${returned[changed]}`)
    sameBits('threads', await memory.run(write, 3), words)
  })

  test(`unary: float32 rounds to the nearest ${dtype}, ties to even`, async () => {
    const memory = new Memory()
    const next = normals(5)
    const values: number[] = []
    for (const bits of patterns(dtype).filter(i => i % 61 === 0)) {
      const [low, high] = [halfValue(bits, dtype), halfValue(bits + 1, dtype)]
      if (!Number.isFinite(low) || !Number.isFinite(high)) continue
      values.push((low + high) / 2, low + (high - low) * 0.499, low + (high - low) * 0.501)
    }
    for (let i = 0; i < 2000; i++) values.push(next() * 10 ** (8 * next()))
    values.push(65519, 65520, 1e6, -1e6, 3.4e38, -3.4e38)
    const floats = Float32Array.from(values)
    const source = memory.vector(floats)
    const out: View = { ...source, dtype: dtypeCode[dtype], offset: memory.take(floats.length * 2) }
    const words = await memory.run(w =>
      w.unary(0, 0, { act: 0, extents: [1, 1, 1, floats.length], source, out }),
    )
    const got = new Uint16Array(words.buffer, out.offset, floats.length)
    const wrong = floats.findIndex((x, i) => got[i] !== halfBits(x, dtype))
    assert.is(
      wrong,
      -1,
      `${floats[wrong]} became ${halfValue(got[wrong]!, dtype)}, not ${roundTo(floats[wrong]!, dtype)}`,
    )
  })
}

test('resize: up, down and by no multiple, whole and in parts', async () => {
  for (const [inSize, outSize] of [
    [
      [3, 5],
      [6, 10],
    ],
    [
      [3, 5],
      [7, 8],
    ],
    [
      [8, 6],
      [3, 5],
    ],
    [
      [1, 1],
      [4, 3],
    ],
  ] as const) {
    const memory = new Memory()
    const source = memory.operand([2, ...inSize, 19], { gaps: [1, 2, 3], fill: normals(1) })
    const out = memory.operand([2, ...outSize, 19], { gaps: [2, 0, 1] })
    const write = (writer: CommandWriter, first: number, end: number) =>
      writer.resize(0, 0, {
        extents: [2, end - first, outSize[1], 19],
        inSize,
        outSize,
        outOrigin: [first, 0],
        sourceOrigin: [0, 0],
        sourceSize: inSize,
        source: source.view,
        out: from(out.view, 0, first),
      })
    const near = (i: number, axis: 0 | 1) => Math.floor((i * inSize[axis]) / outSize[axis])
    await check(`resize ${inSize} to ${outSize}`, {
      memory,
      out,
      tolerance: 0,
      expected: (f, y, x, c) => source.get(f, near(y, 0), near(x, 1), c),
      whole: writer => write(writer, 0, outSize[0]),
      sliced: writer => {
        for (let y = 0; y < outSize[0]; y++) write(writer, y, y + 1)
      },
    })
  }
})

for (const dtype of ['f32', 'f16', 'bf16'] as const) {
  test(`embedding of ${dtype}: rows by id, positions, ids out of range`, async () => {
    const memory = new Memory()
    const fill = normals(2)
    const table = memory.operand([1, 1, 11, 21], { dtype, gaps: [3, 0, 0], fill })
    const positions = memory.operand([1, 1, 9, 21], { gaps: [1, 0, 0], fill })
    const tokens = [0, 10, 3, 3, 7]
    const ids: View = { slot: 0, dtype: dtypeCode.i32, offset: memory.take(20), strides: [0, 0, 1] }
    const list = new Int32Array(memory.words.buffer, ids.offset, 5)
    list.set(tokens)
    const out = memory.operand([1, 1, 5, 21], { gaps: [2, 0, 0] })
    const write = (places: View, first: number, end: number) => (writer: CommandWriter) =>
      writer.embedding(0, 0, {
        tokens: end - first,
        channels: 21,
        tableRows: 11,
        token0: first + 2,
        positionRows: 9,
        ids: { ...ids, offset: ids.offset + 4 * first },
        table: table.view,
        positions: places,
        out: from(out.view, 0, 0, first),
      })
    for (const places of [absent, positions.view]) {
      await check('embedding', {
        memory,
        out,
        tolerance: 1e-7,
        expected: (_f, _y, t, c) =>
          table.get(0, 0, tokens[t]!, c) + (places === absent ? 0 : positions.get(0, 0, t + 2, c)),
        whole: write(places, 0, 5),
        sliced: writer => {
          for (let t = 0; t < 5; t++) write(places, t, t + 1)(writer)
        },
      })
    }
    for (const bad of [11, -1]) {
      list[4] = bad
      for (const threads of [1, 2]) {
        await rejectsCode(memory.run(write(absent, 0, 5), threads), 'bad-data', /./)
      }
    }
  })
}

test('timestep: sines and cosines, shifted, flipped', async () => {
  for (const [dim, shift, flip] of [
    [320, 0, 1],
    [320, 1, 0],
    [6, 0, 0],
    [2, 0, 1],
  ] as const) {
    const memory = new Memory()
    const t = memory.vector([981])
    const out = memory.operand([1, 1, 1, dim])
    const half = Math.floor(dim / 2)
    await check(`timestep ${dim}`, {
      memory,
      out,
      tolerance: 1e-6,
      expected: (_f, _y, _x, i) => {
        const angle = 981 * Math.exp((-Math.log(10000) * (i % half)) / (half - shift))
        return i < half !== Boolean(flip) ? Math.sin(angle) : Math.cos(angle)
      },
      whole: writer =>
        writer.timestep(0, 0, {
          dim,
          flip: Boolean(flip),
          shift,
          maxPeriod: 10000,
          t,
          out: out.view,
        }),
    })
  }
})

test.run()
