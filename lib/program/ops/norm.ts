import { operand, operands, traceOp } from '../graph.js'
import { defineOp, ruleError } from '../op.js'
import { regionVolume } from '../region.js'
import { elementCount, type Tensor } from '../tensor.js'
import {
  type Activation,
  channelsOf,
  checkActivation,
  checkAffine,
  checkSources,
  checkVector,
  optional,
  perFrame,
  rowsOf,
  type Source,
  sourceOperands,
  whole,
} from './shared.js'

export interface GroupNormOptions {
  groups: number
  eps?: number
  /** Statistics of each frame apart (2-D networks), or of all frames together (temporal layers). */
  over?: 'frame' | 'video'
  act?: Activation
}

/**
 * Group normalisation with affine weights, then an optional activation. The planner splits it in statistics and application.
 * @param source f32 [frames, rows, cols, channels], or two read as one channel range (the result then is one tensor)
 */
export function groupNorm(
  source: Source,
  gamma: Tensor,
  beta: Tensor,
  options: GroupNormOptions,
): Tensor {
  return traceOp(
    'group_norm',
    [...sourceOperands(source), { role: 'gamma', tensor: gamma }, { role: 'beta', tensor: beta }],
    {
      groups: options.groups,
      eps: options.eps ?? 1e-5,
      over: options.over ?? 'frame',
      act: options.act,
    },
  )
}

/**
 * Layer normalisation over channels.
 * @param options.positions a table [.., length, channels] added afterwards: row f to frame f (sinusoidal positions of temporal attention)
 */
export function layerNorm(
  source: Tensor,
  gamma: Tensor,
  beta: Tensor,
  options: { eps?: number; positions?: Tensor } = {},
): Tensor {
  return traceOp(
    'layer_norm',
    [
      ...sourceOperands(source),
      { role: 'gamma', tensor: gamma },
      { role: 'beta', tensor: beta },
      ...optional('positions', options.positions),
    ],
    { eps: options.eps ?? 1e-5 },
  )
}

/**
 * Mean and sum of squared deviations of each row of each frame, over blocks of channels.
 * @param source f32 [frames, rows, cols, channels]
 * @returns f32 [frames, rows, channels / block, 2]
 */
export function moments(source: Tensor, block: number): Tensor {
  return traceOp('norm_partials', sourceOperands(source), { block }, 'moments')
}

defineOp({
  name: 'group_norm',
  infer(call) {
    const { lead, channels } = checkSources(call, 4)
    const groups = call.attrs.groups as number
    if (!Number.isInteger(groups) || groups < 1 || channels % groups !== 0) {
      throw ruleError(call, `groups that divide ${channels} channels`, `${groups}`)
    }
    if (call.attrs.over !== 'frame' && call.attrs.over !== 'video')
      throw ruleError(call, 'over frame or video', `${call.attrs.over}`)
    checkVector(call, 'gamma', channels)
    checkVector(call, 'beta', channels)
    checkActivation(call)
    return { shape: [...lead, channels], dtype: 'f32' }
  },
  regions(call, _output, wanted) {
    // Statistics need whole frames, or the whole tensor.
    const frames = call.attrs.over === 'frame' ? wanted[0]! : undefined
    return call.inputs.map(({ role, tensor }) =>
      role === 'source' && frames
        ? whole(tensor).map((range, axis) => (axis === 0 ? frames : range))
        : whole(tensor),
    )
  },
  cost(_call, output) {
    const elements = elementCount(output.shape)
    return { flops: 8 * elements, bytes: 12 * elements }
  },
  inPlace: ['source'],
})

