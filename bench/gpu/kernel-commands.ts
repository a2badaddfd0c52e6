/** The commands of a kernel case, as the planner would write them, over an arena of its own. */
import {
  absent,
  actCode,
  type CommandWriter,
  dtypeCode,
  type View,
} from '../../lib/planner/commands.js'
import type { AttentionCase, ConvCase, GemmCase, KernelCase, NormCase } from './kernel-cases.js'

const ceil16 = (n: number): number => Math.ceil(n / 16) * 16
const eps = 1e-5
const groups = 32

/** Hands out an arena's bytes. */
export class Layout {
  bytes = 0

  /** An operand [frames, rows, cols, channels] without gaps. */
  take(
    [frames, rows, cols, channels]: readonly [number, number, number, number],
    dtype: 'f16' | 'f32' = 'f16',
  ): View {
    const offset = this.bytes
    const size = dtype === 'f16' ? 2 : 4
    this.bytes = Math.ceil((offset + frames * rows * cols * channels * size) / 256) * 256
    const strides = [rows * cols * channels, cols * channels, channels] as const
    return { slot: 0, dtype: dtypeCode[dtype], offset, strides }
  }

  vector(length: number): View {
    return { ...this.take([1, 1, 1, length], 'f32'), strides: [0, 0, 0] }
  }
}

/** Writes the case's commands once, over operands that it takes from the layout. */
export function prepare(c: KernelCase, layout: Layout): (writer: CommandWriter) => void {
  switch (c.kind) {
    case 'gemm':
      return prepareConv(asConv(c), layout)
    case 'conv':
      return prepareConv(c, layout)
    case 'norm':
      return c.layer ? prepareLayerNorm(c, layout) : prepareGroupNorm(c, layout)
    default:
      return prepareAttention(c, layout)
  }
}

function asConv({ rows, ...rest }: GemmCase): ConvCase {
  return { ...rest, kind: 'conv', frames: 1, rows: 1, cols: rows, kernel: [1, 1] }
}

function prepareConv(c: ConvCase, layout: Layout): (writer: CommandWriter) => void {
  const { frames, rows, cols, inputs, outputs, kernel } = c
  const source = layout.take([frames, rows, cols, inputs])
  const out = layout.take([frames, rows, cols, outputs])
  const weight = layout.take([1, 1, ceil16(outputs), kernel[0] * kernel[1] * inputs])
  const bias = layout.vector(ceil16(outputs))
  const size = [rows, cols] as const
  return writer =>
    writer.conv(0, 0, {
      extents: [frames, rows, cols, outputs],
      kernel,
      stride: 1,
      inSize: size,
      physSize: size,
      origin: [-((kernel[0] - 1) / 2), -((kernel[1] - 1) / 2)],
      sourceOrigin: [0, 0],
      sourceSize: size,
      sourceChannels: [inputs],
      sources: [source],
      out,
      weight: { ...weight, strides: [0, 0, 0] },
      bias,
      vector: absent,
      residual: absent,
      affine: absent,
      prologueAct: actCode.none,
      act: actCode.none,
      outputs,
      compute: 0,
      tile: [1, 1, inputs],
      scratch: absent,
      scratchBytes: 0,
    })
}

function prepareAttention(c: AttentionCase, layout: Layout): (writer: CommandWriter) => void {
  const { frames, tokens, keys, heads, headDim } = c
  const time = c.kind === 'temporal'
  const channels = heads * headDim
  const keyExtents = time ? ([frames, 1, tokens] as const) : ([frames, 1, keys] as const)
  const q = layout.take([frames, 1, tokens, channels])
  const k = layout.take([...keyExtents, channels])
  const v = layout.take([...keyExtents, channels])
  const out = layout.take([frames, 1, tokens, channels])
  return writer =>
    writer.attention(0, 0, {
      extents: [frames, 1, tokens, channels],
      heads,
      headDim,
      time,
      keyExtents,
      causal: false,
      query0: 0,
      scale: 1 / Math.sqrt(headDim),
      q,
      k,
      v,
      out,
      tile: [64, 64],
      scratch: absent,
      scratchBytes: 0,
    })
}

/** Statistics, fold and application with SiLU; in a network the statistics come with the producer. */
function prepareGroupNorm(c: NormCase, layout: Layout): (writer: CommandWriter) => void {
  const { frames, pixels, channels } = c
  const rows = Math.max(1, Math.round(Math.sqrt(pixels)))
  const [height, width] = pixels % rows === 0 ? [rows, pixels / rows] : [1, pixels]
  const block = channels / groups
  const source = layout.take([frames, height, width, channels])
  const out = layout.take([frames, height, width, channels])
  const partials = layout.take([frames, height, 1, 2 * groups], 'f32')
  const [f, y] = partials.strides
  const [gamma, beta] = [layout.vector(channels), layout.vector(channels)]
  const affine = layout.take([frames, 1, 1, 2 * channels], 'f32')
  const scales = { ...affine, strides: [affine.strides[0], 0, 0] as const }
  const extents = [frames, height, width, channels] as const
  const partialsView = { ...partials, strides: [f, y, 2] as const }
  return writer => {
    writer.normPartials(0, 0, { extents, block, source, out: partialsView })
    writer.normFold(0, 0, {
      frames,
      framesOut: frames,
      rows: height,
      cols: width,
      sourceChannels: [channels],
      blocks: [block],
      groups,
      eps,
      partials: [partialsView],
      gamma,
      beta,
      out: affine,
    })
    writer.affine(0, 0, {
      extents,
      sourceChannels: [channels],
      sources: [source],
      affine: scales,
      act: actCode.silu,
      out,
    })
  }
}

function prepareLayerNorm(c: NormCase, layout: Layout): (writer: CommandWriter) => void {
  const extents = [c.frames, 1, c.pixels, c.channels] as const
  const [source, out] = [layout.take(extents), layout.take(extents)]
  const [gamma, beta] = [layout.vector(c.channels), layout.vector(c.channels)]
  return writer => writer.layerNorm(0, 0, { extents, eps, source, gamma, beta, add: absent, out })
}
