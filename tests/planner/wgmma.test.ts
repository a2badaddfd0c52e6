// Plans for a device with wgmma: norms before the products that it computes are applied apart, wherever the rest is as it was.
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { BudgetError } from '../../lib/errors.js'
import { roofline } from '../../lib/planner/cost.js'
import { lower } from '../../lib/planner/lower.js'
import {
  type PlanOptions,
  planStage,
  prepareStage,
  type StagePlan,
} from '../../lib/planner/plan.js'
import { decodeStage, encodeStage } from '../../lib/planner/plan-file.js'
import { aligned } from '../../lib/planner/storage.js'
import { Streaming } from '../../lib/planner/streaming.js'
import { type Node, operand, operands } from '../../lib/program/graph.js'
import { conv2d, groupNorm, linear, type Program, program } from '../../lib/program/index.js'
import type { Target } from '../../lib/program/op.js'
import { wholeRegion } from '../../lib/program/region.js'
import { checkPlan } from '../support/memory-model.js'
import { networks } from '../support/networks.js'
import {
  decoderLike,
  randomProgram,
  skipLike,
  temporalDecoderLike,
} from '../support/random-program.js'

const target: Target = { backend: 'cuda', threads: 1, wgmma: true }
const options: PlanOptions = { target, weightDtype: () => 'f16', activations: 'f16' }
const specOf = (main: Program) => ({ name: 'test', state: {}, programs: { main } })

function plan(main: Program, more: Partial<PlanOptions> = {}): StagePlan {
  return planStage(specOf(main), { ...options, ...more })
}

function smallest(main: Program, more: Partial<PlanOptions> = {}): number {
  try {
    return plan(main, { budget: 0, ...more }).peakBytes
  } catch (error) {
    assert.instance(error, BudgetError)
    return (error as BudgetError).needed
  }
}

const nodesOf = (main: Program, more: Partial<PlanOptions> = {}): readonly Node[] =>
  prepareStage(specOf(main), { ...options, ...more }).prepared[0]!.program.nodes
const apart = (nodes: readonly Node[]) => nodes.filter(({ op }) => op === 'affine')
const fused = (nodes: readonly Node[]) =>
  nodes.filter(node => node.op !== 'affine' && operand(node, 'affine'))

/** Norms of one tensor and of two before convolutions and a product, `channels` wide. */
function normed(channels: number, side = 4): Program {
  return program(`normed-${channels}`, ({ input, weight }) => {
    const vector = (name: string, length: number) => weight(name, [length])
    const conv = (name: string, outputs: number, inputs: number, kernel: number) =>
      weight(name, [outputs, inputs, kernel, kernel])
    const first = conv2d(input('sample', [2, side, side, 4]), conv('first', channels, 4, 3))
    const second = conv2d(
      groupNorm(first, vector('g1', channels), vector('b1', channels), { groups: 2, act: 'silu' }),
      conv('second', channels, channels, 3),
    )
    const both = groupNorm(
      [first, second],
      vector('g2', 2 * channels),
      vector('b2', 2 * channels),
      {
        groups: 4,
      },
    )
    const third = conv2d(both, conv('third', channels, 2 * channels, 1))
    const last = groupNorm(third, vector('g3', channels), vector('b3', channels), { groups: 2 })
    return { sample: linear(last, weight('fourth', [4, channels])) }
  })
}

test('a norm is apart before a product that wgmma computes, and fused before any other', () => {
  const wide = nodesOf(normed(64))
  assert.is(apart(wide).length, 3)
  assert.is(fused(wide).length, 0)
  assert.equal(
    apart(wide).map(node => operands(node, 'source').length),
    [1, 2, 1],
  )
  const others: [string, readonly Node[]][] = [
    ['another device', nodesOf(normed(64), { target: { backend: 'cuda', threads: 1 } })],
    ['float32', nodesOf(normed(64), { activations: 'f32' })],
    ['weights in float32', nodesOf(normed(64), { weightDtype: () => 'f32' })],
    ['bfloat16 and float16', nodesOf(normed(64), { activations: 'bf16' })],
    ['blocks half empty', nodesOf(normed(32))],
    ['no whole chunks', nodesOf(normed(124))],
    ['frames beyond the cache', nodesOf(normed(64, 513))],
  ]
  // Of the narrow one, both sources together fill a block; one channel range of 248 fills four.
  const kept: Record<string, number> = { 'blocks half empty': 1, 'no whole chunks': 1 }
  for (const [name, nodes] of others) {
    assert.is(apart(nodes).length, kept[name] ?? 0, name)
    assert.is(fused(nodes).length, 3 - (kept[name] ?? 0), name)
  }
  // Some layers' weights are stored in another type.
  const mixed = nodesOf(normed(64), { weightDtype: key => (key === 'third' ? 'f32' : 'f16') })
  assert.equal(
    fused(mixed).map(node => operand(node, 'weight')!.name),
    ['third'],
  )
})

