import { add, lerp, type Source, sigmoid, type Tensor } from '../program/index.js'
import { channelsOf, type Layers } from './layers.js'
import { type ResnetOptions, resnetBlock } from './resnet.js'
import { feedForward, transformerBlock } from './transformer.js'

export interface SpatioTemporalResnetOptions extends Omit<ResnetOptions, 'over'> {
  /** Of the temporal block's norms. Default: eps. */
  temporalEps?: number
  /** The learned share is the temporal block's, not the spatial one's. */
  switched?: boolean
}

/**
 * A residual block in space, then one along the frames, and both results mixed by a learned share.
 * @param source f32 [frames, rows, cols, channels], or a feature and a skip
 */
export function spatioTemporalResnet(
  layers: Layers,
  source: Source,
  options: SpatioTemporalResnetOptions,
): Tensor {
  const { temporalEps, switched = false, ...block } = options
  const spatial = resnetBlock(layers.at('spatial_res_block'), source, block)
  const temporal = resnetBlock(layers.at('temporal_res_block'), spatial, {
    ...block,
    eps: temporalEps ?? block.eps,
    over: 'time',
  })
  return switched ? blend(layers, temporal, spatial) : blend(layers, spatial, temporal)
}

/** `main` and `other` in the shares a and 1 - a, a = sigmoid(mix_factor). */
function blend(layers: Layers, main: Tensor, other: Tensor): Tensor {
  const mixer = layers.at('time_mixer')
  const factor = mixer.weight('mix_factor', [1])
  return mixer.ops(() => lerp(other, main, sigmoid(factor)))
}

export interface SpatioTemporalTransformerOptions {
  heads: number
  /** Pairs of a spatial and a temporal block. */
  depth: number
  groups: number
}

/**
 * Transformer over space and time: norm, projection, pairs of a spatial block and a temporal one whose results are mixed by a learned
 * share, projection, plus its input.
 * @param source f32 [frames, rows, cols, channels]; heads divide the channels
 * @param context f32 [tokens, dim], the same for every frame
 */
export function spatioTemporalTransformer(
  layers: Layers,
  source: Tensor,
  context: Tensor,
  options: SpatioTemporalTransformerOptions,
): Tensor {
  const { heads, groups } = options
  const channels = channelsOf(source)
  const normed = layers.groupNorm('norm', source, { groups, eps: 1e-6 })
  let hidden = layers.linear('proj_in', normed, channels)
  const positions = framePositions(layers, source.shape[0]!, channels)
  for (let i = 0; i < options.depth; i++) {
    const spatial = transformerBlock(layers.at(`transformer_blocks.${i}`), hidden, context, heads)
    const block = layers.at(`temporal_transformer_blocks.${i}`)
    const placed = block.ops(() => add(spatial, positions))
    const opened = feedForward(block, placed, 'norm_in', 'ff_in')
    const temporal = transformerBlock(block, opened, context, heads, 'time')
    hidden = blend(layers, spatial, temporal)
  }
  const projected = layers.linear('proj_out', hidden, channels)
  return layers.ops(() => add(projected, source))
}

/** A learned function of each frame's number. f32 [frames, channels] */
function framePositions(layers: Layers, frames: number, channels: number): Tensor {
  const waves = layers.table(`time_proj.${frames}x${channels}`, [frames, channels], () =>
    frameWaves(frames, channels),
  )
  const embed = layers.at('time_pos_embed')
  const wide = embed.linear('linear_1', waves, 4 * channels, { act: 'silu' })
  return embed.linear('linear_2', wide, channels)
}

/** Row f: cosines, then sines, of f at channels / 2 frequencies from 1 down to about 1/10000. */
export function frameWaves(frames: number, channels: number): Float32Array {
  const half = channels / 2
  const table = new Float32Array(frames * channels)
  for (let frame = 0; frame < frames; frame++) {
    for (let i = 0; i < half; i++) {
      const angle = frame * Math.exp((-Math.log(10000) * i) / half)
      table[frame * channels + i] = Math.cos(angle)
      table[frame * channels + half + i] = Math.sin(angle)
    }
  }
  return table
}
