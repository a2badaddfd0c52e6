import { ProgramError } from '../errors.js'
import { type Activation, add, type Source, type Tensor } from '../program/index.js'
import { channelsOf, type Layers } from './layers.js'

export interface ResnetOptions {
  channels: number
  groups: number
  eps: number
  act: Activation
  /** `time`: convolutions along the frames, norms over the whole video. Default: `space`. */
  over?: 'space' | 'time'
  /** The time vector, already activated, f32 [1, dim]. */
  time?: Tensor
}

/**
 * A residual block: norm, act, convolution, time vector, norm, act, convolution, plus its input (through a 1x1 where the widths differ).
 * @param source f32 [frames, rows, cols, channels], or a feature and a skip
 */
export function resnetBlock(layers: Layers, source: Source, options: ResnetOptions): Tensor {
  const { channels, eps, act, time, over: axis = 'space' } = options
  const norm = {
    groups: options.groups,
    eps,
    act,
    over: axis === 'time' ? 'video' : 'frame',
  } as const
  const conv = (name: string, tensor: Tensor) =>
    axis === 'time' ? layers.convTime(name, tensor, channels) : layers.conv(name, tensor, channels)
  const first = conv('conv1', layers.groupNorm('norm1', source, norm))
  const vector = time && layers.linear('time_emb_proj', time, channels)
  const timed = vector ? layers.ops(() => add(first, vector)) : first
  const second = conv('conv2', layers.groupNorm('norm2', timed, norm))
  const shortcut =
    channelsOf(source) === channels
      ? alone(source)
      : layers.conv('conv_shortcut', source, channels, { kernel: 1 })
  return layers.ops(() => add(second, shortcut))
}

/** Checkpoints have no shortcut weights where the widths are equal, and two tensors are never stored as one. */
function alone(source: Source): Tensor {
  if (!Array.isArray(source)) return source as Tensor
  const [feature, skip] = source as readonly [Tensor, Tensor]
  const widths = `${channelsOf(feature)} + ${channelsOf(skip)}`
  throw new ProgramError(
    `${feature.name}: expected a feature and a skip of more channels than the residual block's output, got ${widths}; ` +
      'use a checkpoint whose block_out_channels do not shrink with depth',
    feature.name,
  )
}

/** Halves rows and columns with a strided 3x3. Padding 0 means, as in diffusers, one zero row below and one zero column right. */
export function downsample(layers: Layers, source: Tensor, padding: number): Tensor {
  return layers.conv('conv', source, channelsOf(source), {
    stride: 2,
    padding: padding === 0 ? [0, 0, 1, 1] : padding,
  })
}

/** Nearest upsampling to [rows, cols], read through by a 3x3. */
export function upsample(layers: Layers, source: Tensor, size: readonly [number, number]): Tensor {
  return layers.conv('conv', source, channelsOf(source), { upsampleTo: size })
}
