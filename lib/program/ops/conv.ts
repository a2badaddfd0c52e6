import { type Node, operand, operands, traceOp } from '../graph.js'
import {
  type Cost,
  defineOp,
  type OpCall,
  type OpSpec,
  ruleError,
  type Scratch,
  type Target,
} from '../op.js'
import { type Region, regionShape } from '../region.js'
import { elementCount, type Tensor } from '../tensor.js'
import {
  type Activation,
  activationOf,
  activations,
  asFour,
  channelsOf,
  checkActivation,
  checkAffine,
  checkSame,
  checkSources,
  checkVector,
  optional,
  perFrame,
  rowsOf,
  type Source,
  sourceOperands,
  whole,
} from './shared.js'

export interface Conv2dOptions {
  bias?: Tensor
  /** 1, 2, or the kernel's size. */
  stride?: number
  /** Zero rows and columns around the input: one number, or [top, left, bottom, right]. Default: (kernel - 1) / 2; 0 for patches. */
  padding?: number | readonly [number, number, number, number]
  /** Reads the input through a nearest upsampling to [rows, cols]. */
  upsampleTo?: readonly [number, number]
}

/**
 * Convolution, kernel 1x1 or 3x3, stride 1 or 2, channels last; or patches: any square kernel at a stride of its size.
 * @param source f32 [frames, rows, cols, channels], or two read as one channel range
 * @param weight [outputs, channels, kernel, kernel]
 * @returns f32 [frames, rows', cols', outputs]
 */
export function conv2d(source: Source, weight: Tensor, options: Conv2dOptions = {}): Tensor {
  const kernel = weight.shape[2] ?? 1
  const half = (kernel - 1) / 2
  const padding = options.padding ?? (options.stride === kernel ? 0 : half)
  return traceOp(
    'conv2d',
    [
      ...sourceOperands(source),
      { role: 'weight', tensor: weight },
      ...optional('bias', options.bias),
    ],
    {
      stride: options.stride ?? 1,
      padding: typeof padding === 'number' ? [padding, padding, padding, padding] : padding,
      upsampleTo: options.upsampleTo,
    },
  )
}

/**
 * Convolution along the frames, kernel 3x1x1, one zero frame before and one behind.
 * @param source f32 [frames, rows, cols, channels], or two read as one channel range
 * @param weight [outputs, channels, 3, 1, 1]
 * @returns f32 [frames, rows, cols, outputs]
 */
export function convTime(source: Source, weight: Tensor, options: { bias?: Tensor } = {}): Tensor {
  return traceOp('conv_time', [
    ...sourceOperands(source),
    { role: 'weight', tensor: weight },
    ...optional('bias', options.bias),
  ])
}

/**
 * Matrix product over the last axis: source · weightᵀ + bias.
 * @param source f32 [..., inputs], or two read as one channel range
 * @param weight [outputs, inputs] (or [outputs, inputs, 1, 1])
 * @param options.act applied to the result; `geglu` takes [2n, inputs] and returns [..., n]: value · gelu(gate)
 */
export function linear(
  source: Source,
  weight: Tensor,
  options: { bias?: Tensor; act?: Activation } = {},
): Tensor {
  return traceOp(
    'linear',
    [
      ...sourceOperands(source),
      { role: 'weight', tensor: weight },
      ...optional('bias', options.bias),
    ],
    { act: options.act },
  )
}

/** Where a convolution reads: sizes, padding and the upsampling that it reads through. */
export interface ConvGeometry {
  kernel: number
  stride: number
  padTop: number
  padLeft: number
  /** Logical input size, after upsampling. */
  inRows: number
  inCols: number
  /** Size of the sources as stored. */
  physRows: number
  physCols: number
}

