/** The kernels that bench/kernels.ts measures: every convolution, product and attention of Stable Diffusion 1.5's UNet at 256 and 512, and its decoder's upsampling. */
import type { Program, Tensor, Trace } from '../../lib/program/index.js'
import {
  activation,
  add,
  attention,
  conv2d,
  groupNorm,
  layerNorm,
  linear,
  operand,
  operands,
  program,
} from '../../lib/program/index.js'
import { convGeometry } from '../../lib/program/ops/conv.js'
import { networks } from '../../tests/support/networks.js'

export type Family = 'conv' | 'doubled conv' | 'fused conv' | 'product' | 'attention' | 'pointwise'

/** One kernel call, ours and the rival's. */
export interface Case {
  readonly family: Family
  readonly name: string
  /** How often the network has it. */
  readonly times: number
  /** Operations of one call; 0 where memory is the limit. */
  readonly flops: number
  /** Bytes that one call must move at least, each pass over a tensor counted; 0 where arithmetic is the limit. */
  readonly bytes: number
  readonly program: Program
  /** What bench/rival/kernels.py computes instead. */
  readonly rival: Readonly<Record<string, unknown>>
}

const heads = 8

function build(name: string, body: (trace: Trace) => Tensor): Program {
  return program(name, trace => ({ out: body(trace) }))
}

interface ConvShape {
  readonly frames: number
  readonly rows: number
  readonly cols: number
  readonly inputs: number
  readonly outputs: number
  readonly kernel: number
  readonly stride: number
  readonly upsampled: boolean
}

function convName(s: ConvShape): string {
  const how = `${s.stride > 1 ? ` /${s.stride}` : ''}${s.upsampled ? ' up' : ''}`
  return `${s.kernel}x${s.kernel}${how} ${s.inputs}>${s.outputs} @${s.frames}x${s.rows}x${s.cols}`
}

/** @param taps multiplied for an output */
function convCase(s: ConvShape, times: number, taps = s.kernel ** 2): Case {
  const { frames, rows, cols, inputs, outputs, kernel, stride, upsampled } = s
  const grown = upsampled ? 2 : 1
  const pixels = (frames * rows * cols * grown ** 2) / stride ** 2
  return {
    family: 'conv',
    name: convName(s),
    times,
    flops: 2 * pixels * outputs * inputs * taps,
    bytes: 0,
    program: build('conv', trace =>
      conv2d(
        trace.input('x', [frames, rows, cols, inputs]),
        trace.weight('w', [outputs, inputs, kernel, kernel]),
        {
          bias: trace.weight('b', [outputs]),
          stride,
          ...(upsampled && { upsampleTo: [rows * 2, cols * 2] as const }),
        },
      ),
    ),
    rival: { op: 'conv', ...s },
  }
}

/** Convolutions of the UNet, each shape once, with how often it occurs. A 1x1 convolution that the network has as a product is one of the products. */
function convCases(side: number, frames: number): Case[] {
  const unet = networks['animatediff unet']!({ frames, rows: side, cols: side })
  const shapes = new Map<string, { shape: ConvShape; times: number }>()
  for (const node of unet.nodes) {
    if (node.op !== 'conv2d') continue
    const geometry = convGeometry(node)
    const shape: ConvShape = {
      frames,
      rows: geometry.physRows,
      cols: geometry.physCols,
      inputs: operands(node, 'source').reduce((sum, { shape }) => sum + shape[3]!, 0),
      outputs: node.output.shape[3]!,
      kernel: geometry.kernel,
      stride: geometry.stride,
      upsampled: geometry.inRows !== geometry.physRows,
    }
    const known = shapes.get(convName(shape))
    shapes.set(convName(shape), { shape, times: (known?.times ?? 0) + 1 })
  }
  return [...shapes.values()].map(({ shape, times }) => convCase(shape, times))
}

/** Convolutions of doubled images, as decoders have them, which are computed by phases: four taps for nine. */
function doublingCases(): Case[] {
  const shape = { frames: 1, rows: 64, cols: 64, kernel: 3, stride: 1, upsampled: true }
  return [256, 512].map(channels => ({
    ...convCase({ ...shape, inputs: channels, outputs: channels }, 1, 4),
    family: 'doubled conv',
  }))
}

/** Group norm and SiLU read on the way into a convolution, as residual blocks have it. */
function fusedCase(frames: number, side: number, channels: number, outputs: number): Case {
  return {
    family: 'fused conv',
    name: `norm silu 3x3 ${channels}>${outputs} @${frames}x${side}x${side}`,
    times: 1,
    flops: 2 * frames * side * side * outputs * channels * 9,
    bytes: 0,
    program: build('fused', trace => {
      const x = trace.input('x', [frames, side, side, channels])
      const [gamma, beta] = ['gamma', 'beta'].map(name => trace.weight(name, [channels]))
      const y = groupNorm(x, gamma!, beta!, { groups: 32, act: 'silu' })
      return conv2d(y, trace.weight('w', [outputs, channels, 3, 3]), {
        bias: trace.weight('b', [outputs]),
      })
    }),
    rival: { op: 'fused', frames, rows: side, cols: side, inputs: channels, outputs },
  }
}

function productCase(rows: number, inputs: number, outputs: number, times = 1): Case {
  return {
    family: 'product',
    name: `${rows} x ${inputs} > ${outputs}`,
    times,
    flops: 2 * rows * inputs * outputs,
    bytes: 0,
    program: build('product', trace =>
      linear(trace.input('x', [rows, inputs]), trace.weight('w', [outputs, inputs]), {
        bias: trace.weight('b', [outputs]),
      }),
    ),
    rival: { op: 'linear', rows, inputs, outputs },
  }
}

