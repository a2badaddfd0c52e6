import { OptionError } from '../errors.js'
import {
  type Program,
  program,
  type Source,
  type Tensor,
  timestepEmbedding,
} from '../program/index.js'
import { Layers, type WeightDTypes } from './layers.js'
import { motionModule } from './motion-module.js'
import { resnetBlock } from './resnet.js'
import { spatialTransformer } from './transformer.js'
import { downBlock, midBlock, upBlock } from './unet-blocks.js'
import type { TransformerConfig, UNetMotionConfig } from './unet-config.js'

export interface UNetMotionSize {
  frames: number
  /** Of the latents. */
  rows: number
  cols: number
  /** Of the text. */
  tokens: number
}

/**
 * AnimateDiff's denoising network (diffusers' UNetMotionModel) for one element of the batch.
 * Inputs: `sample` f32 [frames, rows, cols, in_channels], `timestep` f32 [1], `encoder_hidden_states` f32 [tokens, dim], the same
 * for every frame. Output: `sample` f32 [frames, rows, cols, out_channels].
 * @throws OptionError for more frames than the motion modules have positions for.
 */
export function unetMotion(
  config: UNetMotionConfig,
  size: UNetMotionSize,
  options: { dtypes?: WeightDTypes } = {},
): Program {
  checkSize(config, size)
  return program('unet', trace => {
    const unet = new Layers(trace, 'unet', options.dtypes)
    const motion = new Layers(trace, config.motionComponent, options.dtypes)
    const sample = trace.input('sample', [size.frames, size.rows, size.cols, config.inChannels])
    const timestep = trace.input('timestep', [1])
    const context = trace.input('encoder_hidden_states', [size.tokens, config.crossAttentionDim])
    const time = timeVector(unet, timestep, config)

    const { act, normGroups: groups, normEps: eps } = config
    const resnet = (block: Layers, source: Source, index: number, channels: number) =>
      resnetBlock(block.at(`resnets.${index}`), source, { channels, groups, eps, act, time })
    const attend = (block: Layers, source: Tensor, index: number, transformer: TransformerConfig) =>
      spatialTransformer(block.at(`attentions.${index}`), source, context, {
        heads: transformer.heads,
        depth: transformer.depths[index]!,
        groups,
        linearProjection: config.linearProjection,
      })
    const move = (path: string, source: Tensor, index: number, transformer: TransformerConfig) =>
      motionModule(motion.at(path).at(`motion_modules.${index}`), source, {
        heads: transformer.heads,
        depth: transformer.depths[index]!,
        groups,
        maxFrames: config.maxFrames,
      })

    let hidden = unet.conv('conv_in', sample, config.down[0]!.channels)
    const skips = [hidden]
    const layer =
      (path: string, block: UNetMotionConfig['down'][number]) => (source: Source, i: number) => {
        const residual = resnet(unet.at(path), source, i, block.channels)
        const attended = block.attention
          ? attend(unet.at(path), residual, i, block.attention)
          : residual
        return move(path, attended, i, block.motion)
      }
    for (const [i, block] of config.down.entries()) {
      const path = `down_blocks.${i}`
      const downsamplePadding = block.resample ? config.downsamplePadding : undefined
      hidden = downBlock(
        unet.at(path),
        hidden,
        skips,
        { count: block.layers, downsamplePadding },
        layer(path, block),
      )
    }
    if (config.mid) {
      const { channels, layers, attention, motion: modules } = config.mid
      const block = unet.at('mid_block')
      hidden = midBlock(
        hidden,
        layers,
        (source, i) => resnet(block, source, i, channels),
        (source, i) => {
          const attended = attend(block, source, i, attention)
          return modules ? move('mid_block', attended, i, modules) : attended
        },
      )
    }
    for (const [i, block] of config.up.entries()) {
      const path = `up_blocks.${i}`
      hidden = upBlock(
        unet.at(path),
        hidden,
        skips,
        { count: block.layers, upsample: block.resample },
        layer(path, block),
      )
    }
    // The last activation is SiLU whatever act_fn says, as in diffusers.
    const normed = unet.groupNorm('conv_norm_out', hidden, { groups, eps, act: 'silu' })
    return { sample: unet.conv('conv_out', normed, config.outChannels) }
  })
}

/** The time embedding, activated once: every residual block reads it through the same activation. f32 [1, dim] */
function timeVector(unet: Layers, timestep: Tensor, config: UNetMotionConfig): Tensor {
  const { act, timeEmbedDim, flipSinToCos, freqShift } = config
  const layers = unet.at('time_embedding')
  const waves = layers.ops(() =>
    timestepEmbedding(timestep, { dim: config.down[0]!.channels, flipSinToCos, freqShift }),
  )
  return layers.linear(
    'linear_2',
    layers.linear('linear_1', waves, timeEmbedDim, { act }),
    timeEmbedDim,
    { act },
  )
}

function checkSize(config: UNetMotionConfig, size: UNetMotionSize): void {
  for (const [name, value] of Object.entries(size)) {
    if (!Number.isSafeInteger(value) || value < 1)
      throw new OptionError(`${name}: expected a positive integer, got ${value}`)
  }
  if (size.frames > config.maxFrames) {
    throw new OptionError(
      `frames: expected at most ${config.maxFrames}, for which the motion modules have positions, got ${size.frames}; ask for fewer frames`,
    )
  }
}