test('no budget changes what is fused; plans are sound at each, and come back from their files', () => {
  for (const main of [
    normed(64),
    decoderLike(9, 6, 128),
    skipLike(3, 8, 6, 64),
    temporalDecoderLike(4, 6, 4, 128),
    ...Array.from({ length: 10 }, (_, seed) => randomProgram(seed)),
  ]) {
    const free = plan(main)
    const least = smallest(main)
    const applied = (found: StagePlan) =>
      new Set(apart(found.programs.main!.program.nodes).map(({ name }) => name.split(' ')[0]))
    for (const share of [1, 0.5, 0]) {
      const budget = Math.floor(least + share * (free.peakBytes - least))
      const found = plan(main, { budget })
      const { programs, weights } = found
      assert.ok(found.peakBytes <= budget, main.name)
      assert.equal(checkPlan(programs.main!, new Streaming(weights, 'cuda')), [], main.name)
      assert.equal(applied(found), applied(free), main.name)
      const back = decodeStage(
        JSON.parse(JSON.stringify(encodeStage(found))),
        specOf(main),
        options,
      )
      const words = (of: StagePlan) =>
        lower(of.programs.main!, of.weights, aligned(of.stateBytes)).words
      assert.equal(words(back), words(found), main.name)
    }
  }
})

test('a plan by wgmma is refused without it', () => {
  const record = encodeStage(plan(normed(64)))
  const without = { ...options, target: { backend: 'cuda', threads: 1 } }
  assert.throws(
    () => decodeStage(record, specOf(normed(64)), without),
    /a plan for cuda with 1 threads computing in f32, got one for .* in f32 and by wgmma/,
  )
})

test('a tensor behind a norm apart is made again, norm and all, for as little memory as when it is fused', () => {
  const decoder = temporalDecoderLike(5, 8, 6, 128)
  const dear = { recompute: 0.3, streaming: 'never', spill: false } as const
  const small = plan(decoder, { ...dear, budget: smallest(decoder, dear) }).programs.main!
  assert.ok(small.program.nodes.some(({ op, name }) => op === 'affine' && name.endsWith('(again)')))
  assert.equal(checkPlan(small), [])
  const main = networks['svd unet']!({ frames: 6, rows: 192, cols: 256 })
  const more = { streaming: 'never', spill: false } as const
  const without = { ...more, target: { backend: 'cuda', threads: 1 } }
  const budget = smallest(main, more)
  const found = plan(main, { ...more, budget })
  const again = found.programs.main!.program.nodes.filter(({ name }) => name.endsWith('(again)'))
  assert.ok(again.some(({ op }) => op === 'affine') && again.some(({ op }) => op === 'conv_time'))
  const arena = (bytes: number) => bytes - found.weights.bytes
  const [own, other] = [arena(budget), arena(smallest(main, without))]
  assert.ok(own <= 1.05 * other, `${own} bytes, ${other} fused`)
})

test('the roofline knows what wgmma computes', () => {
  const nodes = nodesOf(normed(640, 64))
  const model = roofline(target)
  const convs = nodes.filter(({ op }) => op === 'conv2d').slice(1)
  for (const node of convs) {
    const seconds = (weights: 'f16' | 'f32') =>
      model.seconds(node, wholeRegion(node.output.shape), weights)
    assert.ok(seconds('f16') < seconds('f32'), node.name)
  }
})

test.run()
