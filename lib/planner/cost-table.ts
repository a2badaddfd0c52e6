import type { Node } from '../program/graph.js'
import { operand, operands } from '../program/graph.js'
import { opSpec, type Target } from '../program/op.js'
import { keyTokens } from '../program/ops/attention.js'
import { convGeometry, inPhases } from '../program/ops/conv.js'
import { type Activation, activationOf, asFour, channelsOf } from '../program/ops/shared.js'
import { type Region, regionShape, regionVolume } from '../program/region.js'
import { type DType, elementCount } from '../program/tensor.js'
import { type CostModel, type Machine, rooflineSeconds } from './cost.js'
import { packedBytes, packForm } from './weights.js'

/**
 * Measured seconds of one kind of command on a grid of extents. The product of a command's extents is its work, so that time is
 * proportional to it beyond the grid.
 */
export interface CostGrid {
  /** Ascending extents, an axis each. */
  readonly axes: readonly (readonly number[])[]
  /** Seconds of a command, its dispatch included; the last axis fastest. */
  readonly seconds: readonly number[]
}

/** What `sluice calibrate` writes: measurements of one machine with one instruction set and thread count. */
export interface CostTable {
  readonly format: 'sluice-calibration'
  readonly version: number
  readonly cpu: string
  readonly isa: string
  readonly threads: number
  /** How products were computed; else float32. */
  readonly compute?: 'bf16'
  /** Peaks that were reached, and the dispatch of one command. */
  readonly machine: Machine
  /** Extra seconds of an activation, per element. */
  readonly activations: Readonly<Partial<Record<Activation, number>>>
  readonly grids: Readonly<Record<string, CostGrid>>
}

/** Raised when kinds or extents mean something else, or kernels changed; other tables are not used. */
export const costTableVersion = 2

/** A command as the table sees it. */
export interface CommandShape {
  readonly kind: string
  /** Positive; see `commandShape`. */
  readonly extents: readonly number[]
}

/**
 * Kind and extents of a command:
 * `conv3`, `linear` (kernel 1, patches), `conv_time`: input channels, output channels, output pixels; with the dtype of the weights;
 * `attention`, `attention_time`: query rows of all heads, key tokens, head size;
 * `norm_fold`: partial values, 1; all others: positions, channels.
 * Undefined for kinds that are not measured.
 */
export function commandShape(node: Node, wanted: Region, weights: DType): CommandShape | undefined {
  const shape = regionShape(wanted)
  const channels = shape[shape.length - 1]!
  const positions = Math.max(1, elementCount(shape) / channels)
  switch (node.op) {
    case 'conv2d':
    case 'linear':
    case 'conv_time': {
      const inputs = operands(node, 'source').reduce((sum, t) => sum + channelsOf(t), 0)
      const outputs = channels * (activationOf(node.attrs) === 'geglu' ? 2 : 1)
      const kernel = node.op === 'conv2d' ? operand(node, 'weight')!.shape[2]! : 1
      const stored = weights === 'f32' ? 'f32' : 'f16'
      if (node.op === 'conv_time')
        return { kind: `conv_time.${stored}`, extents: [inputs, outputs, positions] }
      // By phases there are four products for nine.
      if (inPhases(node))
        return { kind: `conv3.f32`, extents: [inputs, outputs, (positions * 4) / 9] }
      if (kernel === 3) return { kind: `conv3.${stored}`, extents: [inputs, outputs, positions] }
      return { kind: `linear.${stored}`, extents: [inputs * kernel ** 2, outputs, positions] }
    }
    case 'attention': {
      const size = channelsOf(node.output) / (node.attrs.heads as number)
      const kind = node.attrs.over === 'time' ? 'attention_time' : 'attention'
      return { kind, extents: [elementCount(shape) / size, keyTokens(node), size] }
    }
    case 'norm_partials': {
      const source = operand(node, 'source')!
      const block = node.attrs.block as number
      return {
        kind: node.op,
        extents: [shape[0]! * shape[1]! * source.shape[2]!, shape[2]! * block],
      }
    }
    case 'norm_fold': {
      const count = operands(node, 'partials').reduce((sum, t) => sum + elementCount(t.shape), 0)
      const share = elementCount(shape) / elementCount(node.output.shape)
      return { kind: node.op, extents: [Math.max(1, count * share)] }
    }
    case 'combine':
      // Measured with two sources: three streams.
      return {
        kind: node.op,
        extents: [(positions * (operands(node, 'source').length + 1)) / 3, channels],
      }
    case 'affine':
    case 'layer_norm':
    case 'binary':
    case 'unary':
    case 'resize':
    case 'embedding':
      return { kind: node.op, extents: [positions, channels] }
    case 'tokens':
    case 'prepend':
      return { kind: 'unary', extents: [positions, channels] }
    default:
      return undefined
  }
}

/**
 * Seconds from a grid: linear between logarithms, in the logarithms of the extents, so that powers come out exact; an extent beyond the
 * grid is moved to its edge and the time scaled by the quotient. Grows with every extent, if the grid does.
 */
