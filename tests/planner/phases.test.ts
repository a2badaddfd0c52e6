// Convolutions of doubled images by phases: which ones, and what they cost.
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { PlanError } from '../../lib/errors.js'
import { type PlanOptions, planStage, prepareStage } from '../../lib/planner/plan.js'
import { decodeStage, encodeStage } from '../../lib/planner/plan-file.js'
import { conv2d, type Program, program, upsampleNearest } from '../../lib/program/index.js'
import { flopsOf } from '../../lib/program/op.js'
import type { Conv2dOptions } from '../../lib/program/ops/conv.js'
import { networks } from '../support/networks.js'

const cpu: PlanOptions = { target: { backend: 'cpu', threads: 2 }, weightDtype: () => 'f16' }

const prepared = (main: Program, options = cpu) =>
  prepareStage({ name: 'test', state: {}, programs: { main } }, options)
const nodesOf = (main: Program, options = cpu) => prepared(main, options).prepared[0]!.program.nodes
const phased = (main: Program, options = cpu) =>
  nodesOf(main, options).filter(({ attrs }) => attrs.phases)

interface Layer extends Conv2dOptions {
  frames?: number
  rows?: number
  cols?: number
  channels?: number
  outputs?: number
  kernel?: number
}

/** One convolution, of 8 to 8 channels and 16 x 20 stored pixels that are doubled. */
function layer(change: Layer = {}): Program {
  const { frames = 1, rows = 16, cols = 20, channels = 8, outputs = 8, kernel = 3 } = change
  const { upsampleTo = [2 * rows, 2 * cols], ...options } = change
  return program('layer', ({ input, weight }) => ({
    sample: conv2d(
      upsampleNearest(input('sample', [frames, rows, cols, channels]), upsampleTo),
      weight('w', [outputs, channels, kernel, kernel]),
      options,
    ),
  }))
}

test('a 3x3 convolution of an image of exactly twice the size is computed by phases', () => {
  assert.is(phased(layer()).length, 1)
  assert.is(phased(layer({ padding: [0, 1, 2, 1] })).length, 1)
  for (const change of [
    { upsampleTo: [33, 40] },
    { upsampleTo: [32, 41] },
    { upsampleTo: [32, 20] },
    { upsampleTo: [64, 80] },
    { stride: 2 },
    { kernel: 1 },
    { outputs: 4 },
  ] satisfies Layer[])
    assert.is(phased(layer(change)).length, 0, JSON.stringify(change))
})

test('the weights of phases take half of a frame at the most, whatever the frames', () => {
  // 16 taps of 8 channels beside half of the pixels of a frame: 256 of them at least.
  assert.is(phased(layer({ rows: 8, cols: 8 })).length, 1)
  assert.is(phased(layer({ rows: 9, cols: 7 })).length, 0)
  assert.is(phased(layer({ rows: 9, cols: 7, frames: 16 })).length, 0)
})

test('decoders are computed by phases where they are large, and UNets are not', () => {
  const count = (name: string, side: number, frames = 1) =>
    phased(networks[name]!({ frames, rows: side, cols: side })).length
  assert.equal(
    [64, 256, 512, 1024].map(side => count('vae decoder', side)),
    [0, 2, 3, 3],
  )
  assert.is(count('temporal decoder', 512, 2), 3)
  assert.is(count('animatediff unet', 512, 16), 0)
  assert.is(count('svd unet', 512, 14), 0)
})

test('a GPU computes all nine taps', () => {
  for (const wgmma of [undefined, true as const]) {
    const target = { backend: 'cuda', threads: 1, wgmma }
    assert.is(phased(layer(), { ...cpu, target, activations: 'f16' }).length, 0)
  }
})

test('operations and bytes are those of the phases', () => {
  const main = layer({ outputs: 20 })
  const [node] = nodesOf(main)
  assert.is(flopsOf(node!), 2 * 32 * 40 * 20 * 8 * 4)
  const { weights } = prepared(main)
  assert.equal(
    weights.weights.map(({ dtype, bytes }) => [dtype, bytes]),
    [['f16', 32 * 16 * 8 * 4]],
  )
})

test('a plan file keeps the phases, and none is taken without them', () => {
  const spec = { name: 'test', state: {}, programs: { main: layer() } }
  const record = () => JSON.parse(JSON.stringify(encodeStage(planStage(spec, cpu))))
  const read = decodeStage(record(), spec, cpu)
  assert.is(read.programs.main!.program.nodes[0]!.attrs.phases, true)
  const changed = record()
  delete changed.programs[0].nodes[0][3].phases
  assert.throws(
    () => decodeStage(changed, spec, cpu),
    (error: Error) =>
      error instanceof PlanError && /to compute what the model does/.test(error.message),
  )
})

test.run()
