import { CheckpointError } from '../errors.js'
import type { Activation } from '../program/index.js'
import { type ConfigJson, ConfigReader } from './config.js'

/** Transformers of a block: heads, and the number of transformer blocks behind each of its layers. */
export interface TransformerConfig {
  readonly heads: number
  readonly depths: readonly number[]
}

export interface UNetBlockConfig {
  readonly channels: number
  /** Residual blocks. */
  readonly layers: number
  /** Spatial transformers with cross-attention; undefined: none. */
  readonly attention?: TransformerConfig
  readonly motion: TransformerConfig
  /** Ends with a down- or upsampling. */
  readonly resample: boolean
}

/** The middle of the network; `layers` counts its attentions. */
export type UNetMidConfig = Omit<UNetBlockConfig, 'motion' | 'resample' | 'attention'> & {
  readonly attention: TransformerConfig
  readonly motion?: TransformerConfig
}

export interface UNetMotionConfig {
  readonly inChannels: number
  readonly outChannels: number
  readonly down: readonly UNetBlockConfig[]
  readonly mid?: UNetMidConfig
  readonly up: readonly UNetBlockConfig[]
  readonly crossAttentionDim: number
  readonly linearProjection: boolean
  readonly act: Activation
  readonly normGroups: number
  readonly normEps: number
  readonly downsamplePadding: number
  readonly timeEmbedDim: number
  readonly flipSinToCos: boolean
  readonly freqShift: number
  /** Most frames. */
  readonly maxFrames: number
  /** Component that holds the weights of the motion modules. */
  readonly motionComponent: 'unet' | 'motion_adapter'
}

/** Keys that change the network, with the one value under which it is the network here. */
const onlySupported = {
  addition_embed_type: null,
  attention_type: 'default',
  center_input_sample: false,
  class_embed_type: null,
  class_embeddings_concat: false,
  conv_in_kernel: 3,
  conv_out_kernel: 3,
  cross_attention_norm: null,
  dual_cross_attention: false,
  encoder_hid_dim: null,
  encoder_hid_dim_type: null,
  mid_block_only_cross_attention: false,
  mid_block_scale_factor: 1,
  num_class_embeds: null,
  only_cross_attention: false,
  resnet_out_scale_factor: 1,
  resnet_skip_time_act: false,
  resnet_time_scale_shift: 'default',
  reverse_motion_num_attention_heads: null,
  time_cond_proj_dim: null,
  time_embedding_act_fn: null,
  time_embedding_type: 'positional',
  timestep_post_act: null,
}

const downTypes = [
  'CrossAttnDownBlock2D',
  'DownBlock2D',
  'CrossAttnDownBlockMotion',
  'DownBlockMotion',
] as const
const upTypes = [
  'UpBlock2D',
  'CrossAttnUpBlock2D',
  'UpBlockMotion',
  'CrossAttnUpBlockMotion',
] as const
const defaultDown = [downTypes[0], downTypes[0], downTypes[0], downTypes[1]]
const defaultUp = [upTypes[0], upTypes[1], upTypes[1], upTypes[1]]
const midTypes = ['UNetMidBlock2DCrossAttn', 'UNetMidBlockCrossAttnMotion'] as const

/**
 * Reads `unet/config.json` of a UNetMotionModel, or of a UNet2DConditionModel beside the `motion_adapter/config.json`.
 * @throws CheckpointError for what is not supported, or for an adapter that does not fit.
 */
