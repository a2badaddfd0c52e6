import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CheckpointError, OptionError } from '../../lib/errors.js'
import {
  clipText,
  clipTextConfig,
  pooledIndex,
  splitMoments,
  unetMotion,
  unetMotionConfig,
  vaeConfig,
  vaeDecoder,
  vaeEncoder,
} from '../../lib/models/index.js'
import { sinusoids } from '../../lib/models/motion-module.js'
import { fixture } from '../support/recorded.js'

type Json = Record<string, unknown>
const json = (name: string): Json =>
  JSON.parse(
    readFileSync(`${fixture('configs/animatediff-sd15')}/${name}/config.json`, 'utf8'),
  ) as Json
const unet = json('unet')
const adapter = json('motion_adapter')
const whole = { ...unet, _class_name: 'UNetMotionModel', num_attention_heads: 8 }

function refuses(body: () => unknown, file: string, key: string, value: string): void {
  try {
    body()
  } catch (error) {
    assert.instance(error, CheckpointError)
    const { message, path } = error as CheckpointError
    assert.is(path, file)
    assert.ok(
      message.startsWith(`${file}: ${key}: expected `) && message.includes(`, got ${value}; `),
      message,
    )
    return
  }
  assert.unreachable(`${key} ${value}`)
}

test('what is missing has diffusers’ defaults', () => {
  const config = unetMotionConfig({ _class_name: 'UNet2DConditionModel' }, {})
  assert.equal(
    config.down.map(({ channels }) => channels),
    [320, 640, 1280, 1280],
  )
  assert.equal(
    config.down.map(({ attention }) => attention?.heads),
    [8, 8, 8, undefined],
  )
  assert.equal(
    config.up.map(({ layers, resample }) => [layers, resample]),
    [
      [3, true],
      [3, true],
      [3, true],
      [3, false],
    ],
  )
  assert.is(config.crossAttentionDim, 1280)
  assert.is(config.timeEmbedDim, 1280)
  assert.is(config.maxFrames, 32)
  assert.equal(config.mid?.motion, { heads: 8, depths: [1] })
  assert.is(vaeConfig({}).scalingFactor, 0.18215)
  assert.is(clipTextConfig({}).eosTokenId, 49407)
})

test('attention_head_dim counts heads, num_attention_heads has precedence, both may be lists', () => {
  const heads = (more: Json) =>
    unetMotionConfig({ ...unet, ...more }, adapter).down.map(({ attention }) => attention?.heads)
  assert.equal(heads({ attention_head_dim: [5, 10, 20, 20] }), [5, 10, 20, undefined])
  assert.equal(heads({ attention_head_dim: 8, num_attention_heads: 4 }), [4, 4, 4, undefined])
})

test('depths of transformers: one, by block, by layer, reversed on the way up', () => {
  const read = (more: Json) => unetMotionConfig({ ...whole, ...more })
  const byBlock = read({
    transformer_layers_per_block: [1, 2, 3, 4],
    temporal_transformer_layers_per_block: [2, 1, 1, 3],
  })
  assert.equal(byBlock.down[1]!.attention!.depths, [2, 2])
  assert.equal(byBlock.up[1]!.attention!.depths, [3, 3, 3])
  assert.equal(byBlock.up[0]!.motion.depths, [3, 3, 3])
  assert.equal(byBlock.mid!.attention.depths, [4])
  const lists = { transformer_layers_per_block: [[1, 2], 1, 1, 1] }
  refuses(() => read(lists), 'unet/config.json', 'reverse_transformer_layers_per_block', 'nothing')
  const both = read({ ...lists, reverse_transformer_layers_per_block: [1, 1, 1, [3, 2, 1]] })
  assert.equal(both.down[0]!.attention!.depths, [1, 2])
  assert.equal(both.up[3]!.attention!.depths, [3, 2, 1])
})

test('motion weights come from the adapter, or from the UNet that holds them', () => {
  assert.is(unetMotionConfig(unet, adapter).motionComponent, 'motion_adapter')
  assert.is(unetMotionConfig(whole).motionComponent, 'unet')
  assert.is(unetMotionConfig(whole).mid!.motion!.heads, 8)
  assert.is(unetMotionConfig(unet, adapter).mid!.motion, undefined)
})

test('a network without a mid block', () => {
  const config = unetMotionConfig({ ...unet, mid_block_type: null }, adapter)
  assert.is(config.mid, undefined)
  const program = unetMotion(config, { frames: 1, rows: 8, cols: 8, tokens: 1 })
  assert.not(program.weights.some(({ name }) => name.includes('mid_block')))
  refuses(
    () =>
      unetMotionConfig(
        { ...unet, mid_block_type: null },
        { ...adapter, use_motion_mid_block: true },
      ),
    'unet/config.json',
    'mid_block_type',
    'null',
  )
})