defineOp({
  name: 'norm_partials',
  infer(call) {
    const { lead, channels } = checkSources(call, 4)
    const block = call.attrs.block as number
    if (!Number.isInteger(block) || block < 1 || channels % block !== 0)
      throw ruleError(call, `a block that divides ${channels} channels`, `${block}`)
    return { shape: [lead[0]!, lead[1]!, channels / block, 2], dtype: 'f32' }
  },
  regions(call, _output, [frames, rows, blocks]) {
    const source = operand(call, 'source')!
    const block = call.attrs.block as number
    return [[frames!, rows!, [0, source.shape[2]!], [blocks![0] * block, blocks![1] * block]]]
  },
  cost(call, _output, wanted) {
    const source = operand(call, 'source')!
    const elements = (regionVolume(wanted) / 2) * source.shape[2]! * (call.attrs.block as number)
    return { flops: 4 * elements, bytes: 4 * elements }
  },
})

defineOp({
  name: 'norm_fold',
  infer(call) {
    const partials = operands(call, 'partials')
    const blocks = call.attrs.blocks as readonly number[]
    const channels = partials.reduce((sum, tensor, i) => sum + tensor.shape[2]! * blocks[i]!, 0)
    const groups = call.attrs.groups as number
    const size = channels / groups
    if (!partials.length || !Number.isInteger(size) || blocks.some(block => size % block !== 0)) {
      throw ruleError(call, `blocks that divide groups of ${size} channels`, `${blocks}`)
    }
    checkVector(call, 'gamma', channels)
    checkVector(call, 'beta', channels)
    return {
      shape: [call.attrs.over === 'frame' ? partials[0]!.shape[0]! : 1, 2, channels],
      dtype: 'f32',
    }
  },
  regions(call, _output, wanted) {
    const frames = call.attrs.over === 'frame' ? wanted[0]! : undefined
    return call.inputs.map(({ role, tensor }) =>
      role === 'partials' && frames
        ? whole(tensor).map((range, axis) => (axis === 0 ? frames : range))
        : whole(tensor),
    )
  },
  cost(call, output, wanted) {
    const partials = operands(call, 'partials').reduce(
      (sum, tensor) => sum + elementCount(tensor.shape),
      0,
    )
    const share = regionVolume(wanted) / elementCount(output.shape)
    return { flops: 4 * partials * share, bytes: 4 * partials * share }
  },
})

defineOp({
  name: 'affine',
  infer(call) {
    const { lead, channels } = checkSources(call, 4)
    if (!operand(call, 'affine')) throw ruleError(call, 'an affine operand', undefined)
    checkAffine(call, lead, channels)
    checkActivation(call)
    return { shape: [...lead, channels], dtype: 'f32' }
  },
  regions(call, _output, wanted) {
    return call.inputs.map(({ role, tensor }) =>
      role === 'source' ? rowsOf(tensor, wanted) : perFrame(tensor, wanted[0]!),
    )
  },
  cost(_call, _output, wanted) {
    const elements = regionVolume(wanted)
    return { flops: 10 * elements, bytes: 8 * elements }
  },
  inPlace: ['source'],
})

defineOp({
  name: 'layer_norm',
  infer(call) {
    const { lead, channels } = checkSources(call)
    checkVector(call, 'gamma', channels)
    checkVector(call, 'beta', channels)
    const positions = operand(call, 'positions')
    if (positions) {
      const length = positions.shape[positions.shape.length - 2]!
      const fits =
        channelsOf(positions) === channels && elementCount(positions.shape) === length * channels
      if (!fits || length < lead[0]!)
        throw ruleError(call, `positions for ${lead[0]} frames of ${channels} channels`, positions)
    }
    return { shape: [...lead, channels], dtype: 'f32' }
  },
  regions(call, _output, wanted) {
    return call.inputs.map(({ role, tensor }) => {
      if (role === 'source') return rowsOf(tensor, wanted)
      return role === 'positions'
        ? whole(tensor).map((range, axis) =>
            axis === tensor.shape.length - 2 ? wanted[0]! : range,
          )
        : whole(tensor)
    })
  },
  cost(_call, _output, wanted) {
    const elements = regionVolume(wanted)
    return { flops: 8 * elements, bytes: 8 * elements }
  },
  inPlace: ['source'],
})
