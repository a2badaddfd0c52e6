import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CheckpointError, OptionError } from '../../lib/errors.js'
import {
  clipVision,
  clipVisionConfig,
  unetSpatioTemporal,
  unetSpatioTemporalConfig,
  vaeEncoder,
  vaeTemporalConfig,
  vaeTemporalDecoder,
} from '../../lib/models/index.js'
import { frameWaves } from '../../lib/models/spatio-temporal.js'
import { type Program, verifyProgram } from '../../lib/program/index.js'
import { elementCount, type WeightTensor } from '../../lib/program/tensor.js'
import { fixture } from '../support/recorded.js'
import { readCase } from '../support/seeded.js'

type Json = Record<string, unknown>
const published = (model: string, component: string): Json =>
  JSON.parse(readFileSync(`${fixture('configs')}/${model}/${component}/config.json`, 'utf8'))
const recorded = (name: string) => Object.entries(readCase(fixture(name)).modules)[0]!

/** Weights that a checkpoint must have: not the computed tables. */
const stored = (...programs: Program[]): WeightTensor[] => {
  const weights = programs.flatMap(program => program.weights).filter(({ fallback }) => !fallback)
  return [...new Map(weights.map(weight => [weight.name, weight])).values()]
}
const parameters = (...programs: Program[]): number =>
  stored(...programs).reduce((sum, { shape }) => sum + elementCount(shape), 0)

const unet = (config: Json, frames = 2, rows = 8, cols = 8) =>
  unetSpatioTemporal(unetSpatioTemporalConfig(config), { frames, rows, cols })
const vae = (config: Json, frames = 2, rows = 4, cols = 4) => [
  vaeTemporalDecoder(vaeTemporalConfig(config), { frames, rows, cols }),
  vaeEncoder(vaeTemporalConfig(config), { frames: 1, rows: 8 * rows, cols: 8 * cols }),
]
const vision = (config: Json) => clipVision(clipVisionConfig(config))

for (const [name, trace] of [
  ['unet-spatio-temporal', (config: Json) => [unet(config)]],
  ['vae-temporal', (config: Json) => vae(config)],
  ['clip-vision', (config: Json) => [vision(config)]],
] as const) {
  test(`${name}: asks for exactly the recorded weights`, () => {
    const [component, { config, tensors }] = recorded(name)
    const programs = trace(config)
    for (const program of programs) verifyProgram(program)
    assert.equal(
      stored(...programs)
        .map(({ name: key, shape }) => `${key} [${shape.join(', ')}]`)
        .sort(),
      Object.entries(tensors)
        .map(([key, shape]) => `${component}/${key} [${shape.join(', ')}]`)
        .sort(),
    )
  })
}

for (const [model, frames] of [
  ['svd', 14],
  ['svd-xt', 25],
] as const) {
  test(`${model}: known numbers of parameters, at the published size`, () => {
    const config = unetSpatioTemporalConfig(published(model, 'unet'))
    assert.is(config.frames, frames)
    const start = performance.now()
    const denoiser = unetSpatioTemporal(config, { frames, rows: 72, cols: 128 })
    console.log(
      `traced ${denoiser.nodes.length} ops in ${(performance.now() - start).toFixed(0)} ms`,
    )
    assert.is(parameters(denoiser), 1_524_623_082)
    assert.equal(denoiser.outputs.sample!.shape, [frames, 72, 128, 4])
    assert.equal(denoiser.inputs.encoder_hidden_states!.shape, [1, 1024])
    assert.equal(denoiser.inputs.added_time_ids!.shape, [3])

    const [decoder, encoder] = vae(published(model, 'vae'), frames, 72, 128) as [Program, Program]
    assert.is(parameters(decoder), 63_579_183)
    assert.is(parameters(decoder, encoder), 97_742_847)
    assert.equal(decoder.outputs.image!.shape, [frames, 576, 1024, 3])
    assert.equal(encoder.outputs.moments!.shape, [1, 72, 128, 8])

    const image = vision(published(model, 'image_encoder'))
    assert.is(parameters(image), 632_076_800)
    assert.equal(image.inputs.pixel_values!.shape, [1, 224, 224, 3])
    assert.equal(image.outputs.image_embeds!.shape, [1, 1024])
  })
}

test('what is missing has diffusers’ defaults', () => {
  assert.equal(unetSpatioTemporalConfig({}), unetSpatioTemporalConfig(published('svd-xt', 'unet')))
  const { down, mid, up, addedTimeIds, addedTimeDim } = unetSpatioTemporalConfig({})
  assert.equal(
    down.map(({ channels, layers, normEps, attention, resample }) =>
      [channels, layers, normEps, attention?.heads, resample].join(' '),
    ),
    [
      '320 2 0.000001 5 true',
      '640 2 0.000001 10 true',
      '1280 2 0.000001 20 true',
      '1280 2 0.00001  false',
    ],
  )
  assert.equal(
    up.map(({ channels, layers, normEps, attention, resample }) =>
      [channels, layers, normEps, attention?.heads, resample].join(' '),
    ),
    [
      '1280 3 0.000001  true',
      '1280 3 0.000001 20 true',
      '640 3 0.000001 10 true',
      '320 3 0.000001 5 false',
    ],
  )
  assert.equal([mid.attention.heads, addedTimeIds, addedTimeDim], [20, 3, 256])
  assert.equal(vaeTemporalConfig({ down_block_types: ['DownEncoderBlock2D'] }).widths, [64])
  assert.equal(clipVisionConfig({}).patchSize, 32)
})

