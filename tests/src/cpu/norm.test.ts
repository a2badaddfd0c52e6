import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { absent, actCode, type CommandWriter, type View } from '../../../lib/planner/commands.js'
import { activate } from '../../support/interpreter-math.js'
import { check, type Extents, from, Memory, normals, type Operand, sameBits } from './support.js'

interface GroupCase {
  extents: readonly [frames: number, rows: number, cols: number]
  sources: readonly number[]
  blocks: readonly number[]
  groups: number
  together?: boolean
  /** Mean of the values; their spread is 1. */
  mean?: number
}

const eps = 1e-5

/** Statistics in float64 of the elements that `visit` gives. */
function statistics(visit: (take: (value: number) => void) => void) {
  let count = 0
  let total = 0
  visit(value => {
    count++
    total += value
  })
  const mean = total / count
  let squares = 0
  visit(value => {
    squares += (value - mean) ** 2
  })
  return { count, mean, squares }
}

async function groupNorm(what: string, seed: number, c: GroupCase): Promise<void> {
  const memory = new Memory()
  const next = normals(seed)
  const fill = () => (c.mean ?? 0) + next()
  const [frames, rows, cols] = c.extents
  const channels = c.sources.reduce((a, b) => a + b, 0)
  const source = c.sources.map((n, i) =>
    memory.operand([frames, rows, cols, n], { gaps: [2 * i + 1, 3, 5], fill }),
  )
  const partials = c.sources.map((n, i) => {
    const operand = memory.operand([frames, rows, 1, (2 * n) / c.blocks[i]!])
    const [f, y] = operand.view.strides
    return { ...operand, view: { ...operand.view, strides: [f, y, 2] as const } }
  })
  const framesOut = c.together ? 1 : frames
  const gamma = memory.vector(Float32Array.from({ length: channels }, next))
  const beta = memory.vector(Float32Array.from({ length: channels }, next))
  const affine = memory.operand([framesOut, 1, 1, 2 * channels])
  const out = memory.operand([frames, rows, cols, channels], { gaps: [1, 0, 2] })

  const writePartials = (writer: CommandWriter, first: number, end: number) =>
    source.forEach((s, i) => {
      writer.normPartials(0, 0, {
        extents: [end - first, rows, cols, c.sources[i]!],
        block: c.blocks[i]!,
        source: from(s.view, first),
        out: from(partials[i]!.view, first),
      })
    })
  const writeRest = (writer: CommandWriter) => {
    writer.normFold(0, 0, {
      frames,
      framesOut,
      rows,
      cols,
      sourceChannels: c.sources,
      blocks: c.blocks,
      groups: c.groups,
      eps,
      partials: partials.map(p => p.view),
      gamma,
      beta,
      out: affine.view,
    })
    const [f] = affine.view.strides
    writer.affine(0, 0, {
      extents: [frames, rows, cols, channels],
      sourceChannels: c.sources,
      sources: source.map(s => s.view),
      affine: { ...affine.view, strides: [c.together ? 0 : f, 0, 0] },
      act: actCode.silu,
      out: out.view,
    })
  }
  const whole = (writer: CommandWriter) => {
    writePartials(writer, 0, frames)
    writeRest(writer)
  }
  const sliced = (writer: CommandWriter) => {
    for (let f = frames - 1; f >= 0; f--) writePartials(writer, f, f + 1)
    writeRest(writer)
  }

  const valueAt = (f: number, y: number, x: number, channel: number) =>
    channel < c.sources[0]!
      ? source[0]!.get(f, y, x, channel)
      : source[1]!.get(f, y, x, channel - c.sources[0]!)
  const size = channels / c.groups
  // Partial means are kept in float32: their rounding grows with the mean.
  const close = 5e-6 + 1e-8 * Math.abs(c.mean ?? 0)
  const once = await memory.run(whole)
  const floats = new Float32Array(once.buffer)
  partials.forEach((p, s) => {
    const block = c.blocks[s]!
    for (let f = 0; f < frames; f++) {
      for (let y = 0; y < rows; y++) {
        for (let b = 0; b < c.sources[s]! / block; b++) {
          const { mean, squares } = statistics(take => {
            for (let x = 0; x < cols; x++)
              for (let i = 0; i < block; i++) take(source[s]!.get(f, y, x, b * block + i))
          })
          const [sf, sy] = p.view.strides
          const at = p.view.offset / 4 + f * sf + y * sy + 2 * b
          assert.ok(Math.abs(floats[at]! - mean) <= 1e-6 * (1 + Math.abs(mean)), `${what}: mean`)
          assert.ok(Math.abs(floats[at + 1]! - squares) <= 2e-6 * (0.1 + squares), `${what}: M2`)
        }
      }
    }
  })
  for (let f = 0; f < frames; f++) {
    for (let g = 0; g < c.groups; g++) {
      const { count, mean, squares } = statistics(take => {
        const [begin, end] = c.together ? [0, frames] : [f, f + 1]
        for (let t = begin; t < end; t++)
          for (let y = 0; y < rows; y++)
            for (let x = 0; x < cols; x++)
              for (let i = g * size; i < (g + 1) * size; i++) take(valueAt(t, y, x, i))
      })
      const rstd = 1 / Math.sqrt(squares / count + eps)
      for (let i = g * size; i < (g + 1) * size; i++) {
        const scale = memory.floats[gamma.offset / 4 + i]! * rstd
        const shift = memory.floats[beta.offset / 4 + i]! - mean * scale
        const at = affine.view.offset / 4 + (c.together ? 0 : f) * 2 * channels + i
        assert.ok(Math.abs(floats[at]! - scale) <= close * (1 + Math.abs(scale)), `${what}: scale`)
        const error = Math.abs(floats[at + channels]! - shift)
        assert.ok(error <= close * (1 + Math.abs(mean * scale)), `${what}: shift`)
        for (let y = 0; y < rows; y++) {
          for (let x = 0; x < cols; x++) {
            const expected = activate(valueAt(f, y, x, i) * scale + shift, 'silu')
            const [sf, sy, sx] = out.view.strides
            const got = floats[out.view.offset / 4 + f * sf + y * sy + x * sx + i]!
            const tolerance = 1e-5 * (1 + Math.abs(c.mean ?? 0)) * (1 + Math.abs(expected))
            assert.ok(Math.abs(got - expected) <= tolerance, `${what}: ${got}, not ${expected}`)
          }
        }
      }
    }
  }
  for (const threads of [2, 3]) sameBits(what, await memory.run(whole, threads), once)
  for (const threads of [1, 3]) sameBits(what, await memory.run(sliced, threads), once)
}

