import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { FileError, OptionError } from '../../lib/errors.js'
import { formatArenaCsv, parseArenaCsv } from '../../lib/planner/arena/csv.js'
import { type ArenaBuffer, packArena } from '../../lib/planner/arena/index.js'
import { packBuffers } from '../../lib/planner/arena.js'
import { checkOffsets, guillotine, uniform } from '../support/guillotine.js'

/** [size, lower, upper] each. */
function buffersOf(...list: [number, number, number][]): ArenaBuffer[] {
  return list.map(([size, lower, upper]) => ({ size, lower, upper }))
}

function randomBuffers(
  random: () => number,
  count: number,
  { times = 8, sizes = 9 } = {},
): ArenaBuffer[] {
  return Array.from({ length: count }, () => {
    const lower = Math.floor(random() * times)
    const upper = lower + 1 + Math.floor(random() * (times - lower))
    return { lower, upper, size: 1 + Math.floor(random() * sizes) }
  })
}

/** Most bytes alive at one time, sizes rounded up to an alignment. */
function liveBytes(buffers: readonly ArenaBuffer[], alignment = 1): number {
  const at = (time: number) =>
    buffers
      .filter(({ lower, upper, gaps = [] }) => {
        if (time < lower || time >= upper) return false
        return !gaps.some(([from, to]) => from <= time && time < to)
      })
      .reduce((sum, { size }) => sum + Math.ceil(size / alignment) * alignment, 0)
  return Math.max(
    0,
    ...buffers.flatMap(({ lower, gaps = [] }) => [lower, ...gaps.map(g => g[1])]).map(at),
  )
}

/**
 * The least bytes: in some order, each buffer lowered as far as those before it allow, is an
 * optimum.
 */
function optimum(buffers: readonly ArenaBuffer[]): number {
  const offsets: number[] = []
  const order: number[] = []
  let best = Number.POSITIVE_INFINITY
  const together = (a: ArenaBuffer, b: ArenaBuffer) => a.lower < b.upper && b.lower < a.upper
  const place = (top: number): void => {
    if (top >= best) return
    if (order.length === buffers.length) {
      best = top
      return
    }
    buffers.forEach((buffer, i) => {
      if (order.includes(i)) return
      let offset = 0
      for (const j of order) {
        if (together(buffer, buffers[j]!)) offset = Math.max(offset, offsets[j]! + buffers[j]!.size)
      }
      const alignment = buffer.alignment ?? 1
      offsets[i] = Math.ceil(offset / alignment) * alignment
      order.push(i)
      place(Math.max(top, offsets[i]! + buffer.size))
      order.pop()
    })
  }
  place(0)
  return best
}

test('the space below the first live block is used', () => {
  // XNNPACK #10800, with lifetimes that touch and with half-open ones.
  assert.is(packArena(buffersOf([100, 0, 2], [80, 1, 3], [60, 2, 4])).bytes, 180)
  assert.is(packArena(buffersOf([100, 0, 1], [80, 1, 2], [60, 2, 3])).bytes, 100)
  const layout = packArena(buffersOf([100, 0, 2], [80, 1, 3], [60, 2, 4]), { nodes: 0 })
  assert.is(layout.bytes, 180)
  assert.is(layout.lowerBound, 180)
})

test('nothing, and buffers of no bytes', () => {
  assert.equal(packArena([]), { offsets: [], bytes: 0, lowerBound: 0, nodes: 0 })
  const layout = packArena(buffersOf([0, 0, 9], [5, 2, 3], [0, 2, 3]))
  assert.equal(layout.bytes, 5)
  assert.equal(checkOffsets(buffersOf([0, 0, 9], [5, 2, 3], [0, 2, 3]), layout.offsets, 5), [])
})

test('up to seven buffers: the optimum of all orders', () => {
  const random = uniform(11)
  for (let round = 0; round < 200; round++) {
    const buffers = randomBuffers(random, 2 + (round % 6))
    const layout = packArena(buffers)
    const best = optimum(buffers)
    assert.equal(checkOffsets(buffers, layout.offsets, layout.bytes), [], `round ${round}`)
    assert.is(layout.bytes, best, `round ${round}`)
    assert.is(layout.lowerBound <= best, true, `round ${round}`)
  }
})

test('a proof that the live bytes are not enough', () => {
  // Ten bytes are alive at most, and no order of these eight fits into ten.
  const tight = buffersOf(
    [1, 4, 8],
    [4, 6, 8],
    [5, 0, 3],
    [1, 2, 6],
    [3, 3, 6],
    [3, 2, 4],
    [5, 4, 7],
    [5, 0, 2],
  )
  const mirrored = tight.map(({ lower, upper, size }) => ({ lower: -upper, upper: -lower, size }))
  const large = tight.map(buffer => ({ ...buffer, size: buffer.size * 1e9 }))
  for (const [buffers, unit] of [
    [tight, 1],
    [mirrored, 1],
    [large, 1e9],
  ] as const) {
    assert.is(liveBytes(buffers), 10 * unit)
    assert.is(optimum(buffers), 11 * unit)
    const layout = packArena(buffers)
    assert.equal(checkOffsets(buffers, layout.offsets, layout.bytes), [])
    assert.is(layout.bytes, 11 * unit)
    assert.ok(layout.lowerBound > 10 * unit && layout.lowerBound <= 11 * unit)
  }
})

