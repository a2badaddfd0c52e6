import { OptionError } from '../errors.js'
import { type Activation, embedding, type Program, program, type Tensor } from '../program/index.js'
import { clipLayer } from './clip-layer.js'
import { type ConfigJson, ConfigReader } from './config.js'
import { Layers, type WeightDTypes } from './layers.js'

export interface ClipTextConfig {
  readonly vocabulary: number
  readonly width: number
  readonly feedForwardWidth: number
  readonly layers: number
  readonly heads: number
  readonly maxTokens: number
  readonly act: Activation
  readonly normEps: number
  readonly eosTokenId: number
}

/** Reads `text_encoder/config.json` of a CLIPTextModel. @throws CheckpointError for what is not supported. */
export function clipTextConfig(
  json: ConfigJson,
  file = 'text_encoder/config.json',
): ClipTextConfig {
  const reader = new ConfigReader(json, file)
  reader.choice('model_type', ['clip_text_model', 'clip'], 'clip_text_model')
  const width = reader.integer('hidden_size', 512)
  const heads = reader.integer('num_attention_heads', 8)
  if (width % heads !== 0) reader.refuse('num_attention_heads', `a divisor of hidden_size ${width}`)
  return {
    vocabulary: reader.integer('vocab_size', 49408),
    width,
    feedForwardWidth: reader.integer('intermediate_size', 2048),
    layers: reader.integer('num_hidden_layers', 12),
    heads,
    maxTokens: reader.integer('max_position_embeddings', 77),
    act: reader.choice('hidden_act', ['quick_gelu', 'gelu'], 'quick_gelu'),
    normEps: reader.number('layer_norm_eps', 1e-5),
    eosTokenId: reader.integer('eos_token_id', 49407, 0),
  }
}

export type ClipTextOutput = 'last_hidden_state' | 'penultimate' | 'pooled'

export interface ClipTextOptions {
  tokens: number
  /** What is computed; nothing is spent on the others. Default: last_hidden_state. */
  outputs?: readonly ClipTextOutput[]
  /** What stands before the keys: `text_model.` in older checkpoints. */
  prefix?: '' | 'text_model.'
  dtypes?: WeightDTypes
}

/**
 * CLIP's text transformer. Inputs: `input_ids` i32 [tokens]; for `pooled` also `last_token` i32 [1] (see pooledIndex).
 * Outputs, f32: `last_hidden_state` [tokens, width] after the final norm, `penultimate` [tokens, width] before the last layer,
 * `pooled` [1, width], the row of last_hidden_state at `last_token`.
 * @throws OptionError for more tokens than the model has positions for.
 */
export function clipText(config: ClipTextConfig, options: ClipTextOptions): Program {
  const { tokens, outputs = ['last_hidden_state'], prefix = '' } = options
  if (!Number.isSafeInteger(tokens) || tokens < 1 || tokens > config.maxTokens) {
    throw new OptionError(
      `tokens: expected 1 to ${config.maxTokens}, got ${tokens}; shorten the prompt`,
    )
  }
  return program('text_encoder', trace => {
    const root = new Layers(trace, 'text_encoder', options.dtypes)
    const model = prefix ? root.at(prefix.slice(0, -1)) : root
    const { width, vocabulary, maxTokens, normEps: eps } = config
    const ids = trace.input('input_ids', [tokens], 'i32')
    const table = model.weight('embeddings.token_embedding.weight', [vocabulary, width])
    const positions = model.weight('embeddings.position_embedding.weight', [maxTokens, width])

    const states = [model.at('embeddings').ops(() => embedding(ids, table, { positions }))]
    const wanted = outputs.some(name => name !== 'penultimate') ? config.layers : config.layers - 1
    for (let i = 0; i < wanted; i++)
      states.push(
        clipLayer(model.at(`encoder.layers.${i}`), states[i]!, { ...config, causal: true }),
      )

    const found: Record<string, Tensor> = {}
    if (outputs.includes('penultimate')) found.penultimate = states[config.layers - 1]!
    if (wanted === config.layers) {
      const last = model.layerNorm('final_layer_norm', states[config.layers]!, { eps })
      if (outputs.includes('last_hidden_state')) found.last_hidden_state = last
      if (outputs.includes('pooled')) {
        const row = trace.input('last_token', [1], 'i32')
        found.pooled = model.at('pooled').ops(() => embedding(row, last))
      }
    }
    return found
  })
}

/**
 * The token whose state stands for the whole text: the first end token; for configs that carry the wrong end token 2 (as public
 * Stable Diffusion checkpoints do), the largest id. As transformers; the first token where there is none.
 */
export function pooledIndex(
  ids: ArrayLike<number>,
  config: Pick<ClipTextConfig, 'eosTokenId'>,
): number {
  const list = Array.from(ids)
  const index =
    config.eosTokenId === 2 ? list.indexOf(Math.max(...list)) : list.indexOf(config.eosTokenId)
  return Math.max(0, index)
}
