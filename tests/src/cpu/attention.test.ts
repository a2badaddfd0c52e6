import { test } from 'uvu'
import type { CommandWriter, View } from '../../../lib/planner/commands.js'
import { activations, check, from, Memory, normals, type Operand, onlyCases } from './support.js'

interface Case {
  frames: number
  rows: number
  cols: number
  heads: number
  headDim: number
  time?: boolean
  /** Frames (time) or rows and columns of the keys; as the queries where not given. */
  keys?: readonly [number, number, number]
  /** Keys and values of frame 0 serve every frame. */
  shared?: boolean
  causal?: boolean
  query0?: number
  scale?: number
  block: readonly [queries: number, keys: number]
  /** Free elements behind pixels, rows and frames. */
  gaps?: readonly [number, number, number]
  outGaps?: readonly [number, number, number]
}

async function attention(what: string, seed: number, c: Case): Promise<void> {
  const memory = new Memory()
  const fill = normals(seed)
  const { frames, rows, cols, heads, headDim, time = false, causal = false, query0 = 0 } = c
  const channels = heads * headDim
  const keyExtents = c.keys ?? [frames, rows, cols]
  const scale = c.scale ?? 1 / Math.sqrt(headDim)
  const layout = { dtype: activations, gaps: c.gaps ?? ([0, 0, 0] as const), fill }
  const q = memory.operand([frames, rows, cols, channels], layout)
  const [keyFrames, keyRows, keyCols] = keyExtents
  const k = memory.operand([c.shared ? 1 : keyFrames, keyRows, keyCols, channels], layout)
  const v = memory.operand([c.shared ? 1 : keyFrames, keyRows, keyCols, channels], layout)
  const out = memory.operand([frames, rows, cols, channels], {
    dtype: activations,
    gaps: c.outGaps ?? [4, 1, 2],
  })
  const scratchBytes = (block: readonly [number, number]) => {
    const padded = Math.ceil(headDim / 16) * 16
    return (
      4 *
      (block[1] * (headDim + padded) +
        8 * (block[1] % 256 === 0 ? block[1] + 16 : block[1]) +
        block[0] * (padded + headDim + 2))
    )
  }
  const scratch = memory.scratch(scratchBytes(c.block))
  const keyView = (operand: Operand): View => {
    const [f, y, x] = operand.view.strides
    return { ...operand.view, strides: [c.shared ? 0 : f, y, x] }
  }

  /** The queries of some frames (time) or rows. */
  const write = (writer: CommandWriter, first: number, end: number, blockQ: number) => {
    const origin: [number, number] = time ? [first, 0] : [0, first]
    writer.attention(0, 0, {
      extents: time ? [end - first, rows, cols, channels] : [frames, end - first, cols, channels],
      heads,
      headDim,
      time,
      keyExtents,
      causal,
      query0: query0 + (causal ? first * (time ? 1 : cols) : 0),
      scale,
      q: from(q.view, ...origin),
      k: keyView(k),
      v: keyView(v),
      out: from(out.view, ...origin),
      tile: [blockQ, c.block[1]],
      ...memory.scratchFields(scratch, scratchBytes([blockQ, c.block[1]])),
    })
  }

  const count = time ? keyFrames : keyRows * keyCols
  const keyAt = (
    operand: Operand,
    item: readonly [number, number, number],
    token: number,
    channel: number,
  ) =>
    time
      ? operand.get(token, item[1], item[2], channel)
      : operand.get(c.shared ? 0 : item[0], Math.floor(token / keyCols), token % keyCols, channel)
  const rowsOf = new Map<string, Float64Array>()
  /** Softmax of one query's scores. */
  const shares = (f: number, y: number, x: number, head: number): Float64Array => {
    const key = `${f},${y},${x},${head}`
    let row = rowsOf.get(key)
    if (!row) {
      const query = query0 + (time ? f : y * cols + x)
      const seen = causal ? Math.min(count, query + 1) : count
      const scores = Float64Array.from({ length: seen }, (_, token) => {
        let total = 0
        for (let i = head * headDim; i < (head + 1) * headDim; i++) {
          total += q.get(f, y, x, i) * keyAt(k, [f, y, x], token, i)
        }
        return total * scale
      })
      const peak = Math.max(...scores)
      row = scores.map(s => Math.exp(s - peak))
      const whole = row.reduce((a, b) => a + b, 0)
      row = row.map(p => p / whole)
      rowsOf.set(key, row)
    }
    return row
  }
  const expected = (f: number, y: number, x: number, channel: number): number => {
    const row = shares(f, y, x, Math.floor(channel / headDim))
    let total = 0
    row.forEach((p, token) => {
      total += p * keyAt(v, [f, y, x], token, channel)
    })
    return total
  }

  const length = time ? frames : rows
  const cut = Math.ceil(length / 3)
  await check(what, {
    memory,
    out,
    expected,
    // A score's rounding, of some ulps of its size, is the relative error of its exponential.
    tolerance: 2e-5 * Math.max(1, (c.scale ?? 1) / 10),
    whole: writer => write(writer, 0, length, c.block[0]),
    sliced: writer => {
      if (cut < length) write(writer, cut, length, 8)
      for (let i = 0; i < cut; i++) write(writer, i, i + 1, c.block[0])
    },
  })
}