export function unetMotionConfig(unet: ConfigJson, adapter?: ConfigJson): UNetMotionConfig {
  const reader = new ConfigReader(unet, 'unet/config.json')
  const kind = reader.choice(
    '_class_name',
    ['UNet2DConditionModel', 'UNetMotionModel'],
    'UNet2DConditionModel',
  )
  if (kind === 'UNet2DConditionModel' && !adapter) {
    const file = 'motion_adapter/config.json'
    throw new CheckpointError(
      `${file}: expected a motion adapter beside a UNet2DConditionModel, got none; give one`,
      file,
    )
  }
  reader.only(onlySupported)
  const widths = reader.integers('block_out_channels', [320, 640, 1280, 1280])
  const count = widths.length
  const motion =
    kind === 'UNetMotionModel' ? ownMotion(reader, count) : adapterMotion(adapter!, widths)
  const layers = reader.integers('layers_per_block', 2, count)
  if (motion.layers) checkLayers(motion.layers, layers)

  const heads = headCounts(reader, count)
  const depths = depthsPerBlock(reader, 'transformer_layers_per_block', layers)
  const upLayers = layers.map(n => n + 1).reverse()
  const upDepths = depthsUp(reader, 'transformer_layers_per_block', upLayers)
  const downBlocks = reader.strings('down_block_types', downTypes, defaultDown)
  const upBlocks = reader.strings('up_block_types', upTypes, defaultUp)
  if (downBlocks.length !== count)
    reader.refuse('down_block_types', `${count} types, one for each of block_out_channels`)
  if (upBlocks.length !== count)
    reader.refuse('up_block_types', `${count} types, one for each of block_out_channels`)

  const block = (
    i: number,
    crossed: boolean,
    n: number,
    depth: readonly number[],
    motionDepth: readonly number[],
    last: boolean,
  ) => ({
    channels: widths[i]!,
    layers: n,
    ...(crossed && { attention: { heads: heads[i]!, depths: depth } }),
    motion: { heads: motion.heads[i]!, depths: motionDepth },
    resample: !last,
  })
  const down = downBlocks.map((type, i) =>
    block(
      i,
      type.startsWith('CrossAttn'),
      layers[i]!,
      depths[i]!,
      motion.depths(layers)[i]!,
      i === count - 1,
    ),
  )
  const up = upBlocks.map((type, i) =>
    block(
      count - 1 - i,
      type.startsWith('CrossAttn'),
      upLayers[i]!,
      upDepths[i]!,
      motion.depthsUp(upLayers)[i]!,
      i === count - 1,
    ),
  )

  const normGroups = reader.integer('norm_num_groups', 32)
  if (widths.some(width => width % normGroups !== 0))
    reader.refuse('norm_num_groups', `a divisor of ${widths.join(', ')}`)
  return {
    inChannels: reader.integer('in_channels', 4),
    outChannels: reader.integer('out_channels', 4),
    down,
    mid: midConfig(reader, kind, widths[count - 1]!, heads[count - 1]!, motion),
    up,
    crossAttentionDim: crossAttentionDim(reader, count),
    linearProjection: reader.flag('use_linear_projection', false),
    act: activationOf(reader),
    normGroups,
    normEps: reader.number('norm_eps', 1e-5),
    downsamplePadding: reader.integer('downsample_padding', 1, 0),
    timeEmbedDim: reader.integer('time_embedding_dim', 4 * widths[0]!),
    flipSinToCos: reader.flag('flip_sin_to_cos', true),
    freqShift: reader.number('freq_shift', 0),
    maxFrames: motion.maxFrames,
    motionComponent: kind === 'UNetMotionModel' ? 'unet' : 'motion_adapter',
  }
}

interface MotionSource {
  heads: number[]
  maxFrames: number
  /** Layers for each block, where the adapter states its own. */
  layers?: number[]
  /** Transformer blocks of each layer of each block, on the way down and up. */
  depths(layers: readonly number[]): number[][]
  depthsUp(layers: readonly number[]): number[][]
  mid: boolean
  midDepth(layers: number): number[]
}

function ownMotion(reader: ConfigReader, count: number): MotionSource {
  return {
    heads: reader.integers('motion_num_attention_heads', 8, count),
    maxFrames: reader.integer('motion_max_seq_length', 32),
    depths: layers => depthsPerBlock(reader, 'temporal_transformer_layers_per_block', layers),
    depthsUp: layers => depthsUp(reader, 'temporal_transformer_layers_per_block', layers),
    mid: reader.flag('use_motion_mid_block', true),
    midDepth: layers => reader.integers('temporal_transformer_layers_per_mid_block', 1, layers),
  }
}

/** The groups of its norms are not read: diffusers runs a motion module with `norm_num_groups` of the UNet that it joins. */
function adapterMotion(json: ConfigJson, widths: readonly number[]): MotionSource {
  const reader = new ConfigReader(json, 'motion_adapter/config.json')
  reader.only({
    _class_name: 'MotionAdapter',
    conv_in_channels: null,
    motion_mid_block_layers_per_block: 1,
  })
  const own = reader.integers('block_out_channels', [320, 640, 1280, 1280])
  if (own.join() !== widths.join())
    reader.refuse('block_out_channels', `${JSON.stringify(widths)} as in unet/config.json`)
  return {
    heads: reader.integers('motion_num_attention_heads', 8, widths.length),
    maxFrames: reader.integer('motion_max_seq_length', 32),
    layers: reader.integers('motion_layers_per_block', 2, widths.length),
    depths: layers => depthsPerBlock(reader, 'motion_transformer_layers_per_block', layers),
    depthsUp: layers => depthsUp(reader, 'motion_transformer_layers_per_block', layers),
    mid: reader.flag('use_motion_mid_block', true),
    midDepth: layers => reader.integers('motion_transformer_layers_per_mid_block', 1, layers),
  }
}

