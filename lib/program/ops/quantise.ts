import { operand, traceOp } from '../graph.js'
import { defineOp, type OpCall, ruleError } from '../op.js'
import { type Region, regionVolume } from '../region.js'
import { elementCount, type Tensor } from '../tensor.js'
import { rowsOf } from './shared.js'

/** Channels of a pixel that share one scale; must equal kQuantBlock in src/core/commands.h. */
export const quantBlock = 32

/** 32-bit words that store the channels of a pixel: a scale for each block, and a byte for each channel. */
export function storedWords(channels: number): number {
  return Math.ceil(channels / quantBlock) + Math.ceil(channels / 4)
}

/**
 * Eight bits for each value, with one f32 scale for each 32 channels of a pixel: max |x| / 127. The result is opaque, for `dequantise`.
 * @param source f32 [frames, rows, cols, channels]
 * @returns i32 [frames, rows, cols, storedWords(channels)]
 */
export function quantise(source: Tensor): Tensor {
  return traceOp('quantise', [{ role: 'source', tensor: source }])
}

/** What `quantise` stored, to within half a scale. @returns f32 [frames, rows, cols, channels] */
export function dequantise(source: Tensor, channels: number): Tensor {
  return traceOp('dequantise', [{ role: 'source', tensor: source }], { channels })
}

/** A pixel's channels belong together: whatever part of them is wanted, all are read. */
function wholePixels(call: OpCall, _output: Tensor, wanted: Region): Region[] {
  return [rowsOf(operand(call, 'source')!, wanted)]
}

/** Bytes of both sides of a share of the output. */
function cost(call: OpCall, output: Tensor, wanted: Region) {
  const share = regionVolume(wanted) / elementCount(output.shape)
  const elements = elementCount(operand(call, 'source')!.shape) + elementCount(output.shape)
  return { flops: 4 * share * elements, bytes: 4 * share * elements }
}

defineOp({
  name: 'quantise',
  infer(call) {
    const source = operand(call, 'source')
    if (source?.dtype !== 'f32' || source.shape.length !== 4)
      throw ruleError(call, 'a source f32[frames, rows, cols, channels]', source)
    const [frames, rows, cols, channels] = source.shape as [number, number, number, number]
    return { shape: [frames, rows, cols, storedWords(channels)], dtype: 'i32' }
  },
  regions: wholePixels,
  cost,
})

defineOp({
  name: 'dequantise',
  infer(call) {
    const source = operand(call, 'source')
    const channels = call.attrs.channels as number
    const words = source?.shape[3]
    if (source?.dtype !== 'i32' || source.shape.length !== 4 || words !== storedWords(channels))
      throw ruleError(
        call,
        `a source i32[frames, rows, cols, words of ${channels} channels]`,
        source,
      )
    return { shape: [...source.shape.slice(0, 3), channels], dtype: 'f32' }
  },
  regions: wholePixels,
  cost,
})