export function convGeometry(call: Pick<Node, 'op' | 'inputs' | 'attrs'>): ConvGeometry {
  const [, physRows, physCols] = asFour(operands(call, 'source')[0]!.shape, 1)
  if (call.op === 'linear')
    return {
      kernel: 1,
      stride: 1,
      padTop: 0,
      padLeft: 0,
      inRows: physRows,
      inCols: physCols,
      physRows,
      physCols,
    }
  const padding = call.attrs.padding as readonly number[]
  const upsampled = call.attrs.upsampleTo as readonly [number, number] | undefined
  return {
    kernel: operand(call, 'weight')!.shape[2]!,
    stride: call.attrs.stride as number,
    padTop: padding[0]!,
    padLeft: padding[1]!,
    inRows: upsampled?.[0] ?? physRows,
    inCols: upsampled?.[1] ?? physCols,
    physRows,
    physCols,
  }
}

/** Whether it reads a 3x3 neighbourhood, at stride 1, of an image upsampled to exactly twice its rows and columns. */
export function readsDoubled({ kernel, stride, ...sizes }: ConvGeometry): boolean {
  const { inRows, inCols, physRows, physCols } = sizes
  return kernel === 3 && stride === 1 && inRows === 2 * physRows && inCols === 2 * physCols
}

/** Whether a convolution of a doubled image is computed by phases: the taps that fall on one stored pixel as one. */
export const inPhases = (call: Pick<Node, 'attrs'>): boolean => call.attrs.phases === true

/** Stored pixels under an output of one of the four phases. */
const tapsOfPhase = 4
/** Of all phases together. */
export const phaseTaps = 4 * tapsOfPhase

/** Rows of the source under output rows [start, stop): clipped to the input, mapped through the upsampling. */
function readRange(
  [start, stop]: readonly [number, number],
  stride: number,
  kernel: number,
  pad: number,
  logical: number,
  physical: number,
): readonly [number, number] {
  const first = Math.max(0, start * stride - pad)
  const last = Math.min(logical - 1, (stop - 1) * stride - pad + kernel - 1)
  return [Math.floor((first * physical) / logical), Math.floor((last * physical) / logical) + 1]
}

function convRegions(call: OpCall, _output: Tensor, wanted: Region): Region[] {
  const geometry = convGeometry(call)
  const [frames, rows, cols, channels] = asFour(wanted, [0, 1] as const)
  const readRows = readRange(
    rows,
    geometry.stride,
    geometry.kernel,
    geometry.padTop,
    geometry.inRows,
    geometry.physRows,
  )
  const readCols = readRange(
    cols,
    geometry.stride,
    geometry.kernel,
    geometry.padLeft,
    geometry.inCols,
    geometry.physCols,
  )
  const paired = activationOf(call.attrs) === 'geglu'
  return call.inputs.map(({ role, tensor }) => {
    switch (role) {
      case 'source':
        return call.op === 'linear'
          ? rowsOf(tensor, wanted)
          : [frames, readRows, readCols, [0, tensor.shape[3]!]]
      case 'weight':
      case 'bias':
        return paired
          ? whole(tensor)
          : tensor.shape.map((extent, axis) => (axis === 0 ? channels : [0, extent]))
      case 'vector':
        return tensor.shape.length === 1
          ? [channels]
          : [tensor.shape[0]! > 1 ? frames : [0, 1], channels]
      case 'residual':
        return wanted
      default:
        return perFrame(tensor, frames)
    }
  })
}

function convCost(this: OpSpec, call: OpCall, output: Tensor, wanted: Region): Cost {
  const weight = operand(call, 'weight')!
  const perOutput = inPhases(call)
    ? tapsOfPhase * weight.shape[1]!
    : elementCount(weight.shape.slice(1)) * (activationOf(call.attrs) === 'geglu' ? 2 : 1)
  const outputs = elementCount(regionShape(wanted))
  const reads = this.regions(call, output, wanted).reduce(
    (sum, region) => sum + elementCount(regionShape(region)),
    0,
  )
  return { flops: 2 * outputs * perOutput, bytes: 4 * (outputs + reads) }
}

/** Taps of a temporal convolution, of which one lies before the output frame. */
export const timeKernel = 3

