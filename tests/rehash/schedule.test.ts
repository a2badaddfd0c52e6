import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { OptionError } from '../../lib/errors.js'
import {
  evenSteps,
  fullStepsOf,
  ruledSteps,
  scheduleOf,
  spreadSteps,
} from '../../lib/rehash/schedule.js'
import { randomNumbers } from '../support/random-program.js'

/** Similarities as steps have them: near 1 beside the diagonal, falling with distance; and ones without any order. */
function randomMap(seed: number): number[][] {
  const random = randomNumbers(seed)
  const steps = 1 + Math.floor(random() * 30)
  const places = Array.from({ length: steps }, () => random()).map((x, i) =>
    seed % 3 ? i + x : 10 * x,
  )
  const levels = seed % 4 === 0 ? 5 : 1e6
  return places.map(a =>
    places.map(b => Math.round(levels * Math.exp(-Math.abs(a - b) / 20)) / levels),
  )
}

test('algorithm 1: every skipped step is like the full step before it, every full one but the last is not', () => {
  for (let seed = 0; seed < 200; seed++) {
    const map = randomMap(seed)
    const steps = map.length
    for (const gamma of [-1, 0.5, 0.9, 0.97, 1, 2]) {
      const full = fullStepsOf(map, gamma)
      assert.is(full[0], 0)
      assert.is(full[full.length - 1], steps - 1)
      for (let i = 1, last = 0; i < steps; i++) {
        const like = map[i]![last]! >= gamma
        if (full.includes(i)) {
          assert.ok(!like || i === steps - 1, `seed ${seed}: step ${i} need not be full`)
          last = i
        } else assert.ok(like, `seed ${seed}: step ${i} must be full`)
      }
      assert.equal(
        full,
        [...new Set(full)].sort((a, b) => a - b),
      )
    }
    assert.equal(fullStepsOf(map, 2).length, steps)
    assert.equal(fullStepsOf(map, -1), steps > 1 ? [0, steps - 1] : [0])
  }
})

test('a wanted number of full steps is met exactly, by gamma alone where one gives it', () => {
  for (let seed = 0; seed < 200; seed++) {
    const map = randomMap(seed)
    const steps = map.length
    for (let count = Math.min(2, steps); count <= steps; count++) {
      const { gamma, full } = scheduleOf(map, count)
      assert.is(full.length, count, `seed ${seed}, ${count} of ${steps}`)
      assert.is(full[0], 0)
      assert.is(full[count - 1], steps - 1)
      assert.ok(full.every((step, i) => i === 0 || step > full[i - 1]!))
      const walked = fullStepsOf(map, gamma)
      assert.ok(walked.every(step => full.includes(step)))
      const gammas = new Set(map.flat())
      if ([...gammas].some(value => fullStepsOf(map, value).length === count))
        assert.equal(walked, full)
    }
  }
})

test('a map by hand', () => {
  const map = [
    [1, 0.99, 0.9, 0.7, 0.6],
    [0.99, 1, 0.97, 0.8, 0.7],
    [0.9, 0.97, 1, 0.96, 0.9],
    [0.7, 0.8, 0.96, 1, 0.99],
    [0.6, 0.7, 0.9, 0.99, 1],
  ]
  assert.equal(fullStepsOf(map, 0.95), [0, 2, 4])
  assert.equal(fullStepsOf(map, 0.85), [0, 3, 4])
  assert.equal(scheduleOf(map, 3).full, [0, 3, 4])
})

test('lists without a map: even, from the first to the last, and denser towards the end', () => {
  assert.equal(evenSteps(25, 13), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24])
  assert.equal(evenSteps(25, 9), [0, 3, 6, 9, 12, 15, 18, 21, 24])
  assert.equal(evenSteps(10, 7), [0, 2, 3, 5, 6, 8, 9])
  assert.equal(spreadSteps(25, 9), [0, 3, 6, 9, 12, 15, 18, 21, 24])
  for (let steps = 1; steps < 40; steps++) {
    for (let count = Math.min(2, steps); count <= steps; count++) {
      for (const list of [evenSteps, spreadSteps, ruledSteps]) {
        const full = list(steps, count)
        assert.is(full.length, count)
        assert.is(full[0], 0)
        assert.ok(
          full.every((step, i) => i === 0 || step > full[i - 1]!),
          `${full}`,
        )
        assert.ok(full[count - 1]! < steps)
      }
      if (steps > 1) assert.is(spreadSteps(steps, count)[count - 1], steps - 1)
      if (steps > 1) assert.is(ruledSteps(steps, count)[count - 1], steps - 1)
    }
  }
  const ruled = ruledSteps(50, 20)
  assert.ok(ruled[10]! > spreadSteps(50, 20)[10]!)
})

test('counts that cannot be and maps that are not square are refused', () => {
  const map = randomMap(1)
  for (const count of [1, 0, -1, 1.5, map.length + 1])
    assert.throws(
      () => scheduleOf(map, count),
      (e: Error) => e instanceof OptionError,
    )
  assert.throws(
    () => fullStepsOf([[1, 0]], 0.5),
    (e: Error) => e instanceof OptionError,
  )
})

test.run()