const groupCases: Record<string, GroupCase> = {
  'one pixel': { extents: [1, 1, 1], sources: [4], blocks: [2], groups: 2 },
  'blocks of 10, per frame': { extents: [3, 5, 7], sources: [320], blocks: [10], groups: 32 },
  'groups across the seam': { extents: [2, 3, 4], sources: [40, 20], blocks: [10, 10], groups: 2 },
  'blocks of other sizes': { extents: [2, 2, 5], sources: [12, 6], blocks: [3, 6], groups: 3 },
  'over all frames': { extents: [4, 3, 6], sources: [30], blocks: [5], groups: 3, together: true },
  'two sources over all frames': {
    extents: [3, 2, 3],
    sources: [8, 8],
    blocks: [4, 2],
    groups: 4,
    together: true,
  },
  'a large mean': { extents: [2, 4, 9], sources: [60], blocks: [10], groups: 3, mean: 3000 },
  'a large mean over all frames': {
    extents: [3, 4, 9],
    sources: [70],
    blocks: [7],
    groups: 10,
    mean: -500,
    together: true,
  },
  // The first sums of such rows miss the mean by a tenth of the spread.
  'long rows far from 0': {
    extents: [1, 1, 600],
    sources: [10],
    blocks: [10],
    groups: 1,
    mean: 1e5,
  },
  'more blocks than a chunk has': { extents: [1, 2, 5], sources: [1320], blocks: [20], groups: 11 },
  'a block wider than a chunk': {
    extents: [1, 2, 3],
    sources: [1500],
    blocks: [1500],
    groups: 1,
    mean: 40,
  },
}

Object.entries(groupCases).forEach(([name, shape], i) => {
  test(`group norm: ${name}`, () => groupNorm(name, i + 1, shape))
})

