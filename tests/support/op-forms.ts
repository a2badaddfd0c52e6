import { expandNorms } from '../../lib/planner/expand.js'
import { fuse } from '../../lib/planner/fuse.js'
import {
  add,
  attention,
  cast,
  combine,
  conv2d,
  convTime,
  dequantise,
  embedding,
  groupNorm,
  layerNorm,
  lerp,
  linear,
  mul,
  type Node,
  prependToken,
  program,
  quantise,
  sigmoid,
  silu,
  type Tensor,
  timestepEmbedding,
  tokens,
  upsampleNearest,
} from '../../lib/program/index.js'

/** One op in one of the forms that the planner meets, fused forms included. */
export interface OpForm {
  readonly form: string
  readonly node: Node
}

type Make = (tensors: {
  input: (...shape: number[]) => Tensor
  ids: (...shape: number[]) => Tensor
  words: (...shape: number[]) => Tensor
  weight: (...shape: number[]) => Tensor
}) => Tensor

const norm =
  (over: 'frame' | 'video') =>
  (weight: (...shape: number[]) => Tensor, source: Tensor | readonly [Tensor, Tensor]) => {
    const pair = (Array.isArray(source) ? source : [source]) as readonly Tensor[]
    const channels = pair.reduce((sum, { shape }) => sum + shape[3]!, 0)
    const options = { groups: 2, over, act: 'silu' } as const
    return groupNorm(source, weight(channels), weight(channels), options)
  }
const frameNorm = norm('frame')
const videoNorm = norm('video')

