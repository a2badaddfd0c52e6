import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { floorOf } from '../../bench/floor.js'
import { BudgetError } from '../../lib/errors.js'
import { planStage, prepareStage } from '../../lib/planner/plan.js'
import {
  add,
  conv2d,
  groupNorm,
  type Program,
  program,
  type Tensor,
} from '../../lib/program/index.js'
import { networks } from '../support/networks.js'
import { randomProgram } from '../support/random-program.js'

/** Least bytes of a plan's arena, float32, with all weights and features on the device. */
function least(of: Program): number {
  const spec = { name: of.name, state: {}, programs: { main: of } }
  const target = { backend: 'cuda', threads: 1 }
  const kept = { streaming: 'never', spill: false } as const
  const options = { target, weightDtype: () => 'f16' as const, recompute: 0.02, ...kept }
  const weights = prepareStage(spec, options).weights.bytes
  try {
    return planStage(spec, { ...options, budget: weights }).programs.main!.bytes
  } catch (error) {
    if (!(error instanceof BudgetError)) throw error
    return error.needed - weights
  }
}

test('a residual block of one frame holds its input and what its first convolution makes', () => {
  const [rows, cols, channels] = [64, 48, 16]
  const block = program('block', ({ input, weight }) => {
    let count = 0
    const next = (...shape: number[]) => weight(`w${count++}`, shape)
    const step = (source: Tensor) => {
      const normed = groupNorm(source, next(channels), next(channels), { groups: 2, act: 'silu' })
      return conv2d(normed, next(channels, channels, 3, 3))
    }
    const x = conv2d(input('x', [1, rows, cols, 4]), next(channels, 4, 3, 3))
    return { y: conv2d(step(add(step(step(x)), x)), next(4, channels, 3, 3)) }
  })
  const feature = 4 * rows * cols * channels
  const { bytes, tensors } = floorOf(block, 'f32', 0)
  // Besides, the statistics of both: 2 numbers for each row and group.
  assert.ok(bytes >= 2 * feature && bytes <= 2 * feature + 4 * 4 * rows * 8, `${bytes}`)
  assert.equal(
    tensors.slice(0, 2).map(tensor => tensor.bytes),
    [feature, feature],
  )
  // Made again from the input of the block, the first convolution's result need not wait.
  assert.ok(floorOf(block, 'f32', 1).bytes < 1.1 * feature)
})

test('floors of the decoders at their true size', () => {
  const size = { frames: 1, rows: 576, cols: 1024 }
  const widest = 2 * 576 * 1024 * 256
  const single = floorOf(networks['vae decoder']!(size), 'f16', 0.03)
  // The last upsampling's result, whole for the statistics, written over what it is made of.
  assert.ok(single.bytes >= widest && single.bytes <= 1.001 * widest, `${single.bytes}`)
  const together = floorOf(networks['temporal decoder']!({ ...size, frames: 14 }), 'f16', 0.03)
  // All frames but one at half the width, and what one frame needs.
  const expected = (13 * widest) / 2 + widest
  assert.ok(together.bytes >= expected && together.bytes <= 1.001 * expected, `${together.bytes}`)
  assert.ok(together.again.length > 0 && together.share <= 0.03)
})

test('no plan needs less than the floor', () => {
  for (const [network, frames, side] of [
    ['animatediff unet', 4, 128],
    ['svd unet', 3, 128],
    ['vae decoder', 1, 128],
    ['vae encoder', 1, 256],
    ['temporal decoder', 5, 128],
  ] as const) {
    const traced = networks[network]!({ frames, rows: side, cols: side })
    const floor = floorOf(traced, 'f32', 0.02).bytes
    const found = least(traced)
    console.log(`${network}: ${(found / floor).toFixed(3)} of the floor`)
    assert.ok(floor <= found, `${network}: ${found}, floor ${floor}`)
  }
  let close = 0
  for (let seed = 0; seed < 60; seed++) {
    const traced = randomProgram(seed, { side: 9, frames: 6 })
    const [floor, found] = [floorOf(traced, 'f32', 0.02).bytes, least(traced)]
    assert.ok(floor <= found, `seed ${seed}: ${found}, floor ${floor}`)
    if (floor >= 0.25 * found) close++
  }
  assert.ok(close > 10, `${close}`)
})

test.run()
