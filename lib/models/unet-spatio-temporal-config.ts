import { type ConfigJson, ConfigReader } from './config.js'

export interface SpatioTemporalBlockConfig {
  readonly channels: number
  /** Residual blocks. */
  readonly layers: number
  readonly normEps: number
  /** Transformers behind the residual blocks; undefined: none. */
  readonly attention?: { readonly heads: number; readonly depth: number }
  /** Ends with a down- or upsampling. */
  readonly resample: boolean
}

export interface UNetSpatioTemporalConfig {
  readonly inChannels: number
  readonly outChannels: number
  readonly down: readonly SpatioTemporalBlockConfig[]
  readonly mid: {
    readonly channels: number
    readonly attention: { readonly heads: number; readonly depth: number }
  }
  readonly up: readonly SpatioTemporalBlockConfig[]
  readonly crossAttentionDim: number
  /** How many numbers condition the video (frame rate, motion, noise), and the width of each one's waves. */
  readonly addedTimeIds: number
  readonly addedTimeDim: number
  /** Frames that the checkpoint was trained on. */
  readonly frames: number
}

/** Fixed in diffusers, whatever the config says. */
export const spatioTemporalGroups = 32
/** Of norms outside of the blocks and in the middle of the network. */
export const spatioTemporalEps = 1e-5

const downTypes = ['CrossAttnDownBlockSpatioTemporal', 'DownBlockSpatioTemporal'] as const
const upTypes = ['UpBlockSpatioTemporal', 'CrossAttnUpBlockSpatioTemporal'] as const
const defaultDown = [downTypes[0], downTypes[0], downTypes[0], downTypes[1]]
const defaultUp = [upTypes[0], upTypes[1], upTypes[1], upTypes[1]]

/** Each block's norms: diffusers gives only the plain down block another eps. */
const blockEps = (type: string): number => (type === 'DownBlockSpatioTemporal' ? 1e-5 : 1e-6)

/** Reads `unet/config.json` of a UNetSpatioTemporalConditionModel. @throws CheckpointError for what is not supported. */
export function unetSpatioTemporalConfig(
  json: ConfigJson,
  file = 'unet/config.json',
): UNetSpatioTemporalConfig {
  const reader = new ConfigReader(json, file)
  reader.only({ _class_name: 'UNetSpatioTemporalConditionModel' })
  const widths = reader.integers('block_out_channels', [320, 640, 1280, 1280])
  const count = widths.length
  if (widths.some(width => width % spatioTemporalGroups !== 0))
    reader.refuse('block_out_channels', `multiples of ${spatioTemporalGroups}`)
  const heads = reader.integers('num_attention_heads', [5, 10, 20, 20], count)
  if (widths.some((width, i) => width % heads[i]! !== 0))
    reader.refuse('num_attention_heads', `divisors of ${widths.join(', ')}`)
  const layers = reader.integers('layers_per_block', 2, count)
  const depths = reader.integers('transformer_layers_per_block', 1, count)
  const downBlocks = reader.strings('down_block_types', downTypes, defaultDown)
  const upBlocks = reader.strings('up_block_types', upTypes, defaultUp)
  for (const [key, types] of Object.entries({
    down_block_types: downBlocks,
    up_block_types: upBlocks,
  }))
    if (types.length !== count)
      reader.refuse(key, `${count} types, one for each of block_out_channels`)

  const block = (type: string, level: number, extra: number, last: boolean) => ({
    channels: widths[level]!,
    layers: layers[level]! + extra,
    normEps: blockEps(type),
    ...(type.startsWith('CrossAttn') && {
      attention: { heads: heads[level]!, depth: depths[level]! },
    }),
    resample: !last,
  })
  const addedTimeDim = reader.integer('addition_time_embed_dim', 256, 4)
  const addedWidth = reader.integer('projection_class_embeddings_input_dim', 768)
  if (addedTimeDim % 2 !== 0) reader.refuse('addition_time_embed_dim', 'an even number')
  if (addedWidth % addedTimeDim !== 0)
    reader.refuse(
      'projection_class_embeddings_input_dim',
      `a multiple of addition_time_embed_dim ${addedTimeDim}`,
    )
  return {
    inChannels: reader.integer('in_channels', 8),
    outChannels: reader.integer('out_channels', 4),
    down: downBlocks.map((type, i) => block(type, i, 0, i === count - 1)),
    mid: {
      channels: widths[count - 1]!,
      attention: { heads: heads[count - 1]!, depth: depths[count - 1]! },
    },
    up: upBlocks.map((type, i) => block(type, count - 1 - i, 1, i === count - 1)),
    crossAttentionDim: crossAttentionDim(reader, count),
    addedTimeIds: addedWidth / addedTimeDim,
    addedTimeDim,
    frames: reader.integer('num_frames', 25),
  }
}

/** Images have one embedding, so a list must repeat its width. */
function crossAttentionDim(reader: ConfigReader, count: number): number {
  const dims = reader.integers('cross_attention_dim', 1024, count)
  if (dims.some(dim => dim !== dims[0]))
    reader.refuse('cross_attention_dim', 'one width for all blocks')
  return dims[0]!
}