/** What makes each form, and the op that it must end up in (the last op of the name's kind is taken). */
const makers: readonly (readonly [op: string, form: string, make: Make])[] = [
  ['conv2d', '3x3', ({ input, weight }) => conv2d(input(2, 4, 5, 2), weight(3, 2, 3, 3))],
  [
    'conv2d',
    '1x1 with bias',
    ({ input, weight }) => conv2d(input(2, 3, 4, 3), weight(2, 3, 1, 1), { bias: weight(2) }),
  ],
  [
    'conv2d',
    'stride 2',
    ({ input, weight }) => conv2d(input(2, 5, 6, 2), weight(2, 2, 3, 3), { stride: 2 }),
  ],
  [
    'conv2d',
    'stride 2, padded below and right',
    ({ input, weight }) =>
      conv2d(input(1, 6, 5, 2), weight(2, 2, 3, 3), { stride: 2, padding: [0, 0, 1, 1] }),
  ],
  [
    'conv2d',
    '1x1, stride 2',
    ({ input, weight }) => conv2d(input(1, 6, 5, 2), weight(2, 2, 1, 1), { stride: 2 }),
  ],
  [
    'conv2d',
    'no padding',
    ({ input, weight }) => conv2d(input(1, 5, 6, 2), weight(2, 2, 3, 3), { padding: 0 }),
  ],
  [
    'conv2d',
    'patches',
    ({ input, weight }) => conv2d(input(1, 8, 8, 2), weight(3, 2, 4, 4), { stride: 4 }),
  ],
  [
    'conv2d',
    'two sources',
    ({ input, weight }) => conv2d([input(2, 4, 3, 2), input(2, 4, 3, 3)], weight(2, 5, 3, 3)),
  ],
  [
    'conv2d',
    'through an upsampling',
    ({ input, weight }) =>
      conv2d(upsampleNearest(input(2, 3, 4, 2), [6, 8]), weight(2, 2, 3, 3), { bias: weight(2) }),
  ],
  [
    'conv2d',
    'through an upsampling to an odd size',
    ({ input, weight }) => conv2d(upsampleNearest(input(1, 3, 4, 2), [5, 7]), weight(2, 2, 3, 3)),
  ],
  [
    'conv2d',
    'norm of a frame before',
    ({ input, weight }) => conv2d(frameNorm(weight, input(2, 4, 3, 4)), weight(2, 4, 3, 3)),
  ],
  [
    'conv2d',
    'norm of a video before',
    ({ input, weight }) => conv2d(videoNorm(weight, input(2, 4, 3, 4)), weight(2, 4, 3, 3)),
  ],
  [
    'conv2d',
    'norm of two sources before',
    ({ input, weight }) =>
      conv2d(
        frameNorm(weight, [input(2, 3, 3, 4), input(2, 3, 3, 2)] as const),
        weight(2, 6, 3, 3),
      ),
  ],
  [
    'conv2d',
    'residual and activation',
    ({ input, weight }) =>
      silu(add(conv2d(input(2, 4, 3, 2), weight(3, 2, 3, 3)), input(2, 4, 3, 3))),
  ],
  [
    'conv2d',
    'vector for each frame, residual',
    ({ input, weight }) =>
      add(add(conv2d(input(3, 4, 3, 2), weight(3, 2, 3, 3)), input(3, 3)), input(3, 4, 3, 3)),
  ],
  [
    'conv2d',
    'vector for all frames',
    ({ input, weight }) => add(conv2d(input(3, 4, 3, 2), weight(3, 2, 3, 3)), input(1, 3)),
  ],
  ['conv_time', 'plain', ({ input, weight }) => convTime(input(4, 2, 3, 2), weight(3, 2, 3, 1, 1))],
  [
    'conv_time',
    'two sources with bias',
    ({ input, weight }) =>
      convTime([input(4, 2, 3, 2), input(4, 2, 3, 1)], weight(3, 3, 3, 1, 1), { bias: weight(3) }),
  ],
  [
    'conv_time',
    'norm of a video before, vector, residual',
    ({ input, weight }) => {
      const moved = convTime(videoNorm(weight, input(4, 2, 3, 2)), weight(3, 2, 3, 1, 1))
      return add(add(moved, input(1, 3)), input(4, 2, 3, 3))
    },
  ],
  [
    'conv_time',
    'of one frame, norm before, vector',
    ({ input, weight }) => {
      const moved = convTime(videoNorm(weight, input(1, 2, 3, 2)), weight(3, 2, 3, 1, 1))
      return add(moved, input(1, 3))
    },
  ],
  ['linear', 'of a sequence', ({ input, weight }) => linear(input(5, 4), weight(3, 4))],
  [
    'linear',
    'of a sequence, with bias and residual',
    ({ input, weight }) => add(linear(input(5, 4), weight(3, 4), { bias: weight(3) }), input(5, 3)),
  ],
  [
    'linear',
    'norm of a video before',
    ({ input, weight }) => linear(videoNorm(weight, input(2, 3, 3, 4)), weight(3, 4)),
  ],
  [
    'linear',
    'of a batch of sequences',
    ({ input, weight }) => linear(input(2, 5, 4), weight(3, 4), { bias: weight(3) }),
  ],
  [
    'linear',
    'geglu',
    ({ input, weight }) =>
      linear(input(2, 3, 3, 4), weight(6, 4), { bias: weight(6), act: 'geglu' }),
  ],
  [
    'linear',
    'two sources, residual',
    ({ input, weight }) =>
      add(linear([input(2, 3, 3, 4), input(2, 3, 3, 2)], weight(3, 6)), input(2, 3, 3, 3)),
  ],
  [
    'linear',
    'norm of a frame before, vector',
    ({ input, weight }) =>
      add(linear(frameNorm(weight, input(2, 3, 3, 4)), weight(3, 4)), input(2, 3)),
  ],
  [
    'attention',
    'over space',
    ({ input }) => attention(input(2, 2, 3, 4), input(2, 2, 3, 4), input(2, 2, 3, 4), { heads: 2 }),
  ],
  [
    'attention',
    'over space, other keys',
    ({ input }) => attention(input(2, 2, 3, 4), input(2, 3, 1, 4), input(2, 3, 1, 4), { heads: 2 }),
  ],
  [
    'attention',
    'over time',
    ({ input }) =>
      attention(input(3, 2, 2, 4), input(3, 2, 2, 4), input(3, 2, 2, 4), {
        heads: 2,
        over: 'time',
      }),
  ],
  [
    'attention',
    'over time, causal',
    ({ input }) =>
      attention(input(3, 2, 2, 4), input(3, 2, 2, 4), input(3, 2, 2, 4), {
        heads: 2,
        over: 'time',
        causal: true,
      }),
  ],
  [
    'attention',
    'across, keys for all frames',
    ({ input }) => attention(input(2, 2, 3, 4), input(5, 4), input(5, 4), { heads: 2 }),
  ],
  [
    'attention',
    'of a sequence, causal',
    ({ input }) => attention(input(5, 4), input(5, 4), input(5, 4), { heads: 1, causal: true }),
  ],
  [
    'attention',
    'of a batch of sequences',
    ({ input }) => attention(input(2, 3, 4), input(2, 4, 4), input(2, 4, 4), { heads: 2 }),
  ],
  ['norm_partials', 'plain', ({ input, weight }) => frameNorm(weight, input(3, 3, 2, 4))],
  ['norm_fold', 'of a frame', ({ input, weight }) => frameNorm(weight, input(3, 3, 2, 4))],
  ['norm_fold', 'of a video', ({ input, weight }) => videoNorm(weight, input(3, 3, 2, 4))],
  [
    'norm_fold',
    'of two sources',
    ({ input, weight }) => frameNorm(weight, [input(3, 3, 2, 4), input(3, 3, 2, 2)] as const),
  ],
  ['affine', 'of a frame', ({ input, weight }) => frameNorm(weight, input(3, 3, 2, 4))],
  ['affine', 'of a video', ({ input, weight }) => videoNorm(weight, input(3, 3, 2, 4))],
  [
    'affine',
    'of two sources',
    ({ input, weight }) => frameNorm(weight, [input(3, 3, 2, 4), input(3, 3, 2, 2)] as const),
  ],
  ['group_norm', 'of a frame', ({ input, weight }) => frameNorm(weight, input(3, 3, 2, 4))],
  ['group_norm', 'of a video', ({ input, weight }) => videoNorm(weight, input(3, 3, 2, 4))],
  [
    'group_norm',
    'of two sources',
    ({ input, weight }) => frameNorm(weight, [input(3, 3, 2, 4), input(3, 3, 2, 2)] as const),
  ],
  [
    'layer_norm',
    'of features',
    ({ input, weight }) => layerNorm(input(2, 3, 2, 4), weight(4), weight(4)),
  ],
  [
    'layer_norm',
    'of a sequence',
    ({ input, weight }) => layerNorm(input(5, 4), weight(4), weight(4)),
  ],
  [
    'layer_norm',
    'with positions of frames',
    ({ input, weight }) =>
      layerNorm(input(3, 3, 2, 4), weight(4), weight(4), { positions: weight(1, 5, 4) }),
  ],
  ['unary', 'activation', ({ input }) => silu(input(2, 3, 2, 3))],
  ['unary', 'cast', ({ input }) => cast(input(2, 3, 2, 3), 'f16')],
  ['unary', 'of a weight', ({ weight }) => sigmoid(weight(1))],
  ['binary', 'same shape', ({ input }) => mul(input(2, 3, 2, 3), input(2, 3, 2, 3))],
  ['binary', 'a value for each channel', ({ input, weight }) => mul(input(2, 3, 2, 3), weight(3))],
  ['binary', 'a row for all', ({ input }) => mul(input(2, 3, 2, 3), input(1, 3))],
  ['binary', 'a row for each frame', ({ input }) => mul(input(2, 3, 2, 3), input(2, 3))],
  ['binary', 'one value', ({ input }) => mul(input(2, 3, 2, 3), input(1))],
  ['binary', 'of sequences', ({ input, weight }) => add(input(5, 3), weight(5, 3))],
  ['binary', 'blend', ({ input }) => lerp(input(2, 3, 2, 3), input(2, 3, 2, 3), input(1))],
  [
    'combine',
    'four tensors',
    ({ input }) =>
      combine(
        input(4),
        [0, 1, 2, 3].map(() => input(2, 3, 2, 3)),
      ),
  ],
  ['embedding', 'plain', ({ ids, weight }) => embedding(ids(4), weight(6, 3))],
  [
    'embedding',
    'with positions',
    ({ ids, weight }) => embedding(ids(4), weight(6, 3), { positions: weight(5, 3) }),
  ],
  ['timestep', 'one number', ({ input }) => timestepEmbedding(input(1), { dim: 6 })],
  ['timestep', 'several numbers', ({ input }) => timestepEmbedding(input(3), { dim: 4 })],
  ['resize', 'twice', ({ input }) => upsampleNearest(input(2, 3, 2, 3), [6, 4])],
  ['resize', 'to an odd size', ({ input }) => upsampleNearest(input(2, 3, 4, 2), [5, 7])],
  [
    'prepend',
    'before patches',
    ({ input, weight }) => prependToken(weight(3), input(1, 2, 2, 3), weight(5, 3)),
  ],
  ['tokens', 'the middle', ({ input }) => tokens(input(6, 3), 2, 3)],
  ['quantise', 'a block', ({ input }) => quantise(input(2, 2, 3, 5))],
  ['quantise', 'two blocks', ({ input }) => quantise(input(1, 2, 2, 34))],
  ['dequantise', 'a block', ({ words }) => dequantise(words(2, 2, 3, 3), 5)],
  ['dequantise', 'two blocks', ({ words }) => dequantise(words(1, 2, 2, 11), 34)],
]

/** Every op in every form. Each operand is a tensor of its own. */
export function opForms(): OpForm[] {
  return makers.map(([op, form, make]) => {
    const traced = program(`${op} ${form}`, trace => {
      let count = 0
      const input = (...shape: number[]) => trace.input(`x${count++}`, shape)
      const ids = (...shape: number[]) => trace.input(`ids${count++}`, shape, 'i32')
      const weight = (...shape: number[]) => trace.weight(`w${count++}`, shape)
      return { y: make({ input, ids, words: ids, weight }) }
    })
    const nodes = op === 'group_norm' ? traced.nodes : fuse(expandNorms(traced)).nodes
    const node = nodes.filter(found => found.op === op).at(-1)
    if (!node) throw new Error(`${op}, ${form}: expected the op in ${nodes.map(n => n.op)}`)
    return { form, node }
  })
}