function timeRegions(call: OpCall, _output: Tensor, wanted: Region): Region[] {
  const [frames, rows, cols, channels] = wanted as [Region[0], Region[0], Region[0], Region[0]]
  const count = operands(call, 'source')[0]!.shape[0]!
  return call.inputs.map(({ role, tensor }) => {
    switch (role) {
      case 'source':
        return [
          readRange(frames, 1, timeKernel, 1, count, count),
          rows,
          cols,
          [0, tensor.shape[3]!],
        ]
      case 'weight':
      case 'bias':
        return tensor.shape.map((extent, axis) => (axis === 0 ? channels : [0, extent]))
      case 'vector':
        return tensor.shape.map((_, axis) => (axis === tensor.shape.length - 1 ? channels : [0, 1]))
      case 'residual':
        return wanted
      default:
        return whole(tensor)
    }
  })
}

/** Most bytes of a packed input tile while it has more than a single pixel row. */
const tileBytes = 416 * 1024
/** Elements of weights from which on tiles are large and small frames share one, so that weights are read less often. */
const manyWeights = 2 ** 18

const weightsOf = (call: OpCall): number => elementCount(operand(call, 'weight')!.shape)

/** Most output pixels of a packed input tile; by phases four times as many, since one of them passes over each weight. */
const tilePixels = (call: OpCall): number =>
  (weightsOf(call) >= manyWeights ? 256 : 128) * (inPhases(call) ? 4 : 1)

/**
 * The packed input tile of one thread: tile rows x tile cols output pixels with their halo, a block of input channels; where that is
 * a whole frame, several of them. tile = [tileRows, tileCols, pixelStride].
 * A smaller region never needs more: what is planned for the largest slice must do for the last.
 */
function convScratch(call: OpCall, _output: Tensor, wanted: Region, target: Target): Scratch {
  if (target.backend !== 'cpu' || convInPlace(call, target)) return noScratch(call)
  const [frames, rows, cols] = asFour(regionShape(wanted), 1)
  // Of more rows than fill the narrowest tile, which has eight columns, all tiles are the same.
  const most = Math.min(rows, Math.ceil(tilePixels(call) / Math.min(cols, 8)))
  let bytesPerThread = 0
  for (let count = 1; count <= most; count++)
    bytesPerThread = Math.max(bytesPerThread, convTile(call, frames, count, cols, target).bytes)
  const { tileRows, tileCols, pixelStride, bytes } = convTile(call, frames, rows, cols, target)
  const tile = [tileRows, tileCols, pixelStride]
  return { bytesPerThread: Math.max(bytes, bytesPerThread), tile }
}

function convTile(call: OpCall, frames: number, rows: number, cols: number, target: Target) {
  const { kernel, stride } = convGeometry(call)
  const phases = inPhases(call)
  const most = tilePixels(call)
  const size = elementSize(call, target)
  const pixelStride = packedStride(call, size)
  // Rows or columns under so many outputs: conv_packed in src/core/commands.h.
  const packed = (outputs: number) =>
    phases ? Math.floor(outputs / 2) + 2 : (outputs - 1) * stride + kernel
  const bytesOf = (tileRows: number, tileCols: number) =>
    packed(tileRows) * packed(tileCols) * pixelStride * size
  // A square has the least halo, but few rows ask for wide tiles.
  let widest = kernel === 1 ? most : 64
  while (kernel > 1 && widest > 16 && widest * rows > most) widest /= 2
  while (widest > 8 && bytesOf(1, widest) > tileBytes) widest -= widest > 32 ? 16 : widest / 2
  const tileCols = Math.min(cols, widest)
  let tileRows = Math.max(1, Math.min(rows, Math.floor(most / tileCols)))
  while (tileRows > 1 && bytesOf(tileRows, tileCols) > tileBytes) tileRows--
  const bytes = bytesOf(tileRows, tileCols)
  const whole = tileRows === rows && tileCols === cols
  const together =
    whole && weightsOf(call) >= manyWeights
      ? Math.min(frames, Math.floor(most / (rows * cols)), Math.floor(tileBytes / bytes))
      : 1
  return { tileRows, tileCols, pixelStride, bytes: bytes * Math.max(1, together) }
}