const cases: Record<string, Case> = {
  'one token': { frames: 1, rows: 1, cols: 1, heads: 1, headDim: 1, block: [8, 16] },
  'a few tokens, odd heads': { frames: 2, rows: 3, cols: 5, heads: 3, headDim: 5, block: [8, 16] },
  'one key block of 64': { frames: 2, rows: 8, cols: 8, heads: 4, headDim: 12, block: [64, 64] },
  'head width 40, strided': {
    frames: 1,
    rows: 7,
    cols: 9,
    heads: 2,
    headDim: 40,
    block: [24, 64],
    gaps: [8, 3, 5],
  },
  'many keys in blocks of 16': {
    frames: 1,
    rows: 9,
    cols: 17,
    heads: 2,
    headDim: 40,
    block: [40, 16],
  },
  'many keys in blocks of 48': {
    frames: 2,
    rows: 13,
    cols: 11,
    heads: 1,
    headDim: 33,
    block: [64, 48],
    gaps: [1, 0, 0],
  },
  'more keys than a lane path takes': {
    frames: 1,
    rows: 10,
    cols: 20,
    heads: 2,
    headDim: 16,
    block: [64, 208],
  },
  'wide heads': { frames: 1, rows: 5, cols: 5, heads: 1, headDim: 170, block: [16, 32] },
  'one head of 512': { frames: 1, rows: 6, cols: 6, heads: 1, headDim: 512, block: [16, 16] },
  'other keys, shared by frames': {
    frames: 3,
    rows: 4,
    cols: 5,
    heads: 2,
    headDim: 24,
    keys: [3, 1, 77],
    shared: true,
    block: [16, 80],
  },
  'other keys, of each frame': {
    frames: 2,
    rows: 4,
    cols: 4,
    heads: 2,
    headDim: 8,
    keys: [2, 3, 50],
    block: [16, 64],
  },
  'causal, one block': {
    frames: 1,
    rows: 1,
    cols: 77,
    heads: 2,
    headDim: 32,
    causal: true,
    block: [64, 80],
  },
  'causal, blocks smaller than the text': {
    frames: 1,
    rows: 7,
    cols: 21,
    heads: 2,
    headDim: 20,
    causal: true,
    block: [24, 32],
  },
  'causal from a later query on': {
    frames: 1,
    rows: 4,
    cols: 8,
    heads: 2,
    headDim: 20,
    keys: [1, 6, 8],
    causal: true,
    query0: 11,
    block: [16, 16],
  },
  'over time, 16 frames': {
    frames: 16,
    rows: 3,
    cols: 5,
    heads: 4,
    headDim: 12,
    time: true,
    block: [16, 16],
  },
  'over time, odd frames, strided': {
    frames: 9,
    rows: 2,
    cols: 3,
    heads: 2,
    headDim: 40,
    time: true,
    block: [16, 16],
    gaps: [3, 7, 11],
  },
  'over time, causal': {
    frames: 20,
    rows: 2,
    cols: 2,
    heads: 2,
    headDim: 9,
    time: true,
    causal: true,
    block: [24, 32],
  },
  'over time, whole chunks, two tiles': {
    frames: 25,
    rows: 2,
    cols: 2,
    heads: 3,
    headDim: 40,
    time: true,
    block: [24, 32],
    gaps: [8, 0, 0],
    outGaps: [0, 8, 0],
  },
  'over time, blocks of keys': {
    frames: 37,
    rows: 1,
    cols: 3,
    heads: 1,
    headDim: 10,
    time: true,
    causal: true,
    block: [8, 16],
  },
  'over time, other keys': {
    frames: 5,
    rows: 2,
    cols: 2,
    heads: 1,
    headDim: 16,
    time: true,
    keys: [140, 2, 2],
    block: [8, 144],
  },
  'scores far apart': {
    frames: 1,
    rows: 5,
    cols: 30,
    heads: 1,
    headDim: 16,
    scale: 30,
    block: [40, 32],
  },
  'whole chunks, strided': {
    frames: 2,
    rows: 7,
    cols: 19,
    heads: 3,
    headDim: 40,
    block: [64, 144],
    gaps: [8, 16, 8],
    outGaps: [8, 0, 16],
  },
  'whole chunks, other keys': {
    frames: 2,
    rows: 3,
    cols: 30,
    heads: 2,
    headDim: 64,
    keys: [2, 1, 77],
    shared: true,
    block: [64, 80],
    outGaps: [0, 0, 0],
  },
  'whole chunks, heads of 80': {
    frames: 1,
    rows: 5,
    cols: 13,
    heads: 2,
    headDim: 80,
    block: [64, 80],
  },
  'whole chunks, heads of 160': {
    frames: 1,
    rows: 5,
    cols: 9,
    heads: 2,
    headDim: 160,
    block: [64, 80],
  },
  'whole chunks, causal': {
    frames: 1,
    rows: 2,
    cols: 77,
    heads: 2,
    headDim: 104,
    causal: true,
    block: [64, 80],
  },
}

Object.entries(cases).forEach(([name, shape], i) => {
  if (name.includes(onlyCases)) test(`attention: ${name}`, () => attention(name, i + 1, shape))
})

test.run()