test('depths and layers by block', () => {
  const config = unetSpatioTemporalConfig({
    layers_per_block: [1, 2, 3, 4],
    transformer_layers_per_block: [1, 2, 3, 4],
    num_attention_heads: 8,
  })
  assert.equal(
    config.up.map(({ layers, attention }) => [layers, attention?.depth]),
    [
      [5, undefined],
      [4, 3],
      [3, 2],
      [2, 1],
    ],
  )
  assert.equal(config.mid.attention, { heads: 8, depth: 4 })
})

test('what is not supported is refused, with file and key', () => {
  const refuses = (read: (json: Json) => unknown, file: string, json: Json) => {
    const key = Object.keys(json)[0]!
    try {
      read(json)
    } catch (error) {
      assert.instance(error, CheckpointError)
      assert.ok((error as Error).message.startsWith(`${file}: ${key}: expected `), `${error}`)
      return
    }
    assert.unreachable(`${file} ${key}`)
  }
  for (const json of [
    { _class_name: 'UNetMotionModel' },
    { block_out_channels: [320, 640, 1280, 1000] },
    { num_attention_heads: [5, 10, 20] },
    { num_attention_heads: 7 },
    { layers_per_block: 0 },
    { transformer_layers_per_block: [[1], [1], [1], [1]] },
    { down_block_types: ['CrossAttnDownBlock2D'] },
    { down_block_types: ['DownBlockSpatioTemporal'] },
    { up_block_types: ['UpBlockSpatioTemporal'] },
    { cross_attention_dim: [1024, 1024, 1024, 768] },
    { addition_time_embed_dim: 255 },
    { projection_class_embeddings_input_dim: 700 },
    { in_channels: 'eight' },
  ])
    refuses(unetSpatioTemporalConfig, 'unet/config.json', json)
  for (const json of [
    { _class_name: 'AutoencoderKL' },
    { block_out_channels: [100] },
    { down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D'] },
    { down_block_types: ['AttnDownEncoderBlock2D'] },
  ])
    refuses(vaeTemporalConfig, 'vae/config.json', json)
  for (const json of [
    { model_type: 'siglip_vision_model' },
    { num_attention_heads: 7 },
    { patch_size: 500 },
    { hidden_act: 'relu' },
  ])
    refuses(clipVisionConfig, 'image_encoder/config.json', json)
  const config = unetSpatioTemporalConfig({})
  assert.throws(
    () => unetSpatioTemporal(config, { frames: 0, rows: 8, cols: 8 }),
    (error: unknown) => error instanceof OptionError,
  )
})

test('sides that do not halve evenly come back at their size', () => {
  const [, { config }] = recorded('unet-spatio-temporal')
  for (const [frames, rows, cols] of [
    [1, 1, 1],
    [3, 7, 9],
    [40, 17, 2],
  ] as const) {
    const program = unet(config, frames, rows, cols)
    verifyProgram(program)
    assert.equal(program.outputs.sample!.shape, [frames, rows, cols, 4])
  }
})

test('ops are counted by the layers', () => {
  const program = unet(published('svd', 'unet'))
  const count = (op: string, test: (over: unknown) => boolean = () => true) =>
    program.nodes.filter(node => node.op === op && test(node.attrs.over)).length
  // 16 pairs of a spatial and a temporal transformer, each with a self- and a cross-attention; 22 pairs of residual blocks.
  assert.is(count('attention'), 64)
  assert.is(
    count('attention', over => over === 'time'),
    16,
  )
  assert.is(count('conv_time'), 44)
  assert.is(
    count('group_norm', over => over === 'video'),
    44,
  )
  assert.is(
    count('group_norm', over => over === 'frame'),
    44 + 16 + 1,
  )
  assert.is(program.nodes.filter(({ attrs }) => attrs.op === 'lerp').length, 16 + 22)
})

test('a middle block of one, two or three layers runs as diffusers runs it', () => {
  const [, { config }] = recorded('vae-temporal')
  const names = (layers: number) =>
    vae({ ...config, layers_per_block: layers })[0]!.nodes.map(({ name }) => name)
  const has = (layers: number, part: string) =>
    names(layers).some(name => name.startsWith(`decoder.mid_block.${part}.`))
  assert.equal(
    [1, 2, 3].map(layers => ['attentions.0', 'resnets.1', 'resnets.2'].map(x => has(layers, x))),
    [
      [false, false, false],
      [true, true, false],
      [true, true, false],
    ],
  )
})

test('waves of a frame number', () => {
  const waves = frameWaves(3, 8)
  const expected = [0, 1, 2, 3].map(i => 2 * 10000 ** (-i / 4))
  for (const [i, angle] of expected.entries()) {
    assert.ok(Math.abs(waves[16 + i]! - Math.cos(angle)) < 1e-7)
    assert.ok(Math.abs(waves[20 + i]! - Math.sin(angle)) < 1e-7)
  }
  assert.equal([...waves.slice(0, 8)], [1, 1, 1, 1, 0, 0, 0, 0])
})

test.run()