function checkLayers(motion: readonly number[], layers: readonly number[]): void {
  if (motion.join() === layers.join()) return
  const file = 'motion_adapter/config.json'
  throw new CheckpointError(
    `${file}: motion_layers_per_block: expected ${layers.join(', ')} as layers_per_block of unet/config.json, got ${motion.join(', ')}; ` +
      'use the adapter that belongs to this UNet',
    file,
  )
}

/** In UNet configs `attention_head_dim` counts heads (diffusers' historical name); `num_attention_heads` has precedence. */
function headCounts(reader: ConfigReader, count: number): number[] {
  const key =
    reader.raw('num_attention_heads') === undefined ? 'attention_head_dim' : 'num_attention_heads'
  return reader.integers(key, 8, count)
}

/** A number for all layers, one for each block, or a list for each block with one for each of its layers. */
function depthsPerBlock(reader: ConfigReader, key: string, layers: readonly number[]): number[][] {
  const value = reader.raw(key) ?? 1
  const perBlock = Array.isArray(value) ? value : layers.map(() => value)
  const depths = layers.map((count, i) =>
    Array.isArray(perBlock[i]) ? perBlock[i] : new Array(count).fill(perBlock[i]),
  )
  const fits = depths.every(
    (list, i) =>
      list.length === layers[i] &&
      list.every((n: unknown) => Number.isSafeInteger(n) && (n as number) > 0),
  )
  if (perBlock.length !== layers.length || !fits) {
    reader.refuse(
      key,
      `a positive integer, ${layers.length} of them, or lists of ${layers.join(', ')}`,
    )
  }
  return depths
}

/** Depths on the way up: the reversed list, or the key `reverse_…` where the blocks are lists of their own. */
function depthsUp(reader: ConfigReader, key: string, layers: readonly number[]): number[][] {
  const reversed = `reverse_${key}`
  if (reader.raw(reversed) !== undefined) return depthsPerBlock(reader, reversed, layers)
  const value = reader.raw(key)
  if (Array.isArray(value) && value.some(Array.isArray))
    reader.refuse(reversed, `lists of ${layers.join(', ')}, as ${key} has lists`)
  return depthsPerBlock(reader, key, [...layers].reverse()).reverse()
}

function midConfig(
  reader: ConfigReader,
  kind: string,
  channels: number,
  heads: number,
  motion: MotionSource,
): UNetMidConfig | undefined {
  // Only a key that is there and null removes the block.
  if (reader.has('mid_block_type') && reader.raw('mid_block_type') === undefined) {
    if (motion.mid)
      reader.refuse('mid_block_type', 'a type, as the motion modules have a mid block')
    return undefined
  }
  reader.choice('mid_block_type', midTypes, midTypes[0])
  const layers = kind === 'UNetMotionModel' ? reader.integer('mid_block_layers', 1) : 1
  const value = reader.raw('transformer_layers_per_block') ?? 1
  const last = Array.isArray(value) ? value[value.length - 1] : value
  const depths = reader.integers(
    'transformer_layers_per_mid_block',
    Array.isArray(last) ? 1 : (last as number),
    layers,
  )
  return {
    channels,
    layers,
    attention: { heads, depths },
    ...(motion.mid && {
      motion: { heads: motion.heads[motion.heads.length - 1]!, depths: motion.midDepth(layers) },
    }),
  }
}

/** Text has one width, so a list must repeat it. */
function crossAttentionDim(reader: ConfigReader, count: number): number {
  const dims = reader.integers('cross_attention_dim', 1280, count)
  if (dims.some(dim => dim !== dims[0]))
    reader.refuse('cross_attention_dim', 'one width for all blocks')
  return dims[0]!
}

export function activationOf(reader: ConfigReader): Activation {
  const name = reader.choice('act_fn', ['silu', 'swish', 'gelu'], 'silu')
  return name === 'gelu' ? 'gelu' : 'silu'
}
