import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { expandNorms } from '../../lib/planner/expand.js'
import { fuse } from '../../lib/planner/fuse.js'
import {
  activation,
  add,
  attention,
  cast,
  combine,
  conv2d,
  convTime,
  embedding,
  groupNorm,
  layerNorm,
  lerp,
  linear,
  mul,
  type Program,
  prependToken,
  program,
  sub,
  type Tensor,
  type Trace,
  timestepEmbedding,
  tokens,
  upsampleNearest,
} from '../../lib/program/index.js'
import { interpret, type TensorValues } from './interpreter.js'
import { erf, roundTo } from './interpreter-math.js'
import { difference } from './recorded.js'
import { seededTensor } from './seeded.js'

const volume = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)
const weights = (tensor: Tensor): Float32Array => seededTensor(tensor.name, tensor.shape)

/** Traces, runs on given inputs, and gives the one output. */
function run(
  body: (trace: Trace) => Tensor,
  inputs: Record<string, TensorValues | number[]>,
): number[] {
  const traced = program('test', trace => ({ out: body(trace) }))
  const typed = Object.entries(inputs).map(([name, values]) => [
    name,
    traced.inputs[name]!.dtype === 'i32' ? Int32Array.from(values) : Float32Array.from(values),
  ])
  return [...interpret(traced, { inputs: Object.fromEntries(typed), weights }).out!]
}

function near(actual: readonly number[], expected: readonly number[]): void {
  assert.is(actual.length, expected.length)
  expected.forEach((x, i) =>
    assert.ok(
      Math.abs(actual[i]! - x) <= 1e-6 * Math.max(1, Math.abs(x)),
      `${i}: ${actual[i]} for ${x}`,
    ),
  )
}

test('erf and roundings', () => {
  for (const [x, y] of [
    [0, 0],
    [0.5, 0.5204998778130465],
    [1, 0.8427007929497149],
    [-2, -0.9953222650189527],
    [3, 0.9999779095030014],
  ]) {
    assert.ok(Math.abs(erf(x!) - y!) < 1e-15, `erf ${x}`)
  }
  const halves = [
    [1 / 3, 0.333251953125],
    [65519, 65504],
    [65520, Infinity],
    [2 ** -25, 0],
    [3 * 2 ** -25, 2 ** -23],
    [-1.00048828125, -1],
  ]
  for (const [x, y] of halves) assert.is(roundTo(x!, 'f16') + 0, y)
  assert.is(roundTo(1 / 3, 'bf16'), 0.333984375)
  assert.is(roundTo(257, 'bf16'), 256)
})

test('element-wise ops and what they repeat', () => {
  const a = [1, 2, 3, 4, 5, 6, 7, 8]
  const two = (op: (x: Tensor, y: Tensor) => Tensor, shape: number[], b: number[]) =>
    run(t => op(t.input('a', [2, 1, 2, 2]), t.input('b', shape)), { a, b })
  near(two(add, [2, 1, 2, 2], a), [2, 4, 6, 8, 10, 12, 14, 16])
  near(two(sub, [2], [1, 10]), [0, -8, 2, -6, 4, -4, 6, -2])
  near(two(mul, [1, 2], [1, 10]), [1, 20, 3, 40, 5, 60, 7, 80])
  near(two(add, [2, 2], [0, 10, 20, 30]), [1, 12, 3, 14, 25, 36, 27, 38])
  near(two(mul, [1], [2]), [2, 4, 6, 8, 10, 12, 14, 16])
  near(
    run(t => lerp(t.input('a', [2]), t.input('b', [2]), t.input('t', [1])), {
      a: [1, 2],
      b: [3, 2],
      t: [7.5],
    }),
    [16, 2],
  )
  const sources = (t: Trace) => [t.input('x', [2]), t.input('y', [2])]
  near(
    run(t => combine(t.input('c', [2]), sources(t)), { c: [2, -1], x: [1, 2], y: [3, 5] }),
    [-1, -1],
  )
  near(
    run(t => cast(t.input('a', [2]), 'f16'), { a: [1 / 3, 2] }),
    [0.333251953125, 2],
  )
})

test('activations', () => {
  const act = (name: Parameters<typeof activation>[1]) =>
    run(t => activation(t.input('a', [2]), name), { a: [1, -2] })
  near(act('silu'), [0.7310585786300049, -0.2384058440442351])
  near(act('gelu'), [0.8413447460685429, -0.04550026389635842])
  near(act('quick_gelu'), [0.8457957659328212, -0.06434137685579186])
  near(act('gelu_tanh'), [0.8411919906082768, -0.04540230591222494])
  near(act('sigmoid'), [0.7310585786300049, 0.11920292202211755])
})

test('a temporal convolution by hand: taps along the frames, pixels apart', () => {
  // Two channels: one weighs 1, 2, 3 along the frames, the other ten times as much.
  const weight = Float32Array.of(1, 2, 3, 10, 20, 30)
  const traced = program('test', t => ({
    out: convTime(t.input('a', [3, 1, 2, 2]), t.weight('w', [1, 2, 3, 1, 1])),
  }))
  const video = Float32Array.of(1, 0, 2, 1, 10, 0, 20, 0, 100, 1, 200, 0)
  near(
    [...interpret(traced, { inputs: { a: video }, weights: () => weight }).out!],
    [32, 64 + 20, 321 + 30, 642 + 10, 210 + 20, 420],
  )
})