test('guillotine cuts of a rectangle: no byte more than the rectangle has', () => {
  for (const [seed, count, bytes, lines] of [
    [1, 150, 1024, 0],
    [2, 200, 1 << 20, 0],
    [3, 300, 1 << 20, 0],
    [4, 450, 1024, 0],
    [5, 450, 1 << 20, 0],
    [6, 150, 1024, 0.4],
    [7, 400, 1 << 20, 0.4],
  ] as const) {
    const buffers = guillotine({ seed, count, times: 1024, bytes, lines })
    assert.ok(buffers.length >= count)
    assert.is(liveBytes(buffers), bytes)
    const layout = packArena(buffers, { nodes: 2_000_000 })
    assert.equal(checkOffsets(buffers, layout.offsets, layout.bytes), [], `seed ${seed}`)
    assert.is(layout.bytes, bytes, `seed ${seed}`)
    assert.is(layout.lowerBound, bytes, `seed ${seed}`)
  }
})

test('sizes that do not fill the rectangle, alignments and gaps are honoured', () => {
  const random = uniform(7)
  for (let round = 0; round < 40; round++) {
    const buffers = randomBuffers(random, 60, { times: 40, sizes: 1000 }).map(buffer => {
      const alignment = [1, 16, 64][Math.floor(random() * 3)]!
      const length = buffer.upper - buffer.lower
      const gap: [number, number] = [buffer.lower + 1, buffer.lower + 1 + Math.floor(length / 2)]
      const gaps = round % 2 && length > 3 && random() < 0.3 ? [gap] : []
      return { ...buffer, alignment, gaps }
    })
    const layout = packArena(buffers, { nodes: 3000 })
    assert.equal(checkOffsets(buffers, layout.offsets, layout.bytes), [], `round ${round}`)
    assert.is(layout.lowerBound >= liveBytes(buffers), true)
    assert.is(layout.bytes >= layout.lowerBound, true)
  }
})

test('a gap takes another buffer', () => {
  const holder = { size: 10, lower: 0, upper: 9, gaps: [[3, 6]] as [number, number][] }
  const layout = packArena([holder, { size: 10, lower: 3, upper: 6 }])
  assert.is(layout.bytes, 10)
  assert.is(
    packArena([
      { ...holder, gaps: [] },
      { size: 10, lower: 3, upper: 6 },
    ]).bytes,
    20,
  )
})

test('a common alignment: the bound counts whole units but for the topmost buffer', () => {
  const buffers = buffersOf([100, 0, 2], [100, 1, 3]).map(buffer => ({ ...buffer, alignment: 64 }))
  const layout = packArena(buffers)
  assert.is(layout.bytes, 228)
  assert.is(layout.lowerBound, 228)
})

test('many buffers: sound, and near the bound', () => {
  const random = uniform(3)
  const buffers = randomBuffers(random, 3000, { times: 1000, sizes: 100_000 }).map(buffer => ({
    ...buffer,
    upper: Math.min(buffer.upper, buffer.lower + 1 + Math.floor(20 * random())),
  }))
  const layout = packArena(buffers, { nodes: 50_000 })
  assert.equal(checkOffsets(buffers, layout.offsets, layout.bytes), [])
  assert.is(layout.bytes <= 1.1 * liveBytes(buffers), true)
})

test('the same input gives the same offsets', () => {
  const buffers = guillotine({ seed: 8, count: 300, times: 1024, bytes: 1 << 20, lines: 0.4 })
  const options = { nodes: 20_000 }
  assert.equal(packArena(buffers, options), packArena([...buffers], options))
})

test('a capacity above the bound ends the search there; one below it is hopeless at once', () => {
  const buffers = guillotine({ seed: 9, count: 300, times: 1024, bytes: 100_000 })
  const layout = packArena(buffers, { capacity: 120_000 })
  assert.ok(layout.bytes <= 120_000)
  const small = packArena(buffers, { capacity: 99_999 })
  assert.is(small.nodes, 0)
  assert.ok(small.lowerBound > 99_999)
})

test("a plan's buffers are packed in multiples of the alignment", () => {
  const buffers = guillotine({ seed: 10, count: 200, times: 512, bytes: 4096 }).map(
    ({ size, lower, upper }) => ({ bytes: size * 64 - 3, start: lower, end: upper }),
  )
  const { offsets, bytes } = packBuffers(buffers, 4096 * 64)
  assert.ok(offsets.every(offset => offset % 64 === 0))
  const sizes = buffers.map(b => ({ lower: b.start, upper: b.end, size: b.bytes, alignment: 64 }))
  assert.equal(checkOffsets(sizes, offsets, bytes), [])
  assert.ok(bytes > 4095 * 64 && bytes <= 1.001 * 4096 * 64)
})

