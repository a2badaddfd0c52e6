import { OptionError } from '../errors.js'
import {
  add,
  type Program,
  program,
  type Source,
  silu,
  type Tensor,
  timestepEmbedding,
} from '../program/index.js'
import { Layers, type WeightDTypes } from './layers.js'
import { spatioTemporalResnet, spatioTemporalTransformer } from './spatio-temporal.js'
import { downBlock, midBlock, upBlock } from './unet-blocks.js'
import {
  spatioTemporalGroups as groups,
  type SpatioTemporalBlockConfig,
  spatioTemporalEps,
  type UNetSpatioTemporalConfig,
} from './unet-spatio-temporal-config.js'

export interface UNetSpatioTemporalSize {
  frames: number
  /** Of the latents. */
  rows: number
  cols: number
}

/**
 * Stable Video Diffusion's denoising network (diffusers' UNetSpatioTemporalConditionModel) for one element of the batch.
 * Inputs: `sample` f32 [frames, rows, cols, in_channels], `timestep` f32 [1], `encoder_hidden_states` f32 [1, dim] (the image's
 * embedding), `added_time_ids` f32 [ids]. Output: `sample` f32 [frames, rows, cols, out_channels].
 * @param options.imageChannels the last of in_channels that come in an input of their own, `image_latents` [frames, rows, cols,
 * imageChannels]; `sample` then holds the others
 * @throws OptionError for sizes that are no positive integers
 */
export function unetSpatioTemporal(
  config: UNetSpatioTemporalConfig,
  size: UNetSpatioTemporalSize,
  options: { dtypes?: WeightDTypes; imageChannels?: number } = {},
): Program {
  for (const [name, value] of Object.entries(size)) {
    if (!Number.isSafeInteger(value) || value < 1)
      throw new OptionError(`${name}: expected a positive integer, got ${value}`)
  }
  return program('unet', trace => {
    const unet = new Layers(trace, 'unet', options.dtypes)
    const { frames, rows, cols } = size
    const { imageChannels = 0 } = options
    const sample = trace.input('sample', [frames, rows, cols, config.inChannels - imageChannels])
    const source: Source =
      imageChannels > 0
        ? [sample, trace.input('image_latents', [frames, rows, cols, imageChannels])]
        : sample
    const timestep = trace.input('timestep', [1])
    const context = trace.input('encoder_hidden_states', [1, config.crossAttentionDim])
    const added = trace.input('added_time_ids', [config.addedTimeIds])
    const time = timeVector(unet, timestep, added, config)

    const resnet = (block: Layers, source: Source, i: number, channels: number, eps: number) =>
      spatioTemporalResnet(block.at(`resnets.${i}`), source, {
        channels,
        groups,
        eps,
        act: 'silu',
        time,
      })
    const attend = (block: Layers, source: Tensor, i: number, attention: Attention) =>
      spatioTemporalTransformer(block.at(`attentions.${i}`), source, context, {
        ...attention,
        groups,
      })
    const layer =
      (block: Layers, { channels, normEps, attention }: SpatioTemporalBlockConfig) =>
      (source: Source, i: number) => {
        const residual = resnet(block, source, i, channels, normEps)
        return attention ? attend(block, residual, i, attention) : residual
      }

    let hidden = unet.conv('conv_in', source, config.down[0]!.channels)
    const skips = [hidden]
    for (const [i, block] of config.down.entries()) {
      const layers = unet.at(`down_blocks.${i}`)
      const downsamplePadding = block.resample ? 1 : undefined
      const shape = { count: block.layers, downsamplePadding }
      hidden = downBlock(layers, hidden, skips, shape, layer(layers, block))
    }
    const middle = unet.at('mid_block')
    hidden = midBlock(
      hidden,
      1,
      (source, i) => resnet(middle, source, i, config.mid.channels, spatioTemporalEps),
      (source, i) => attend(middle, source, i, config.mid.attention),
    )
    for (const [i, block] of config.up.entries()) {
      const layers = unet.at(`up_blocks.${i}`)
      const shape = { count: block.layers, upsample: block.resample }
      hidden = upBlock(layers, hidden, skips, shape, layer(layers, block))
    }
    const normed = unet.groupNorm('conv_norm_out', hidden, {
      groups,
      eps: spatioTemporalEps,
      act: 'silu',
    })
    return { sample: unet.conv('conv_out', normed, config.outChannels) }
  })
}

type Attention = UNetSpatioTemporalConfig['mid']['attention']

/**
 * The timestep's embedding plus that of the added numbers, activated once: every residual block reads it through the same
 * activation. f32 [1, dim]
 */
function timeVector(
  unet: Layers,
  timestep: Tensor,
  added: Tensor,
  config: UNetSpatioTemporalConfig,
): Tensor {
  const width = config.down[0]!.channels
  const embed = (name: string, numbers: Tensor, dim: number) => {
    const layers = unet.at(name)
    const waves = layers.ops(() => timestepEmbedding(numbers, { dim }))
    return layers.linear(
      'linear_2',
      layers.linear('linear_1', waves, 4 * width, { act: 'silu' }),
      4 * width,
    )
  }
  const time = embed('time_embedding', timestep, width)
  const numbers = embed('add_embedding', added, config.addedTimeDim)
  return unet.ops(() => silu(add(numbers, time)))
}
