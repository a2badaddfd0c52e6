import { OptionError } from '../errors.js'
import {
  type Activation,
  add,
  attention,
  type Program,
  program,
  type Tensor,
} from '../program/index.js'
import { type ConfigJson, ConfigReader } from './config.js'
import { channelsOf, Layers, type WeightDTypes } from './layers.js'
import { downsample, resnetBlock, upsample } from './resnet.js'
import { midBlock } from './unet-blocks.js'
import { activationOf } from './unet-config.js'

/** Of every norm: fixed in diffusers, whatever the config says. */
export const vaeEps = 1e-6

export interface VaeConfig {
  readonly imageChannels: number
  readonly outChannels: number
  readonly latentChannels: number
  readonly widths: readonly number[]
  readonly layers: number
  readonly normGroups: number
  readonly act: Activation
  readonly midAttention: boolean
  readonly quantConv: boolean
  readonly postQuantConv: boolean
  /** Latents of the denoiser are these times the VAE's (minus the shift): the caller's affair. */
  readonly scalingFactor: number
  readonly shiftFactor: number
}

/** Reads `vae/config.json` of an AutoencoderKL. @throws CheckpointError for what is not supported. */
export function vaeConfig(json: ConfigJson, file = 'vae/config.json'): VaeConfig {
  const reader = new ConfigReader(json, file)
  reader.only({ _class_name: 'AutoencoderKL', latents_mean: null, latents_std: null })
  const widths = reader.integers('block_out_channels', [64])
  const normGroups = reader.integer('norm_num_groups', 32)
  if (widths.some(width => width % normGroups !== 0))
    reader.refuse('norm_num_groups', `a divisor of ${widths.join(', ')}`)
  for (const [key, type] of [
    ['down_block_types', 'DownEncoderBlock2D'],
    ['up_block_types', 'UpDecoderBlock2D'],
  ] as const) {
    const types = reader.strings(key, [type], [type])
    if (types.length !== widths.length) reader.refuse(key, `${widths.length} times ${type}`)
  }
  return {
    imageChannels: reader.integer('in_channels', 3),
    outChannels: reader.integer('out_channels', 3),
    latentChannels: reader.integer('latent_channels', 4),
    widths,
    layers: reader.integer('layers_per_block', 1),
    normGroups,
    act: activationOf(reader),
    midAttention: reader.flag('mid_block_add_attention', true),
    quantConv: reader.flag('use_quant_conv', true),
    postQuantConv: reader.flag('use_post_quant_conv', true),
    scalingFactor: reader.number('scaling_factor', 0.18215),
    shiftFactor: reader.number('shift_factor', 0),
  }
}

/** Rows and columns of an image for one of its latents. */
export function vaeScale(config: VaeConfig): number {
  return 2 ** (config.widths.length - 1)
}

export interface VaeSize {
  /** Frames decoded or encoded in one run. */
  frames: number
  /** Of the program's input. */
  rows: number
  cols: number
}

/** Decoder: `latents` f32 [frames, rows, cols, latent], unscaled, to `image` f32 [frames, rows * scale, cols * scale, 3], about [-1, 1]. */
export function vaeDecoder(
  config: VaeConfig,
  size: VaeSize,
  options: { dtypes?: WeightDTypes } = {},
): Program {
  checkVaeSize(size, 1)
  return program('vae-decoder', trace => {
    const vae = new Layers(trace, 'vae', options.dtypes)
    const decoder = vae.at('decoder')
    const widths = [...config.widths].reverse()
    const latents = trace.input('latents', [
      size.frames,
      size.rows,
      size.cols,
      config.latentChannels,
    ])
    const open = config.postQuantConv
      ? vae.conv('post_quant_conv', latents, config.latentChannels, { kernel: 1 })
      : latents
    let hidden = middle(decoder.at('mid_block'), decoder.conv('conv_in', open, widths[0]!), config)
    for (const [i, width] of widths.entries()) {
      const block = decoder.at(`up_blocks.${i}`)
      for (let j = 0; j <= config.layers; j++)
        hidden = resnet(block.at(`resnets.${j}`), hidden, width, config)
      if (i === widths.length - 1) break
      const [, rows, cols] = hidden.shape as readonly [number, number, number, number]
      hidden = upsample(block.at('upsamplers.0'), hidden, [2 * rows, 2 * cols])
    }
    return {
      image: decoder.conv('conv_out', lastNorm(decoder, hidden, config), config.outChannels),
    }
  })
}

