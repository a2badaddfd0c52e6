import { add, type Tensor } from '../program/index.js'
import { channelsOf, type Layers } from './layers.js'
import { attend, feedForward } from './transformer.js'

export interface MotionOptions {
  heads: number
  /** Transformer blocks. */
  depth: number
  groups: number
  /** Rows of the position table: the most frames. */
  maxFrames: number
}

/**
 * AnimateDiff's temporal transformer: norm over the whole video, projection, blocks of two self-attentions along the frames and a
 * feed-forward, projection, plus its input.
 * @param source f32 [frames, rows, cols, channels]
 */
export function motionModule(layers: Layers, source: Tensor, options: MotionOptions): Tensor {
  const { heads, depth, groups, maxFrames } = options
  const channels = channelsOf(source)
  const inner = heads * Math.floor(channels / heads)
  const normed = layers.groupNorm('norm', source, { groups, eps: 1e-6, over: 'video' })
  let hidden = layers.linear('proj_in', normed, inner)
  for (let i = 0; i < depth; i++) {
    const block = layers.at(`transformer_blocks.${i}`)
    const positions = block.weight('pos_embed.pe', [1, maxFrames, inner], () =>
      sinusoids(maxFrames, inner),
    )
    hidden = attend(
      block,
      'attn1',
      hidden,
      block.layerNorm('norm1', hidden, { positions }),
      undefined,
      heads,
      'time',
    )
    hidden = attend(
      block,
      'attn2',
      hidden,
      block.layerNorm('norm2', hidden, { positions }),
      undefined,
      heads,
      'time',
    )
    hidden = feedForward(block, hidden)
  }
  const projected = layers.linear('proj_out', hidden, channels)
  return layers.ops(() => add(projected, source))
}

/** Sinusoidal positions [length, channels]: sines in even channels, cosines in odd ones, wavelengths 2 pi to 10000 * 2 pi. */
export function sinusoids(length: number, channels: number): Float32Array {
  const table = new Float32Array(length * channels)
  for (let position = 0; position < length; position++) {
    for (let channel = 0; channel < channels; channel++) {
      const angle = position * Math.exp((-Math.log(10000) * (channel - (channel % 2))) / channels)
      table[position * channels + channel] = channel % 2 === 0 ? Math.sin(angle) : Math.cos(angle)
    }
  }
  return table
}