test('a convolution by hand: taps, padding, stride, channels, upsampling', () => {
  // Tap (ky, kx) weighs its number.
  const weight = Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9)
  const conv = (options: Parameters<typeof conv2d>[2], shape: number[], values: number[]) => {
    const traced = program('test', t => ({
      out: conv2d(t.input('a', shape), t.weight('w', [1, 1, 3, 3]), options),
    }))
    return [
      ...interpret(traced, { inputs: { a: Float32Array.from(values) }, weights: () => weight })
        .out!,
    ]
  }
  near(conv({}, [1, 1, 1, 1], [1]), [5])
  near(conv({}, [1, 2, 2, 1], [1, 10, 100, 1000]), [9865, 8754, 6532, 5421])
  near(conv({ padding: [0, 0, 1, 1], stride: 2 }, [1, 2, 2, 1], [1, 10, 100, 1000]), [5421])
  near(conv({ stride: 2 }, [1, 2, 2, 1], [1, 10, 100, 1000]), [9865])
  near(conv({ upsampleTo: [1, 3] }, [1, 1, 2, 1], [1, 10]), [5 + 6, 4 + 5 + 60, 4 + 50])
  // Patches: a stride of the kernel's size and no padding; a fourth column is left over.
  near(conv({ stride: 3 }, [1, 3, 4, 1], [1, 0, 0, 9, 0, 1, 0, 9, 0, 0, 1, 9]), [1 + 5 + 9])
})

test('products: bias, two sources, gated GELU', () => {
  const inputs = { a: [1, 2], b: [3] }
  const both = (t: Trace) => [t.input('a', [1, 2]), t.input('b', [1, 1])] as const
  const traced = program('test', t => ({
    out: linear(both(t), t.weight('w', [2, 3]), { bias: t.weight('b', [2]) }),
  }))
  const known: Record<string, Float32Array> = {
    w: Float32Array.of(1, 10, 100, 0, 0, 1),
    b: Float32Array.of(0.5, -1),
  }
  const floats = { a: Float32Array.from(inputs.a), b: Float32Array.from(inputs.b) }
  near(
    [...interpret(traced, { inputs: floats, weights: ({ name }) => known[name] }).out!],
    [321.5, 2],
  )
  const gated = program('test', t => ({
    out: linear(t.input('a', [1, 2]), t.weight('w', [4, 2]), { act: 'geglu' }),
  }))
  const gate = Float32Array.of(1, 0, 0, 1, 1, 0, -1, 0)
  near(
    [...interpret(gated, { inputs: { a: Float32Array.of(1, 2) }, weights: () => gate }).out!],
    [0.8413447461, 2 * -0.1586552539],
  )
})

test('norms by hand', () => {
  const norm = (over: 'frame' | 'video') =>
    run(
      t =>
        groupNorm(t.input('a', [2, 1, 1, 2]), t.input('g', [2]), t.input('b', [2]), {
          groups: 1,
          eps: 0,
          over,
        }),
      { a: [1, 3, 5, 11], g: [1, 2], b: [0, 1] },
    )
  near(norm('frame'), [-1, 3, -1, 3])
  const deviation = Math.sqrt((16 + 4 + 0 + 36) / 4)
  near(norm('video'), [-4 / deviation, -4 / deviation + 1, 0, 12 / deviation + 1])
  const positioned = run(
    t =>
      layerNorm(t.input('a', [2, 1, 2, 2]), t.input('g', [2]), t.input('b', [2]), {
        eps: 0,
        positions: t.input('p', [1, 3, 2]),
      }),
    { a: [1, 3, 2, 6, 4, 0, 7, 5], g: [1, 1], b: [0, 0], p: [0, 0, 10, 20, 5, 5] },
  )
  near(positioned, [-1, 1, -1, 1, 11, 19, 11, 19])
})

test('attention by hand: over space, shared keys, causal, over time', () => {
  const even = { q: [0, 0, 0, 0], k: [1, 2, 3, 4], v: [1, 2, 3, 4] }
  const attend = (shape: number[], options: Parameters<typeof attention>[3], keys = shape) =>
    run(t => attention(t.input('q', shape), t.input('k', keys), t.input('v', keys), options), even)
  near(attend([4, 1], { heads: 1 }), [2.5, 2.5, 2.5, 2.5])
  near(attend([4, 1], { heads: 1, causal: true }), [1, 1.5, 2, 2.5])
  near(attend([2, 1, 2, 1], { heads: 1 }), [1.5, 1.5, 3.5, 3.5])
  near(attend([2, 1, 2, 1], { heads: 1, over: 'time' }), [2, 3, 2, 3])
  near(attend([2, 2], { heads: 2 }), [2, 3, 2, 3])
  near(attend([4, 1, 1, 1], { heads: 1 }, [4, 1]), [2.5, 2.5, 2.5, 2.5])
  // Scores 0 and ln 3: shares 1/4 and 3/4.
  const scored = run(
    t => attention(t.input('q', [1, 1]), t.input('k', [2, 1]), t.input('v', [2, 1]), { heads: 1 }),
    {
      q: [1],
      k: [0, Math.log(3)],
      v: [4, 8],
    },
  )
  near(scored, [7])
})