test('a UNet that is another network is refused', () => {
  for (const [key, value] of Object.entries({
    _class_name: 'UNetSpatioTemporalConditionModel',
    act_fn: 'mish',
    addition_embed_type: 'text_time',
    attention_head_dim: 0,
    attention_type: 'gated',
    block_out_channels: [320, '640'],
    class_embed_type: 'timestep',
    conv_in_kernel: 5,
    cross_attention_dim: [768, 768, 768, 1024],
    down_block_types: ['SimpleCrossAttnDownBlock2D'],
    dual_cross_attention: true,
    encoder_hid_dim_type: 'ip_image_proj',
    in_channels: 0,
    layers_per_block: [2, 2],
    mid_block_scale_factor: 1.41,
    mid_block_type: 'UNetMidBlock2DSimpleCrossAttn',
    norm_num_groups: 48,
    only_cross_attention: true,
    resnet_time_scale_shift: 'scale_shift',
    time_cond_proj_dim: 256,
    time_embedding_type: 'fourier',
    transformer_layers_per_block: [1, 1, 0, 1],
    up_block_types: ['UpBlock2D'],
    use_linear_projection: 'yes',
  })) {
    refuses(
      () => unetMotionConfig({ ...unet, [key]: value }, adapter),
      'unet/config.json',
      key,
      JSON.stringify(value),
    )
  }
})

test('an adapter that does not fit is refused', () => {
  for (const [key, value] of Object.entries({
    block_out_channels: [320, 640, 1280],
    conv_in_channels: 9,
    motion_layers_per_block: '2',
    motion_max_seq_length: 0,
    motion_mid_block_layers_per_block: 2,
    motion_num_attention_heads: [8],
    use_motion_mid_block: 1,
  })) {
    const file = 'motion_adapter/config.json'
    refuses(
      () => unetMotionConfig(unet, { ...adapter, [key]: value }),
      file,
      key,
      JSON.stringify(value),
    )
  }
  assert.throws(
    () => unetMotionConfig(unet, { ...adapter, motion_layers_per_block: 1 }),
    /motion_layers_per_block: expected 2, 2, 2, 2 .*got 1, 1, 1, 1;/,
  )
  assert.throws(() => unetMotionConfig(unet), /expected a motion adapter .*got none;/)
})

test('a VAE or text encoder that is another network is refused', () => {
  const vae = json('vae')
  for (const [key, value] of Object.entries({
    _class_name: 'AutoencoderTiny',
    act_fn: 'relu',
    down_block_types: ['AttnDownEncoderBlock2D'],
    latents_mean: [0, 0, 0, 0],
    layers_per_block: 0,
    norm_num_groups: 24,
    up_block_types: ['UpDecoderBlock2D'],
  })) {
    refuses(
      () => vaeConfig({ ...vae, [key]: value }),
      'vae/config.json',
      key,
      JSON.stringify(value),
    )
  }
  const text = json('text_encoder')
  for (const [key, value] of Object.entries({
    hidden_act: 'relu',
    model_type: 't5',
    num_attention_heads: 7,
    num_hidden_layers: 0,
  })) {
    refuses(
      () => clipTextConfig({ ...text, [key]: value }),
      'text_encoder/config.json',
      key,
      JSON.stringify(value),
    )
  }
  assert.throws(() => vaeConfig([] as never), /vae\/config.json: expected a JSON object, got \[\];/)
})

test('impossible sizes are refused as options', () => {
  const config = unetMotionConfig(unet, adapter)
  const size = { frames: 33, rows: 8, cols: 8, tokens: 77 }
  const refused = (body: () => unknown, message: RegExp) => {
    assert.throws(
      body,
      (error: Error) => error instanceof OptionError && message.test(error.message),
    )
  }
  refused(() => unetMotion(config, size), /frames: expected at most 32, .*got 33;/)
  refused(
    () => unetMotion(config, { ...size, frames: 0 }),
    /frames: expected a positive integer, got 0/,
  )
  refused(
    () => unetMotion(config, { ...size, frames: 1, rows: 1.5 }),
    /rows: expected a positive integer, got 1.5/,
  )
  refused(
    () => clipText(clipTextConfig(json('text_encoder')), { tokens: 78 }),
    /tokens: expected 1 to 77, got 78;/,
  )
  refused(
    () => vaeDecoder(vaeConfig(json('vae')), { frames: 1, rows: 0, cols: 8 }),
    /rows: .*got 0/,
  )
  refused(
    () => vaeEncoder(vaeConfig(json('vae')), { frames: 1, rows: 8, cols: 7 }),
    /cols: expected an integer of at least 8, got 7/,
  )
})

test('the token that stands for a text', () => {
  assert.is(pooledIndex([5, 9, 3, 9, 9], { eosTokenId: 9 }), 1)
  assert.is(pooledIndex(Int32Array.of(49406, 320, 49407, 49407), { eosTokenId: 2 }), 2)
  assert.is(pooledIndex([5, 6], { eosTokenId: 9 }), 0)
})

test('moments split into mean and clamped log-variance', () => {
  const { mean, logvar } = splitMoments(Float32Array.of(1, 2, -31, 21, 3, 4, 5, 6), 2)
  assert.equal([...mean], [1, 2, 3, 4])
  assert.equal([...logvar], [-30, 20, 5, 6])
})

test('sinusoidal positions', () => {
  const table = sinusoids(3, 4)
  assert.equal([...table.slice(0, 4)], [0, 1, 0, 1])
  const expected = [Math.sin(2), Math.cos(2), Math.sin(0.02), Math.cos(0.02)]
  table.slice(8).forEach((value, i) => assert.ok(Math.abs(value - expected[i]!) < 1e-7))
})

test.run()
