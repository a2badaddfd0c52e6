import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { OptionError } from '../../lib/errors.js'
import { openCheckpoint } from '../../lib/io/checkpoint.js'
import {
  unetMotion,
  unetMotionConfig,
  unetSpatioTemporal,
  unetSpatioTemporalConfig,
} from '../../lib/models/index.js'
import { type Program, verifyProgram } from '../../lib/program/index.js'
import {
  candidateFeatures,
  featureTensor,
  flopsOf,
  paperFeature,
} from '../../lib/rehash/feature.js'
import { observedProgram, rehashPrograms, storages } from '../../lib/rehash/programs.js'
import { embedded, fullSize } from '../support/checkpoints.js'
import { interpret } from '../support/interpreter.js'
import { randomNumbers } from '../support/random-program.js'
import { fixture } from '../support/recorded.js'

function motionUnet(path: string, size: { frames: number; rows: number; cols: number }): Program {
  const checkpoint = openCheckpoint(path, {})
  const config = unetMotionConfig(
    checkpoint.component('unet').config,
    checkpoint.motionAdapter()?.config,
  )
  return unetMotion(config, { ...size, tokens: 5 })
}

const small = motionUnet(embedded, { frames: 2, rows: 4, cols: 4 })
const large = motionUnet(fullSize, { frames: 16, rows: 64, cols: 64 })
const svd = unetSpatioTemporal(
  unetSpatioTemporalConfig(openCheckpoint(fixture('configs/svd'), {}).component('unet').config),
  { frames: 14, rows: 72, cols: 128 },
)

test('candidates are the layers of the up blocks, and the paper takes the last temporal one', () => {
  assert.equal(candidateFeatures(small), [
    'up_blocks.0.resnets.0',
    'up_blocks.0.motion_modules.0',
    'up_blocks.0.resnets.1',
    'up_blocks.0.motion_modules.1',
    'up_blocks.1.resnets.0',
    'up_blocks.1.attentions.0',
    'up_blocks.1.motion_modules.0',
    'up_blocks.1.resnets.1',
    'up_blocks.1.attentions.1',
    'up_blocks.1.motion_modules.1',
    'up_blocks.2.resnets.0',
    'up_blocks.2.attentions.0',
    'up_blocks.2.motion_modules.0',
    'up_blocks.2.resnets.1',
    'up_blocks.2.attentions.1',
    'up_blocks.2.motion_modules.1',
    'conv_out',
  ])
  assert.is(paperFeature(large), 'up_blocks.3.motion_modules.2')
  assert.is(paperFeature(svd), 'up_blocks.3.attentions.2')
  assert.equal(featureTensor(svd, 'up_blocks.3.attentions.2').shape, [14, 72, 128, 320])
  assert.is(featureTensor(small, 'conv_out'), small.outputs.sample)
})

test("a skipped step at the paper's feature costs less than 12 % of a full one, in every network", () => {
  for (const unet of [small, large, svd]) {
    for (const feature of [paperFeature(unet), 'conv_out']) {
      for (const storage of storages) {
        for (const slots of [1, 2] as const) {
          const { full, skipped } = rehashPrograms(unet, { feature, storage, slots })
          const share = flopsOf(skipped) / flopsOf(full)
          assert.ok(share < 0.12, `${feature} ${storage} ${slots}: ${share}`)
          assert.ok(!('timestep' in skipped.inputs) && !('sample' in skipped.inputs))
        }
      }
    }
  }
})

test('cut anywhere, the skipped part gives what the whole network gives', () => {
  const random = randomNumbers(3)
  const values = new Map<string, Float32Array>()
  const weights = ({ name, shape }: { name: string; shape: readonly number[] }) => {
    const count = shape.reduce((a, b) => a * b, 1)
    const scale = shape.length > 1 ? Math.sqrt(3 / (count / shape[0]!)) : 1
    if (!values.has(name))
      values.set(
        name,
        Float32Array.from({ length: count }, () => (2 * random() - 1) * scale),
      )
    return values.get(name)
  }
  const inputs: Record<string, Float32Array> = {}
  for (const [name, { shape }] of Object.entries(small.inputs)) {
    const count = shape.reduce((a, b) => a * b, 1)
    inputs[name] = Float32Array.from({ length: count }, () => 2 * random() - 1)
  }
  const plain = interpret(small, { inputs, weights }).sample!
  const size = Math.sqrt(plain.reduce((sum, x) => sum + x * x, 0) / plain.length)
  for (const feature of ['up_blocks.1.resnets.0', 'up_blocks.2.motion_modules.1', 'conv_out']) {
    for (const [storage, slots, allowed] of [
      ['f32', 1, 0],
      ['f16', 1, 5e-3],
      ['int8', 2, 0.1],
    ] as const) {
      const { full, skipped } = rehashPrograms(small, { feature, storage, slots })
      verifyProgram(full)
      verifyProgram(skipped)
      const { sample, cache } = interpret(full, { inputs, weights }) as Record<string, Float32Array>
      assert.equal(sample, plain)
      const other = { cache1: cache!.map(() => 0), cacheWeights: Float32Array.of(1, 0) }
      const given = { ...inputs, cache0: cache!, ...(slots > 1 && other) }
      const after = interpret(skipped, { inputs: given, weights }).sample!
      const worst = Math.max(...after.map((x, i) => Math.abs(x - plain[i]!))) / size
      assert.ok(worst <= allowed, `${feature} ${storage} ${slots}: ${worst}`)
    }
  }
})

test('an observed network writes every feature and gives the same', () => {
  const features = candidateFeatures(small)
  const observed = observedProgram(small, features)
  verifyProgram(observed)
  assert.equal(Object.keys(observed.outputs), ['sample', ...features])
})

test('other modules are refused', () => {
  for (const feature of [
    'down_blocks.0.resnets.0',
    'up_blocks.7.resnets.0',
    'up_blocks.2',
    'conv_in',
  ])
    assert.throws(
      () => rehashPrograms(small, { feature, storage: 'f32', slots: 1 }),
      (e: Error) =>
        e instanceof OptionError && /expected one of up_blocks.0.resnets.0/.test(e.message),
    )
})

test.run()
