import { type Activation, add, attention, type Tensor } from '../program/index.js'
import { channelsOf, type Layers } from './layers.js'

export interface ClipLayerOptions {
  heads: number
  feedForwardWidth: number
  act: Activation
  normEps: number
  /** A token sees itself and earlier ones: text, not images. */
  causal: boolean
}

/**
 * A layer of CLIP's transformers: self-attention and a feed-forward, each normed before and added to its input.
 * @param source f32 [tokens, width]
 */
export function clipLayer(layers: Layers, source: Tensor, options: ClipLayerOptions): Tensor {
  const { heads, act, causal, normEps: eps, feedForwardWidth } = options
  const width = channelsOf(source)
  const self = layers.at('self_attn')
  const normed = layers.layerNorm('layer_norm1', source, { eps })
  const [q, k, v] = ['q_proj', 'k_proj', 'v_proj'].map(name =>
    self.linear(name, normed, width),
  ) as [Tensor, Tensor, Tensor]
  const mixed = self.ops(() => attention(q, k, v, { heads, causal }))
  const attended = self.linear('out_proj', mixed, width)
  const hidden = layers.ops(() => add(attended, source))
  const mlp = layers.at('mlp')
  const wide = mlp.linear(
    'fc1',
    layers.layerNorm('layer_norm2', hidden, { eps }),
    feedForwardWidth,
    { act },
  )
  const narrow = mlp.linear('fc2', wide, width)
  return layers.ops(() => add(narrow, hidden))
}
