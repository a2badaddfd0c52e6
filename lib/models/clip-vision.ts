import { type Activation, type Program, prependToken, program, tokens } from '../program/index.js'
import { clipLayer } from './clip-layer.js'
import { type ConfigJson, ConfigReader } from './config.js'
import { Layers, type WeightDTypes } from './layers.js'

export interface ClipVisionConfig {
  readonly imageSize: number
  readonly patchSize: number
  readonly imageChannels: number
  readonly width: number
  readonly feedForwardWidth: number
  readonly layers: number
  readonly heads: number
  /** Width of the image's embedding. */
  readonly projection: number
  readonly act: Activation
  readonly normEps: number
}

/** Reads `image_encoder/config.json` of a CLIPVisionModelWithProjection. @throws CheckpointError for what is not supported. */
export function clipVisionConfig(
  json: ConfigJson,
  file = 'image_encoder/config.json',
): ClipVisionConfig {
  const reader = new ConfigReader(json, file)
  reader.choice('model_type', ['clip_vision_model'], 'clip_vision_model')
  const width = reader.integer('hidden_size', 768)
  const heads = reader.integer('num_attention_heads', 12)
  if (width % heads !== 0) reader.refuse('num_attention_heads', `a divisor of hidden_size ${width}`)
  const imageSize = reader.integer('image_size', 224)
  const patchSize = reader.integer('patch_size', 32)
  if (patchSize > imageSize) reader.refuse('patch_size', `at most the image_size ${imageSize}`)
  return {
    imageSize,
    patchSize,
    imageChannels: reader.integer('num_channels', 3),
    width,
    feedForwardWidth: reader.integer('intermediate_size', 3072),
    layers: reader.integer('num_hidden_layers', 12),
    heads,
    projection: reader.integer('projection_dim', 512),
    act: reader.choice('hidden_act', ['quick_gelu', 'gelu'], 'quick_gelu'),
    normEps: reader.number('layer_norm_eps', 1e-5),
  }
}

/**
 * CLIP's vision transformer with its projection. Input: `pixel_values` f32 [1, size, size, channels], normalised.
 * Output: `image_embeds` f32 [1, projection].
 */
export function clipVision(
  config: ClipVisionConfig,
  options: { dtypes?: WeightDTypes } = {},
): Program {
  return program('image_encoder', trace => {
    const root = new Layers(trace, 'image_encoder', options.dtypes)
    const model = root.at('vision_model')
    const { imageSize, patchSize, imageChannels, width, normEps: eps } = config
    const pixels = trace.input('pixel_values', [1, imageSize, imageSize, imageChannels])

    const embeddings = model.at('embeddings')
    const patches = embeddings.conv('patch_embedding', pixels, width, {
      kernel: patchSize,
      stride: patchSize,
      bias: false,
    })
    const count = patches.shape[1]! * patches.shape[2]!
    const first = embeddings.weight('class_embedding', [width])
    const positions = embeddings.weight('position_embedding.weight', [count + 1, width])
    const embedded = embeddings.ops(() => prependToken(first, patches, positions))

    // The key is misspelt in every checkpoint.
    let hidden = model.layerNorm('pre_layrnorm', embedded, { eps })
    for (let i = 0; i < config.layers; i++)
      hidden = clipLayer(model.at(`encoder.layers.${i}`), hidden, { ...config, causal: false })
    const pooled = model.ops(() => tokens(hidden, 0, 1))
    const normed = model.layerNorm('post_layernorm', pooled, { eps })
    return {
      image_embeds: root.linear('visual_projection', normed, config.projection, { bias: false }),
    }
  })
}
