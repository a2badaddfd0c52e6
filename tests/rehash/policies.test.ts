import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { forecast } from '../../lib/rehash/policies/forecast.js'
import { listed } from '../../lib/rehash/policies/listed.js'
import type { Policy } from '../../lib/rehash/policies/policy.js'
import { threshold } from '../../lib/rehash/policies/threshold.js'

function fullOf(policy: Policy, steps: number): number[] {
  return Array.from({ length: steps }, (_, i) => i).filter(i => policy.isFull(i))
}

test('a list is kept, and begins with the first step', () => {
  assert.equal(fullOf(listed([0, 3, 4]), 6), [0, 3, 4])
  assert.equal(fullOf(listed([3]), 6), [0, 3])
  assert.equal(listed([0]).weights(1), [1])
})

test('a forecast is the line through the last two full steps', () => {
  const policy = forecast([0, 2, 5, 9])
  const value = (step: number) => 3 - 0.5 * step
  const kept: number[] = []
  for (let step = 0; step < 12; step++) {
    if (policy.isFull(step)) {
      kept.unshift(value(step))
      continue
    }
    const [latest, before] = policy.weights(step)
    const got = latest! * kept[0]! + before! * (kept[1] ?? 0)
    assert.ok(Math.abs(got - (kept.length > 1 ? value(step) : value(0))) < 1e-12, `${step}: ${got}`)
  }
})

/** A made-up run: the latents move by `moves`, the prediction changes at `rate` of their way. */
function simulate(limit: number, moves: readonly number[], rate: number, size = 1): number[] {
  const policy = threshold(limit)
  const full: number[] = []
  let way = 0
  for (let step = 0; step < moves.length; step++) {
    if (step > 0) {
      policy.moved!(step, { latents: moves[step]! })
      way += moves[step]!
    }
    if (!policy.isFull(step)) continue
    policy.ran!(step, { size, ...(full.length > 0 && { change: rate * way }) })
    full.push(step)
    way = 0
  }
  return full
}

test('threshold 0 runs every step, a large one the first two', () => {
  const moves = Array.from({ length: 10 }, () => 1)
  assert.equal(simulate(0, moves, 0.1), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  assert.equal(simulate(100, moves, 0.1), [0, 1])
})

test('the error grows with what moves, and starts again at a full step', () => {
  const even = Array.from({ length: 13 }, () => 1)
  // Each step adds 0.1: the third would reach 0.3.
  assert.equal(simulate(0.25, even, 0.1), [0, 1, 4, 7, 10])
  assert.equal(simulate(0.25, even, 0.1, 2), [0, 1, 6, 11])
  const late = even.map((_, i) => (i > 6 ? 3 : 1))
  assert.equal(simulate(0.25, late, 0.1), [0, 1, 4, 7, 8, 9, 10, 11, 12])
})

test('it decides from the past alone: what comes later changes no decision', () => {
  const moves = Array.from({ length: 20 }, (_, i) => 1 + (i % 4))
  const all = simulate(0.4, moves, 0.07)
  for (let length = 1; length < 20; length++)
    assert.equal(
      simulate(0.4, moves.slice(0, length), 0.07),
      all.filter(step => step < length),
    )
})

test('a prediction of zeros stops nothing', () => {
  assert.equal(simulate(0.1, [1, 1, 1, 1], 0, 0), [0, 1])
})

test.run()