test('partial statistics of one pixel, repeated', async () => {
  const memory = new Memory()
  const source = memory.operand([1, 1, 1, 40], { fill: normals(1) })
  const out = memory.operand([1, 1, 1, 8])
  const words = await memory.run(writer =>
    writer.normPartials(0, 0, {
      extents: [1, 1, 9, 40],
      block: 10,
      source: { ...source.view, strides: [0, 0, 0] },
      out: { ...out.view, strides: [0, 0, 2] },
    }),
  )
  for (let b = 0; b < 4; b++) {
    const { mean, squares } = statistics(take => {
      for (let i = 0; i < 10; i++) take(source.get(0, 0, 0, 10 * b + i))
    })
    const [got, m2] = new Float32Array(words.buffer, out.view.offset + 8 * b, 2)
    assert.ok(Math.abs(got! - mean) < 1e-6, `mean ${got}, not ${mean}`)
    assert.ok(Math.abs(m2! - 9 * squares) < 1e-5 * squares, `M2 ${m2}, not ${9 * squares}`)
  }
})

interface LayerCase {
  extents: Extents
  /** An operand added after the norm: of each row of columns, of each frame, or of every element. */
  add?: 'columns' | 'frames' | 'all'
  mean?: number
  inPlace?: boolean
}

async function layerNorm(what: string, seed: number, c: LayerCase): Promise<void> {
  const memory = new Memory()
  const next = normals(seed)
  const [frames, rows, cols, channels] = c.extents
  const source = memory.operand(c.extents, { gaps: [3, 1, 2], fill: () => (c.mean ?? 0) + next() })
  const gamma = memory.vector(Float32Array.from({ length: channels }, next))
  const beta = memory.vector(Float32Array.from({ length: channels }, next))
  let add: Operand | undefined
  let addView: View = absent
  if (c.add) {
    const extents = { columns: [1, 1, cols], frames: [frames, 1, 1], all: [frames, rows, cols] }[
      c.add
    ]
    add = memory.operand([...(extents as [number, number, number]), channels], { fill: next })
    const strides = add.view.strides.map((stride, axis) => (extents[axis] === 1 ? 0 : stride))
    addView = { ...add.view, strides: strides as [number, number, number] }
  }
  const out = c.inPlace ? source : memory.operand(c.extents, { gaps: [1, 0, 0] })
  const initial = new Map<string, { mean: number; rstd: number; values: Float64Array }>()
  for (let f = 0; f < frames; f++) {
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < cols; x++) {
        const values = Float64Array.from({ length: channels }, (_, i) => source.get(f, y, x, i))
        const { count, mean, squares } = statistics(take => values.forEach(take))
        initial.set(`${f},${y},${x}`, { values, mean, rstd: 1 / Math.sqrt(squares / count + eps) })
      }
    }
  }
  const write = (writer: CommandWriter, first: number, end: number) =>
    writer.layerNorm(0, 0, {
      extents: [end - first, rows, cols, channels],
      eps,
      source: from(source.view, first),
      gamma,
      beta,
      add: c.add ? from(addView, first) : absent,
      out: from(out.view, first),
    })
  await check(what, {
    memory,
    out,
    tolerance: c.mean ? 1e-3 : 5e-6,
    expected: (f, y, x, i) => {
      const { values, mean, rstd } = initial.get(`${f},${y},${x}`)!
      const g = memory.floats[gamma.offset / 4 + i]!
      const b = memory.floats[beta.offset / 4 + i]!
      const position: [number, number, number] = {
        columns: [0, 0, x],
        frames: [f, 0, 0],
        all: [f, y, x],
      }[c.add ?? 'all'] as [number, number, number]
      return (values[i]! - mean) * rstd * g + b + (add ? add.get(...position, i) : 0)
    },
    whole: writer => write(writer, 0, frames),
    sliced: writer => {
      for (let f = 0; f < frames; f++) write(writer, f, f + 1)
    },
  })
}

const layerCases: Record<string, LayerCase> = {
  'one channel': { extents: [1, 1, 3, 1] },
  'odd channels': { extents: [2, 3, 5, 37] },
  'whole vectors': { extents: [1, 1, 9, 320], add: 'columns' },
  'an addend of each frame': { extents: [3, 2, 4, 50], add: 'frames' },
  'an addend of each element, in place': { extents: [2, 2, 3, 21], add: 'all', inPlace: true },
  'a large mean': { extents: [1, 2, 4, 64], mean: 1000 },
}

Object.entries(layerCases).forEach(([name, shape], i) => {
  test(`layer norm: ${name}`, () => layerNorm(name, i + 1, shape))
})

test.run()