export function interpolate(grid: CostGrid, extents: readonly number[]): number {
  const { axes, seconds } = grid
  let scale = 1
  let base = 0
  const steps: number[] = []
  const shares: number[] = []
  let stride = seconds.length
  axes.forEach((axis, i) => {
    stride /= axis.length
    const extent = extents[i]!
    const clamped = Math.min(Math.max(extent, axis[0]!), axis[axis.length - 1]!)
    scale *= extent / clamped
    let low = 0
    while (low + 2 < axis.length && axis[low + 1]! <= clamped) low++
    base += low * stride
    const next = axis[low + 1]
    steps.push(next === undefined ? 0 : stride)
    shares.push(
      next === undefined ? 0 : Math.log(clamped / axis[low]!) / Math.log(next / axis[low]!),
    )
  })
  let sum = 0
  for (let corner = 0; corner < 2 ** axes.length; corner++) {
    let weight = 1
    let at = base
    for (let i = 0; i < axes.length; i++) {
      const high = (corner >> i) & 1
      weight *= high ? shares[i]! : 1 - shares[i]!
      if (high) at += steps[i]!
    }
    if (weight > 0) sum += weight * Math.log(seconds[at]!)
  }
  return scale * Math.exp(sum)
}

/** The grid made to grow along every axis. Noise only adds time, so what takes longer than more work of its kind is lowered to that. */
export function growing({ axes, seconds }: CostGrid): CostGrid {
  const grown = [...seconds]
  let stride = grown.length
  for (const axis of axes) {
    stride /= axis.length
    for (let i = grown.length - 1; i >= 0; i--)
      if (Math.floor(i / stride) % axis.length < axis.length - 1)
        grown[i] = Math.min(grown[i]!, grown[i + stride]!)
  }
  return { axes, seconds: grown }
}

/** A model from measurements; a roofline with the measured peaks where the table has nothing. */
export function tableModel(table: CostTable, name: string): CostModel {
  const { machine, activations } = table
  const grids = new Map(Object.entries(table.grids).map(([kind, grid]) => [kind, growing(grid)]))
  const target: Target = { backend: 'cpu', threads: table.threads }
  return {
    name,
    cached: true,
    seconds(node, wanted, weights) {
      const shape = commandShape(node, wanted, weights)
      const grid = shape && grids.get(shape.kind)
      if (!grid) return rooflineSeconds(machine, node, wanted)
      // In a network, unlike in a measurement that runs again and again, weights come from memory.
      const streamed = weightBytes(node, weights) / machine.bytesPerSecond
      return (
        Math.max(machine.secondsPerCommand, interpolate(grid, shape.extents), streamed) +
        activationSeconds(node, wanted, activations, target)
      )
    },
  }
}

function weightBytes(node: Node, stored: DType): number {
  const weight = operand(node, 'weight')
  return weight ? packedBytes(packForm(node, 'weight'), weight.shape, stored) : 0
}

/** Activations of the output, and of a convolution's input while it is packed, halo included. */
function activationSeconds(
  node: Node,
  wanted: Region,
  perElement: CostTable['activations'],
  target: Target,
): number {
  const act = activationOf(node.attrs)
  const after = act === 'geglu' ? 'gelu' : act
  let sum = after === 'none' ? 0 : regionVolume(wanted) * (perElement[after] ?? 0)
  const before = activationOf(node.attrs, 'prologueAct')
  if (before !== 'none') sum += packedElements(node, wanted, target) * (perElement[before] ?? 0)
  return sum
}

/** Elements of the input that a product packs: tile by tile, each with the rows and columns around it. */
function packedElements(node: Node, wanted: Region, target: Target): number {
  const [frames, rows, cols] = asFour(regionShape(wanted), 1)
  const channels = operands(node, 'source').reduce((sum, source) => sum + channelsOf(source), 0)
  if (node.op !== 'conv2d') return frames * rows * cols * channels
  const { kernel, stride } = convGeometry(node)
  const tile = opSpec(node.op).scratch!(node, node.output, wanted, target).tile
  const packed = (extent: number, part: number) =>
    inPhases(node)
      ? extent / 2 + 1.5 * Math.ceil(extent / part)
      : extent * stride + Math.ceil(extent / part) * (kernel - stride)
  return frames * packed(rows, tile[0]!) * packed(cols, tile[1]!) * channels
}

/** Checks what was read from a file. @returns what is wrong with it; undefined when it can be used */
export function checkCostTable(table: unknown): string | undefined {
  const { format, version, machine, activations, grids, cpu, isa, threads } = (table ??
    {}) as Partial<CostTable>
  if (format !== 'sluice-calibration') return 'format sluice-calibration'
  if (version !== costTableVersion) return `version ${costTableVersion}`
  if (typeof cpu !== 'string' || typeof isa !== 'string' || !positive(threads))
    return 'cpu, isa and threads'
  if (
    !machine ||
    ![machine.flopsPerSecond, machine.bytesPerSecond, machine.secondsPerCommand].every(positive)
  )
    return 'a machine with positive peaks'
  if (
    !activations ||
    !Object.values(activations).every(seconds => Number.isFinite(seconds) && seconds >= 0)
  )
    return 'activations of at least 0 seconds'
  for (const [kind, grid] of Object.entries(grids ?? {})) {
    const { axes, seconds } = (grid ?? {}) as Partial<CostGrid>
    const count = axes?.reduce((product, axis) => product * axis.length, 1)
    const ascending = axes?.every(
      axis => axis.length > 0 && axis.every((x, i) => positive(x) && (i === 0 || x > axis[i - 1]!)),
    )
    if (!ascending || !seconds || seconds.length !== count || !seconds.every(positive))
      return `${kind} with ascending axes and as many positive seconds`
    if (axes!.length !== axesOf(kind)) return `${kind} with ${axesOf(kind)} axes`
  }
  return grids ? undefined : 'grids'
}

const positive = (value: unknown): boolean => Number.isFinite(value) && (value as number) > 0

const axesOf = (kind: string): number =>
  /^(conv|linear|attention)/.test(kind) ? 3 : kind === 'norm_fold' ? 1 : 2
