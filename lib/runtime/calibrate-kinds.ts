import {
  activation,
  add,
  attention,
  combine,
  conv2d,
  convTime,
  type DType,
  embedding,
  groupNorm,
  layerNorm,
  linear,
  type Program,
  program,
  type Tensor,
  type Trace,
  upsampleNearest,
} from '../program/index.js'

/** A kind of command to measure on a grid: as `commandShape` of lib/planner/cost-table.ts names it. */
export interface MeasuredKind {
  readonly kind: string
  readonly axes: readonly (readonly number[])[]
  /** The op whose command is timed. */
  readonly op: string
  /** Stored dtype of the weights. */
  readonly weights: DType
  /** Operations per unit of the product of the extents. */
  readonly flops: number
  /** A program with one such command. */
  program(extents: readonly number[]): Program
}

type Body = (trace: Trace, ...extents: number[]) => Tensor

const productAxes = [
  [16, 64, 320, 1280],
  [16, 64, 320, 1280],
  [16, 256, 4096],
]
const linearAxes = [
  [32, 320, 1280, 5120],
  [32, 320, 1280, 5120],
  [1, 16, 256, 4096],
]
const timeAxes = [
  [64, 320, 1280],
  [64, 320, 1280],
  [64, 1024, 16384],
]
const pointwiseAxes = [
  [16, 256, 4096, 65536],
  [32, 320, 1280],
]

const heads = 8
const framesOfTime = 8

/** Every measured kind. Extents are those of networks; between them the planner interpolates. */
export const measuredKinds: readonly MeasuredKind[] = [
  ...(['f32', 'f16'] as const).flatMap(weights => [
    kind(`conv3.${weights}`, 'conv2d', productAxes, { weights, flops: 18 }, conv3),
    kind(`linear.${weights}`, 'linear', linearAxes, { weights, flops: 2 }, matrix),
    kind(`conv_time.${weights}`, 'conv_time', timeAxes, { weights, flops: 6 }, frames),
  ]),
  kind(
    'attention',
    'attention',
    [
      [64, 1024, 16384],
      [16, 64, 1024, 4096],
      [40, 80, 160],
    ],
    { flops: 4 },
    (trace, rows, keys, size) => {
      const q = trace.input('q', [rows / heads, heads * size])
      const k = trace.input('k', [keys, heads * size])
      return attention(q, k, trace.input('v', [keys, heads * size]), { heads })
    },
  ),
  kind(
    'attention_time',
    'attention',
    [
      [512, 8192, 131072],
      [8, 16, 32],
      [40, 80, 160],
    ],
    { flops: 4 },
    (trace, rows, keys, size) => {
      const shape = [keys, 1, rows / (heads * keys), heads * size]
      const [q, k, v] = ['q', 'k', 'v'].map(name => trace.input(name, shape))
      return attention(q!, k!, v!, { heads, over: 'time' })
    },
  ),
  kind('norm_partials', 'norm_partials', pointwiseAxes, {}, norm),
  kind('affine', 'affine', pointwiseAxes, {}, norm),
  kind('norm_fold', 'norm_fold', [[64, 1024, 16384]], {}, (trace, partials) => {
    // Blocks of one channel: two partial values for each row and channel.
    const channels = 32
    return normOf(trace, [1, partials / 2 / channels, 1, channels])
  }),
  kind('layer_norm', 'layer_norm', pointwiseAxes, {}, (trace, positions, channels) =>
    layerNorm(
      trace.input('x', [positions, channels]),
      trace.weight('gamma', [channels]),
      trace.weight('beta', [channels]),
    ),
  ),
  kind('unary', 'unary', pointwiseAxes, {}, (trace, positions, channels) =>
    activation(trace.input('x', [positions, channels]), 'none'),
  ),
  kind('binary', 'binary', pointwiseAxes, {}, (trace, positions, channels) =>
    add(trace.input('x', [positions, channels]), trace.input('y', [positions, channels])),
  ),
  kind('combine', 'combine', pointwiseAxes, {}, (trace, positions, channels) =>
    combine(trace.input('c', [2]), [
      trace.input('x', [positions, channels]),
      trace.input('y', [positions, channels]),
    ]),
  ),
  kind('resize', 'resize', pointwiseAxes, {}, (trace, positions, channels) => {
    const side = Math.sqrt(positions)
    return upsampleNearest(trace.input('x', [1, side / 2, side / 2, channels]), [side, side])
  }),
  kind(
    'embedding',
    'embedding',
    [
      [16, 64, 256],
      [32, 320, 1280],
    ],
    {},
    (trace, tokens, channels) =>
      embedding(trace.input('ids', [tokens], 'i32'), trace.weight('table', [1000, channels])),
  ),
]

/** An activation over elements that stay in a cache, for its extra time. */
export function activationProgram(
  act: Parameters<typeof activation>[1],
  elements: number,
): Program {
  return program(act, trace => ({
    out: activation(trace.input('x', [elements / 64, 64]), act),
  }))
}

function kind(
  name: string,
  op: string,
  axes: MeasuredKind['axes'],
  { weights = 'f32', flops = 0 }: { weights?: DType; flops?: number },
  body: Body,
): MeasuredKind {
  return {
    kind: name,
    axes,
    op,
    weights,
    flops,
    program: extents => program(name, trace => ({ out: body(trace, ...extents) })),
  }
}

function conv3(trace: Trace, inputs: number, outputs: number, pixels: number): Tensor {
  const side = Math.sqrt(pixels)
  return conv2d(
    trace.input('x', [1, side, side, inputs]),
    trace.weight('w', [outputs, inputs, 3, 3]),
    { bias: trace.weight('b', [outputs]) },
  )
}

function matrix(trace: Trace, inputs: number, outputs: number, rows: number): Tensor {
  return linear(trace.input('x', [rows, inputs]), trace.weight('w', [outputs, inputs]), {
    bias: trace.weight('b', [outputs]),
  })
}

function frames(trace: Trace, inputs: number, outputs: number, positions: number): Tensor {
  const source = trace.input('x', [framesOfTime, 1, positions / framesOfTime, inputs])
  return convTime(source, trace.weight('w', [outputs, inputs, 3, 1, 1]), {
    bias: trace.weight('b', [outputs]),
  })
}

/** Partials, fold and application, in 32 groups. */
function norm(trace: Trace, positions: number, channels: number): Tensor {
  const side = Math.sqrt(positions)
  const rows = Number.isInteger(side) ? side : positions
  return normOf(trace, [1, rows, positions / rows, channels])
}

function normOf(trace: Trace, shape: [number, number, number, number]): Tensor {
  const gamma = trace.weight('gamma', [shape[3]])
  const beta = trace.weight('beta', [shape[3]])
  return groupNorm(trace.input('x', shape), gamma, beta, { groups: 32 })
}
