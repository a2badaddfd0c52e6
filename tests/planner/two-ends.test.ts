import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { problemOf } from '../../lib/planner/arena/problem.js'
import { packInQueues } from '../../lib/planner/arena/queues.js'
import { generator } from '../../lib/planner/arena/random.js'
import { packFromTwoEnds } from '../../lib/planner/arena/two-ends.js'

interface Life {
  start: number
  end: number
  size: number
}

/** @param length of a life; 0: it is never alive */
function randomLives(random: () => number, count: number, length: () => number): Life[] {
  return Array.from({ length: count }, () => {
    const start = Math.floor(100 * random())
    return { start, end: start + length(), size: Math.floor(30 * random()) }
  })
}

/** Most alive at one moment. */
function boundOf(lives: readonly Life[]): number {
  const alive = (at: number) =>
    lives.reduce((sum, { start, end, size }) => (start <= at && at < end ? sum + size : sum), 0)
  return Math.max(0, ...lives.map(({ start }) => alive(start)))
}

function check(lives: readonly Life[], offsets: Float64Array, height: number): void {
  for (const [i, a] of lives.entries()) {
    assert.ok(offsets[i]! >= 0 && (a.start >= a.end || offsets[i]! + a.size <= height))
    for (const [j, b] of lives.entries()) {
      if (j <= i || Math.max(a.start, b.start) >= Math.min(a.end, b.end)) continue
      const apart = offsets[i]! + a.size <= offsets[j]! || offsets[j]! + b.size <= offsets[i]!
      assert.ok(apart, `${i} and ${j}`)
    }
  }
}

test('random lives do not overlap, whatever the goal', () => {
  for (let seed = 0; seed < 40; seed++) {
    const random = generator(seed)
    const lives = randomLives(random, 1 + Math.floor(80 * random()), () =>
      Math.floor(random() ** 3 * 60),
    )
    const bound = boundOf(lives)
    for (const goal of [0, bound, 2 * bound]) {
      const { offsets, height } = packFromTwoEnds(lives, bound, goal)
      assert.ok(height >= bound)
      check(lives, offsets, height)
      assert.equal(packFromTwoEnds(lives, bound, goal).offsets, offsets)
    }
  }
})

test('bands that hand their memory on, with scratch between them, lie at the bound', () => {
  const lives = Array.from({ length: 400 }, (_, i) => [
    { start: 2 * i, end: 2 * i + 64, size: 10 },
    { start: 2 * i + 1, end: 2 * i + 2, size: 13 },
  ]).flat()
  const bound = boundOf(lives)
  const { offsets, height } = packFromTwoEnds(lives, bound, bound)
  assert.is(height, bound)
  check(lives, offsets, height)
})

test('in queues: random lives do not overlap, and tensors whose bands take turns lie at the bound', () => {
  const packed = (lives: readonly Life[]) => {
    const buffers = lives.map(({ start, end, size }) => {
      return { size, lower: start, upper: end, alignment: 1 }
    })
    return packInQueues(problemOf(buffers, 'test'), boundOf(lives))!
  }
  for (let seed = 0; seed < 20; seed++) {
    const random = generator(seed)
    const lives = randomLives(random, 2 + Math.floor(60 * random()), () =>
      Math.floor(1 + 50 * random()),
    )
    const { offsets, height } = packed(lives)
    check(lives, offsets, height)
  }
  // Each tensor's bands begin as those of the one before end; a short life in each slice.
  const bands = 64
  const band = (i: number) => ({ start: 2 * i, end: 2 * (i + bands), size: 32 })
  const lives = Array.from({ length: 4 * bands }, (_, i) => [
    ...(i < 3 * bands ? [band(i)] : []),
    { start: 2 * i + 1, end: 2 * i + 2, size: 45 },
  ]).flat()
  const { offsets, height } = packed(lives)
  assert.is(height, boundOf(lives))
  check(lives, offsets, height)
})

test.run()