/** Whether sources are read where they are, so that nothing is packed: conv_in_place in src/core/commands.h. */
function convInPlace(call: OpCall, target: Target): boolean {
  const { kernel, inRows, inCols, physRows, physCols } = convGeometry(call)
  const [outputs] = operand(call, 'weight')!.shape as [number]
  const paired = activationOf(call.attrs) === 'geglu'
  return (
    kernel === 1 &&
    inRows === physRows &&
    inCols === physCols &&
    !operand(call, 'affine') &&
    activationOf(call.attrs, 'prologueAct') === 'none' &&
    outputs / (paired ? 2 : 1) > fewOutputs &&
    elementSize(call, target) === 4 &&
    (!paired || operands(call, 'source').length === 1)
  )
}

/** A GPU's kernels keep their tiles in the multiprocessor, and choose them themselves; without a tile there is nothing to choose. */
function noScratch(call: OpCall): Scratch {
  return { bytesPerThread: 0, tile: [1, 1, packedStride(call)] }
}

/** Input channels packed at a time: conv_block in src/core/commands.h. */
export function convBlock(channels: number, taps: number, act: Activation): number {
  const most = taps === 1 ? 960 : 320
  if (act === 'geglu' || channels <= most) return channels
  const blocks = Math.ceil(channels / most)
  return 16 * Math.ceil(Math.ceil(channels / blocks) / 16)
}

/** Outputs up to which lanes of input channels are summed, in float32: kFewOutputs in src/core/commands.h. */
export const fewOutputs = 4

/** Bytes of a packed element: bfloat16 where two input channels are taken at a time, conv_in_pairs in src/core/commands.h. */
function elementSize(call: OpCall, target: Target): number {
  const [outputs, inputs] = operand(call, 'weight')!.shape as [number, number]
  const written = activationOf(call.attrs) === 'geglu' ? outputs / 2 : outputs
  return target.compute === 'bf16' && inputs % 2 === 0 && written > fewOutputs ? 2 : 4
}

/** Elements between pixels of a packed tile: no multiple of 1 KiB, where eight pixels fall in one cache set. */
function packedStride(call: OpCall, size = 4): number {
  const channels = operands(call, 'source').reduce((sum, source) => sum + channelsOf(source), 0)
  const taps = elementCount(operand(call, 'weight')!.shape.slice(2))
  const block = convBlock(channels, taps, activationOf(call.attrs))
  return (block * size) % 1024 === 0 ? block + 64 / size : block
}

/** Most frames times pixels in a packed tile of a temporal convolution, halo included. */
const timeTile = 256

/** As convScratch, for frames seen as rows and pixels as columns: all frames of a few pixels, so that little is packed twice. */
function timeScratch(call: OpCall, _output: Tensor, wanted: Region, target: Target): Scratch {
  if (target.backend !== 'cpu') return noScratch(call)
  const [frames, rows, cols] = regionShape(wanted) as [number, number, number, number]
  const size = elementSize(call, target)
  const pixelStride = packedStride(call, size)
  const halo = timeKernel - 1
  const most = Math.min(timeTile, Math.floor(tileBytes / (size * pixelStride)))
  const tileRows = Math.min(frames, timeTile / 2)
  const packed = tileRows + halo
  const tileCols = Math.min(rows * cols, Math.max(1, Math.floor(most / packed)))
  const bytes = size * pixelStride * Math.max(packed, Math.min(packed * rows * cols, most))
  return { bytesPerThread: bytes, tile: [tileRows, tileCols, pixelStride] }
}

