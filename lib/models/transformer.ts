import { add, attention, type Tensor } from '../program/index.js'
import { channelsOf, type Layers } from './layers.js'

export interface TransformerOptions {
  heads: number
  /** Transformer blocks. */
  depth: number
  groups: number
  /** proj_in and proj_out are stored as matrices; else as 1x1 convolutions. The arithmetic is the same. */
  linearProjection: boolean
}

/**
 * Spatial transformer: norm, projection, blocks of self-attention, cross-attention and feed-forward, projection, plus its input.
 * @param source f32 [frames, rows, cols, channels]
 * @param context f32 [tokens, dim], the same for every frame
 */
export function spatialTransformer(
  layers: Layers,
  source: Tensor,
  context: Tensor,
  options: TransformerOptions,
): Tensor {
  const channels = channelsOf(source)
  const inner = options.heads * Math.floor(channels / options.heads)
  const project = (name: string, tensor: Tensor, outputs: number) =>
    options.linearProjection
      ? layers.linear(name, tensor, outputs)
      : layers.conv(name, tensor, outputs, { kernel: 1 })

  let hidden = project(
    'proj_in',
    layers.groupNorm('norm', source, { groups: options.groups, eps: 1e-6 }),
    inner,
  )
  for (let i = 0; i < options.depth; i++) {
    hidden = transformerBlock(layers.at(`transformer_blocks.${i}`), hidden, context, options.heads)
  }
  const projected = project('proj_out', hidden, channels)
  return layers.ops(() => add(projected, source))
}

/**
 * Self-attention, cross-attention and feed-forward, each normed before and added to its input.
 * @param over axis of the tokens of the self-attention
 */
export function transformerBlock(
  block: Layers,
  source: Tensor,
  context: Tensor,
  heads: number,
  over: 'space' | 'time' = 'space',
): Tensor {
  const normed = block.layerNorm('norm1', source)
  const mixed = attend(block, 'attn1', source, normed, undefined, heads, over)
  // A query sees the context and no other token, so the cross-attention is the same over either axis.
  const crossed = attend(block, 'attn2', mixed, block.layerNorm('norm2', mixed), context, heads)
  return feedForward(block, crossed)
}

/**
 * Attention of `normed` to itself or to a context, added to `hidden`.
 * @param over axis of the tokens, as in `attention`
 */
export function attend(
  block: Layers,
  name: string,
  hidden: Tensor,
  normed: Tensor,
  context: Tensor | undefined,
  heads: number,
  over: 'space' | 'time' = 'space',
): Tensor {
  const layers = block.at(name)
  const channels = channelsOf(hidden)
  const q = layers.linear('to_q', normed, channels, { bias: false })
  const k = layers.linear('to_k', context ?? normed, channels, { bias: false })
  const v = layers.linear('to_v', context ?? normed, channels, { bias: false })
  const mixed = layers.ops(() => attention(q, k, v, { heads, over }))
  const out = layers.linear('to_out.0', mixed, channels)
  return layers.ops(() => add(out, hidden))
}

/** Norm, gated GELU to four times the width, back, added to `hidden`. */
export function feedForward(block: Layers, hidden: Tensor, norm = 'norm3', name = 'ff'): Tensor {
  const channels = channelsOf(hidden)
  const layers = block.at(`${name}.net`)
  const gated = layers.linear('0.proj', block.layerNorm(norm, hidden), 8 * channels, {
    act: 'geglu',
  })
  const out = layers.linear('2', gated, channels)
  return layers.ops(() => add(out, hidden))
}
