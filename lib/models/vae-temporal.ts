import { type Program, program, type Source, type Tensor } from '../program/index.js'
import { type ConfigJson, ConfigReader } from './config.js'
import { Layers, type WeightDTypes } from './layers.js'
import { upsample } from './resnet.js'
import { spatioTemporalResnet } from './spatio-temporal.js'
import {
  checkVaeSize,
  lastNorm,
  selfAttention,
  type VaeConfig,
  type VaeSize,
  vaeEps,
} from './vae.js'

/** Of the norms along the frames. */
const temporalEps = 1e-5

/**
 * Reads `vae/config.json` of an AutoencoderKLTemporalDecoder. Its encoder is vaeEncoder's.
 * @throws CheckpointError for what is not supported.
 */
export function vaeTemporalConfig(json: ConfigJson, file = 'vae/config.json'): VaeConfig {
  const reader = new ConfigReader(json, file)
  reader.only({ _class_name: 'AutoencoderKLTemporalDecoder' })
  const widths = reader.integers('block_out_channels', [64])
  const normGroups = 32
  if (widths.some(width => width % normGroups !== 0))
    reader.refuse('block_out_channels', `multiples of ${normGroups}`)
  const type = 'DownEncoderBlock2D'
  const types = reader.strings('down_block_types', [type], [type])
  if (types.length !== widths.length)
    reader.refuse('down_block_types', `${widths.length} times ${type}`)
  return {
    imageChannels: reader.integer('in_channels', 3),
    outChannels: reader.integer('out_channels', 3),
    latentChannels: reader.integer('latent_channels', 4),
    widths,
    layers: reader.integer('layers_per_block', 1),
    normGroups,
    act: 'silu',
    midAttention: true,
    quantConv: true,
    postQuantConv: false,
    scalingFactor: reader.number('scaling_factor', 0.18215),
    shiftFactor: 0,
  }
}

/**
 * Temporal decoder of all frames of a video at once: `latents` f32 [frames, rows, cols, latent], unscaled, to `image` f32
 * [frames, rows * scale, cols * scale, 3], about [-1, 1].
 * @throws OptionError for sizes that are no positive integers
 */
export function vaeTemporalDecoder(
  config: VaeConfig,
  size: VaeSize,
  options: { dtypes?: WeightDTypes } = {},
): Program {
  checkVaeSize(size, 1)
  return program('vae-temporal-decoder', trace => {
    const decoder = new Layers(trace, 'vae', options.dtypes).at('decoder')
    const widths = [...config.widths].reverse()
    const { frames, rows, cols } = size
    const latents = trace.input('latents', [frames, rows, cols, config.latentChannels])
    let hidden = middle(
      decoder.at('mid_block'),
      decoder.conv('conv_in', latents, widths[0]!),
      config,
    )
    for (const [i, width] of widths.entries()) {
      const block = decoder.at(`up_blocks.${i}`)
      for (let j = 0; j <= config.layers; j++) hidden = resnet(block, hidden, j, width, config)
      if (i === widths.length - 1) break
      const [, high, wide] = hidden.shape as readonly [number, number, number, number]
      hidden = upsample(block.at('upsamplers.0'), hidden, [2 * high, 2 * wide])
    }
    const image = decoder.conv('conv_out', lastNorm(decoder, hidden, config), config.outChannels)
    return { image: decoder.convTime('time_conv_out', image, config.outChannels) }
  })
}

function resnet(
  block: Layers,
  source: Source,
  i: number,
  channels: number,
  config: VaeConfig,
): Tensor {
  const { normGroups: groups, act } = config
  return spatioTemporalResnet(block.at(`resnets.${i}`), source, {
    channels,
    groups,
    eps: vaeEps,
    temporalEps,
    act,
    switched: true,
  })
}

/** Diffusers pairs the residual blocks behind the first with its one attention, so that a third and later ones are never run. */
function middle(block: Layers, source: Tensor, config: VaeConfig): Tensor {
  const channels = config.widths[config.widths.length - 1]!
  const first = resnet(block, source, 0, channels, config)
  if (config.layers === 1) return first
  return resnet(block, selfAttention(block.at('attentions.0'), first, config), 1, channels, config)
}