/**
 * Encoder: `image` f32 [frames, rows, cols, 3] in [-1, 1] to `moments` f32 [frames, rows / scale, cols / scale, 2 * latent], the mean
 * beside the logarithm of the variance (see splitMoments). Odd sides lose a row or column at each halving.
 */
export function vaeEncoder(
  config: VaeConfig,
  size: VaeSize,
  options: { dtypes?: WeightDTypes } = {},
): Program {
  checkVaeSize(size, vaeScale(config))
  return program('vae-encoder', trace => {
    const vae = new Layers(trace, 'vae', options.dtypes)
    const encoder = vae.at('encoder')
    const image = trace.input('image', [size.frames, size.rows, size.cols, config.imageChannels])
    let hidden = encoder.conv('conv_in', image, config.widths[0]!)
    for (const [i, width] of config.widths.entries()) {
      const block = encoder.at(`down_blocks.${i}`)
      for (let j = 0; j < config.layers; j++)
        hidden = resnet(block.at(`resnets.${j}`), hidden, width, config)
      if (i < config.widths.length - 1) hidden = downsample(block.at('downsamplers.0'), hidden, 0)
    }
    hidden = middle(encoder.at('mid_block'), hidden, config)
    const moments = encoder.conv(
      'conv_out',
      lastNorm(encoder, hidden, config),
      2 * config.latentChannels,
    )
    return {
      moments: config.quantConv
        ? vae.conv('quant_conv', moments, channelsOf(moments), { kernel: 1 })
        : moments,
    }
  })
}

/** Mean and logarithm of the variance, clamped to [-30, 20], each [..., latent], from an encoder's moments [..., 2 * latent]. */
export function splitMoments(
  moments: Float32Array,
  latentChannels: number,
): { mean: Float32Array; logvar: Float32Array } {
  const positions = moments.length / (2 * latentChannels)
  const mean = new Float32Array(positions * latentChannels)
  const logvar = new Float32Array(positions * latentChannels)
  for (let i = 0; i < mean.length; i++) {
    const at = i + latentChannels * Math.floor(i / latentChannels)
    mean[i] = moments[at]!
    logvar[i] = Math.min(20, Math.max(-30, moments[at + latentChannels]!))
  }
  return { mean, logvar }
}

/** Other keys under which older checkpoints hold a weight: the attention's `query`, `key`, `value`, `proj_attn`. */
export function alternativeVaeKeys(key: string): string[] {
  const older = key
    .replace(/(attentions\.\d+\.)to_q\./, '$1query.')
    .replace(/(attentions\.\d+\.)to_k\./, '$1key.')
    .replace(/(attentions\.\d+\.)to_v\./, '$1value.')
    .replace(/(attentions\.\d+\.)to_out\.0\./, '$1proj_attn.')
  return older === key ? [] : [older]
}

function resnet(layers: Layers, source: Tensor, channels: number, config: VaeConfig): Tensor {
  return resnetBlock(layers, source, {
    channels,
    groups: config.normGroups,
    eps: vaeEps,
    act: config.act,
  })
}

function middle(block: Layers, source: Tensor, config: VaeConfig): Tensor {
  const channels = channelsOf(source)
  return midBlock(
    source,
    1,
    (tensor, i) => resnet(block.at(`resnets.${i}`), tensor, channels, config),
    (tensor, i) =>
      config.midAttention ? selfAttention(block.at(`attentions.${i}`), tensor, config) : tensor,
  )
}

/** One head over all positions of a frame, plus its input. */
export function selfAttention(layers: Layers, source: Tensor, config: VaeConfig): Tensor {
  const channels = channelsOf(source)
  const normed = layers.groupNorm('group_norm', source, { groups: config.normGroups, eps: vaeEps })
  const [q, k, v] = ['to_q', 'to_k', 'to_v'].map(name => layers.linear(name, normed, channels)) as [
    Tensor,
    Tensor,
    Tensor,
  ]
  const mixed = layers.ops(() => attention(q, k, v, { heads: 1 }))
  const out = layers.linear('to_out.0', mixed, channels)
  return layers.ops(() => add(out, source))
}

export function lastNorm(layers: Layers, source: Tensor, config: VaeConfig): Tensor {
  return layers.groupNorm('conv_norm_out', source, {
    groups: config.normGroups,
    eps: vaeEps,
    act: 'silu',
  })
}

/** @throws OptionError */
export function checkVaeSize(size: VaeSize, least: number): void {
  for (const [name, value] of Object.entries(size)) {
    const bound = name === 'frames' ? 1 : least
    if (!Number.isSafeInteger(value) || value < bound)
      throw new OptionError(`${name}: expected an integer of at least ${bound}, got ${value}`)
  }
}