test('what makes no sense is refused', () => {
  for (const [buffers, words] of [
    [buffersOf([-1, 0, 1]), 'buffer 0: expected a size in whole bytes, got -1'],
    [buffersOf([1, 0, 1], [1.5, 0, 1]), 'buffer 1: expected a size in whole bytes, got 1.5'],
    [buffersOf([1, 3, 3]), 'expected a lifetime with lower < upper, got [3, 3)'],
    [[{ size: 1, lower: 0, upper: 1, alignment: 0 }], 'expected an alignment of at least 1, got 0'],
    [[{ size: 1, lower: 0, upper: 9, gaps: [[3, 12]] }], 'expected gaps in order inside [0, 9)'],
    [buffersOf([2 ** 53 - 1, 0, 1], [2 ** 53 - 1, 0, 1]), 'sum is below 2^53'],
  ] as [ArenaBuffer[], string][]) {
    assert.throws(
      () => packArena(buffers),
      (error: Error) => error instanceof OptionError && error.message.includes(words),
      words,
    )
  }
  assert.throws(() => packArena([], { nodes: -1 }), /expected nodes to be a whole number, got -1/)
  for (const none of [null, 'x', [null]])
    assert.throws(() => packArena(none as unknown as []), /packArena: .*expected/)
})

test('CSV there and back', () => {
  const text = 'id,lower,upper,size\nb1,0,3,4\nb2,3,9,4\nb3,0,9,4\nb4,9,21,4\nb5,0,21,4\n'
  const table = parseArenaCsv(text, 'a.csv')
  const layout = packArena(table.buffers)
  assert.is(layout.bytes, 12)
  const written = formatArenaCsv(table, layout.offsets)
  const lines = written.split('\n')
  assert.is(lines[0], 'id,lower,upper,size,offset')
  text
    .trim()
    .split('\n')
    .forEach((line, i) => assert.ok(lines[i]!.startsWith(`${line},`)))
  assert.is(formatArenaCsv(parseArenaCsv(written, 'a.csv'), layout.offsets), written)
})

test("MiniMalloc's other columns", () => {
  const table = parseArenaCsv(
    '\uFEFFsize,buffer,note,start,end,alignment,gaps\r\n7,x,hello,0,9,4,2-3 5-6\r\n8,y,,2,3,1,\r\n',
    'b.csv',
  )
  assert.equal(table.buffers, [
    {
      id: 'x',
      lower: 0,
      upper: 10,
      size: 7,
      alignment: 4,
      gaps: [
        [2, 4],
        [5, 7],
      ],
    },
    { id: 'y', lower: 2, upper: 4, size: 8, alignment: 1, gaps: [] },
  ])
  const { offsets, bytes } = packArena(table.buffers)
  assert.is(bytes, 8)
  assert.is(formatArenaCsv(table, offsets).split('\n')[2], '8,y,,2,3,1,,0')
})

test('malformed tables name the row and the column', () => {
  for (const [text, words] of [
    ['', 'row 1, column id: expected columns id, lower, upper and size'],
    ['id,lower,size\n', 'row 1, column upper: expected columns'],
    ['id,lower,start,upper,size\n', 'row 1, column start: expected each column once'],
    ['id,lower,upper,size\na,0,1\n', 'row 2, column size: expected 4 cells, got "a,0,1"'],
    ['id,lower,upper,size\na,0,1,2,3\n', 'row 2, column 5: expected 4 cells'],
    [
      'id,lower,upper,size\na,0,1,2\nb,0,x,2\n',
      'row 3, column upper: expected a whole number, got "x"',
    ],
    [
      'id,begin,end,size\na,0,1,2\nb,5,3,2\n',
      'row 3, column end: expected an end after the start 5, got "3"',
    ],
    [
      'id,lower,upper,size\na,0,1,-2\n',
      'row 2, column size: expected a whole number from 0, got "-2"',
    ],
    [
      'id,lower,upper,size,alignment\na,0,1,2,0\n',
      'row 2, column alignment: expected a whole number from 1',
    ],
    [
      'id,lower,upper,size,gaps\na,0,9,2,3-4@0:1\n',
      'row 2, column gaps: expected gaps that free the whole buffer',
    ],
    [
      'id,lower,upper,size,gaps\na,0,9,2,3\n',
      'row 2, column gaps: expected gaps such as 3-5 8-9, got "3"',
    ],
    [
      'id,lower,upper,size,gaps\na,0,9,2,3-12\n',
      'row 2, column gaps: expected gaps in order inside [0, 9)',
    ],
    [
      'id,lower,upper,size\na,0,1,99999999999999999\n',
      'row 2, column size: expected a whole number',
    ],
  ] as const) {
    assert.throws(
      () => parseArenaCsv(text, 't.csv'),
      (error: Error) =>
        error instanceof FileError &&
        error.path === 't.csv' &&
        error.message.includes(`t.csv: ${words}`),
      words,
    )
  }
})

test.run()