test('lookups', () => {
  const table = { table: [1, 2, 3, 4, 5, 6], positions: [10, 20, 30, 40] }
  const rows = (t: Trace) =>
    embedding(t.input('ids', [2], 'i32'), t.input('table', [3, 2]), {
      positions: t.input('positions', [2, 2]),
    })
  near(run(rows, { ids: [2, 0], ...table }), [15, 26, 31, 42])
  assert.throws(() => run(rows, { ids: [3, 0], ...table }), /expected an id below 3, got 3/)
  near(
    run(t => upsampleNearest(t.input('a', [1, 1, 2, 1]), [2, 3]), { a: [1, 2] }),
    [1, 1, 2, 1, 1, 2],
  )
  const waves = (flip: boolean) =>
    run(t => timestepEmbedding(t.input('t', [1]), { dim: 4, flipSinToCos: flip }), { t: [2] })
  near(waves(false), [Math.sin(2), Math.sin(0.02), Math.cos(2), Math.cos(0.02)])
  near(waves(true), [Math.cos(2), Math.cos(0.02), Math.sin(2), Math.sin(0.02)])
  near(
    run(t => timestepEmbedding(t.input('t', [2]), { dim: 4 }), { t: [2, 3] }),
    [2, 3].flatMap(x => [Math.cos(x), Math.cos(x / 100), Math.sin(x), Math.sin(x / 100)]),
  )
  near(
    run(t => tokens(t.input('a', [3, 2]), 1, 2), { a: [1, 2, 3, 4, 5, 6] }),
    [3, 4, 5, 6],
  )
  const image = program('test', t => ({
    out: prependToken(t.weight('first', [2]), t.input('a', [1, 1, 2, 2]), t.weight('all', [3, 2])),
  }))
  const values: Record<string, Float32Array> = {
    first: Float32Array.of(7, 8),
    all: Float32Array.of(10, 20, 30, 40, 50, 60),
  }
  near(
    [
      ...interpret(image, {
        inputs: { a: Float32Array.of(1, 2, 3, 4) },
        weights: ({ name }) => values[name],
      }).out!,
    ],
    [17, 28, 31, 42, 53, 64],
  )
})

test('split norms and fused products give what the traced ops give', () => {
  const traced: Program = program('test', t => {
    const skip = t.input('skip', [3, 5, 4, 6])
    const source = t.input('source', [3, 5, 4, 10])
    const weight = (name: string, ...shape: number[]) => t.weight(name, shape)
    const norm = (
      x: Parameters<typeof groupNorm>[0],
      name: string,
      channels: number,
      over: 'frame' | 'video',
    ) =>
      groupNorm(x, weight(`${name}.weight`, channels), weight(`${name}.bias`, channels), {
        groups: 4,
        over,
        act: 'silu',
      })
    const wide = norm([source, skip], 'n1', 16, 'frame')
    const first = add(
      conv2d(wide, weight('c1', 8, 16, 3, 3)),
      linear(t.input('time', [1, 5]), weight('l', 8, 5)),
    )
    const second = add(
      conv2d(norm(first, 'n2', 8, 'video'), weight('c2', 8, 8, 3, 3)),
      conv2d([source, skip], weight('c3', 8, 16, 1, 1)),
    )
    const framed = add(linear(second, weight('l2', 8, 8)), t.input('frames', [3, 8]))
    return {
      out: activation(
        conv2d(upsampleNearest(framed, [9, 8]), weight('c4', 3, 8, 3, 3), { stride: 2 }),
        'gelu',
      ),
    }
  })
  const fused = fuse(expandNorms(traced))
  assert.ok(fused.nodes.every(({ op }) => op !== 'group_norm' && op !== 'resize' && op !== 'unary'))
  for (const role of ['affine', 'vector', 'residual']) {
    assert.ok(
      fused.nodes.some(({ inputs }) => inputs.some(input => input.role === role)),
      role,
    )
  }
  const inputs = Object.fromEntries(
    Object.values(traced.inputs).map(({ name, shape }) => [
      name,
      seededTensor(`${name}.embedding.weight`, [volume(shape), 1]),
    ]),
  )
  const expected = interpret(traced, { inputs, weights }).out!
  const { relative } = difference(interpret(fused, { inputs, weights }).out!, expected)
  assert.ok(relative < 1e-5, `${relative}`)
})

test('wrong inputs and missing weights are named', () => {
  const body = (t: Trace) => linear(t.input('a', [1, 2]), t.weight('w', [3, 2]))
  assert.throws(() => run(body, { a: [1, 2, 3] }), /a: expected 2 values, got 3/)
  const traced = program('test', t => ({ out: body(t) }))
  assert.throws(
    () => interpret(traced, { inputs: { a: Float32Array.of(1, 2) } }),
    /w: expected 6 values, got none/,
  )
})

test.run()