/** outputs: of the value; the weights have twice as many. */
function gegluCase(rows: number, inputs: number, outputs: number): Case {
  return {
    family: 'product',
    name: `${rows} x ${inputs} > ${outputs} geglu`,
    times: 1,
    flops: 4 * rows * inputs * outputs,
    bytes: 0,
    program: build('geglu', trace =>
      linear(trace.input('x', [rows, inputs]), trace.weight('w', [2 * outputs, inputs]), {
        bias: trace.weight('b', [2 * outputs]),
        act: 'geglu',
      }),
    ),
    rival: { op: 'geglu', rows, inputs, outputs },
  }
}

/** Products of the UNet over a frame or more of 512, plain ones by shape. */
function productCases(side: number, frames: number): Case[] {
  const unet = networks['animatediff unet']!({ frames, rows: side, cols: side })
  const found = new Map<string, Case>()
  for (const node of unet.nodes) {
    if (node.op !== 'linear') continue
    const [outputs, inputs] = operand(node, 'weight')!.shape as [number, number]
    const { shape } = node.output
    const rows = shape.slice(0, -1).reduce((product, extent) => product * extent, 1)
    if (rows === 1) continue
    const of = (times: number) =>
      node.attrs.act === 'geglu'
        ? gegluCase(rows, inputs, outputs / 2)
        : productCase(rows, inputs, outputs, times)
    const { name } = of(1)
    found.set(name, { ...of(1), times: (found.get(name)?.times ?? 0) + 1 })
  }
  return [...found.values()]
}

/** Attention within each frame, or of shared keys where `keys` is another number of tokens. */
function spaceCase(frames: number, tokens: number, size: number, keys = tokens): Case {
  const crossed = keys !== tokens
  const q = [frames, 1, tokens, heads * size]
  const k = crossed ? [keys, heads * size] : q
  return {
    family: 'attention',
    name: `${crossed ? 'cross' : 'space'} ${frames}x${tokens}x${keys} d${size}`,
    times: 1,
    flops: 4 * frames * heads * tokens * keys * size,
    bytes: 0,
    program: build('attention', trace =>
      attention(trace.input('q', q), trace.input('k', k), trace.input('v', k), { heads }),
    ),
    rival: { op: 'attention', batch: frames, tokens, keys, heads, size, shared: crossed },
  }
}

function timeCase(frames: number, pixels: number, size: number): Case {
  const shape = [frames, 1, pixels, heads * size]
  return {
    family: 'attention',
    name: `time ${pixels}x${frames}x${frames} d${size}`,
    times: 1,
    flops: 4 * frames * frames * pixels * heads * size,
    bytes: 0,
    program: build('attention', trace => {
      const [q, k, v] = ['q', 'k', 'v'].map(name => trace.input(name, shape))
      return attention(q!, k!, v!, { heads, over: 'time' })
    }),
    rival: { op: 'attention', batch: pixels, tokens: frames, keys: frames, heads, size },
  }
}

/** `passes`: how often the whole tensor is read or written. */
function pointwiseCase(
  op: 'copy' | 'silu' | 'add' | 'group_norm' | 'layer_norm',
  shape: readonly [number, number, number, number],
  passes: number,
): Case {
  const channels = shape[3]
  return {
    family: 'pointwise',
    name: `${op} ${shape.join('x')}`,
    times: 1,
    flops: 0,
    bytes: 4 * passes * shape.reduce((product, extent) => product * extent, 1),
    program: build(op, trace => {
      const x = trace.input('x', shape)
      const norm = () => [trace.weight('gamma', [channels]), trace.weight('beta', [channels])]
      switch (op) {
        case 'group_norm': {
          const [gamma, beta] = norm()
          return groupNorm(x, gamma!, beta!, { groups: 32, act: 'silu' })
        }
        case 'layer_norm': {
          const [gamma, beta] = norm()
          return layerNorm(x, gamma!, beta!)
        }
        case 'add':
          return add(x, trace.input('y', shape))
        default:
          return activation(x, op === 'copy' ? 'none' : 'silu')
      }
    }),
    rival: { op, shape },
  }
}

/** A copy of as many elements. */
export const copyCase = (shape: readonly [number, number, number, number]): Case =>
  pointwiseCase('copy', shape, 2)

/** All cases. Sizes of 256 take four frames at once, so that a call lasts as long as one frame of 512. */
export function allCases(): Case[] {
  return [
    ...convCases(256, 4),
    ...convCases(512, 1),
    ...doublingCases(),
    fusedCase(4, 32, 320, 320),
    fusedCase(4, 16, 640, 640),
    fusedCase(4, 8, 1280, 1280),
    fusedCase(1, 64, 320, 320),
    fusedCase(1, 64, 960, 320),
    productCase(1024, 1024, 1024),
    productCase(2048, 2048, 2048),
    ...productCases(512, 1),
    spaceCase(1, 4096, 40),
    spaceCase(1, 1024, 80),
    spaceCase(4, 256, 160),
    spaceCase(1, 4096, 40, 77),
    spaceCase(4, 1024, 40, 77),
    spaceCase(4, 256, 80, 77),
    spaceCase(16, 64, 160, 77),
    timeCase(16, 1024, 40),
    timeCase(16, 256, 80),
    timeCase(16, 64, 160),
    pointwiseCase('group_norm', [16, 64, 64, 320], 3),
    pointwiseCase('group_norm', [1, 64, 64, 320], 3),
    pointwiseCase('layer_norm', [16, 64, 64, 320], 2),
    pointwiseCase('layer_norm', [1, 64, 64, 320], 2),
    pointwiseCase('silu', [16, 64, 64, 320], 2),
    pointwiseCase('add', [16, 64, 64, 320], 3),
  ]
}