defineOp({
  name: 'conv2d',
  infer(call) {
    const { lead, channels } = checkSources(call, 4)
    const weight = operand(call, 'weight')
    const [outputs, inputs, kernel, kernelCols] = weight?.shape ?? []
    const patches = call.attrs.stride === kernel
    if (
      weight?.shape.length !== 4 ||
      inputs !== channels ||
      kernel !== kernelCols ||
      (kernel !== 1 && kernel !== 3 && !patches)
    ) {
      throw ruleError(call, `weight [outputs, ${channels}, 1 or 3, same]`, weight)
    }
    const padding = call.attrs.padding as readonly number[]
    const { stride, inRows, inCols, physRows, physCols } = convGeometry(call)
    if (stride !== 1 && stride !== 2 && !patches)
      throw ruleError(call, 'stride 1 or 2', `${stride}`)
    if (padding.length !== 4 || !padding.every(p => Number.isInteger(p) && p >= 0 && p < kernel!)) {
      throw ruleError(call, `padding of 0 to ${kernel! - 1} on four sides`, `${padding}`)
    }
    if (inPhases(call) && !readsDoubled(convGeometry(call)))
      throw ruleError(call, 'a kernel of 3x3 over an input of twice the size for phases', 'another')
    if (inRows < physRows || inCols < physCols)
      throw ruleError(call, `upsampleTo at least ${physRows}x${physCols}`, `${inRows}x${inCols}`)
    const rows = Math.floor((inRows + padding[0]! + padding[2]! - kernel!) / stride) + 1
    const cols = Math.floor((inCols + padding[1]! + padding[3]! - kernel!) / stride) + 1
    if (rows < 1 || cols < 1)
      throw ruleError(call, 'an input at least as large as the kernel', `${inRows}x${inCols}`)
    const shape = [lead[0]!, rows, cols, outputs!]
    checkVector(call, 'bias', outputs!)
    checkSame(call, 'residual', shape)
    checkAffine(call, lead, channels)
    checkActivation(call)
    checkActivation(call, 'prologueAct')
    return { shape, dtype: 'f32' }
  },
  regions: convRegions,
  cost: convCost,
  scratch: convScratch,
  inPlace: ['residual'],
})

defineOp({
  name: 'linear',
  infer(call) {
    const { lead, channels } = checkSources(call)
    const weight = operand(call, 'weight')
    if (
      !weight ||
      weight.shape.length < 2 ||
      weight.shape[1] !== channels ||
      elementCount(weight.shape.slice(2)) !== 1
    ) {
      throw ruleError(call, `weight [outputs, ${channels}]`, weight)
    }
    const paired = activationOf(call.attrs) === 'geglu'
    const outputs = weight.shape[0]! / (paired ? 2 : 1)
    if (!Number.isInteger(outputs))
      throw ruleError(call, 'an even number of outputs for geglu', weight)
    const shape = [...lead, outputs]
    checkVector(call, 'bias', weight.shape[0]!)
    checkSame(call, 'residual', shape)
    checkAffine(call, lead, channels)
    checkActivation(call, 'act', [...activations, 'geglu'])
    checkActivation(call, 'prologueAct')
    if (paired && (operand(call, 'residual') || operand(call, 'vector')))
      throw ruleError(call, 'no residual or vector with geglu', 'one')
    return { shape, dtype: 'f32' }
  },
  regions: convRegions,
  cost: convCost,
  scratch: convScratch,
  inPlace: ['residual'],
})

defineOp({
  name: 'conv_time',
  infer(call) {
    const { lead, channels } = checkSources(call, 4)
    const weight = operand(call, 'weight')
    const [outputs, inputs, ...taps] = weight?.shape ?? []
    if (
      !weight ||
      inputs !== channels ||
      taps[0] !== timeKernel ||
      elementCount(taps) !== timeKernel
    ) {
      throw ruleError(call, `weight [outputs, ${channels}, ${timeKernel}, 1, 1]`, weight)
    }
    const shape = [...lead, outputs!]
    checkVector(call, 'bias', outputs!)
    checkVector(call, 'vector', outputs!)
    checkSame(call, 'residual', shape)
    checkAffine(call, [1, ...lead.slice(1)], channels)
    checkActivation(call)
    checkActivation(call, 'prologueAct')
    return { shape, dtype: 'f32' }
  },
  regions: timeRegions,
  cost: convCost,
  scratch: timeScratch,
  inPlace: ['residual'],
})
