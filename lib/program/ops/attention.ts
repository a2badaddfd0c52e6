import { operand, traceOp } from '../graph.js'
import { defineOp, type OpCall, ruleError } from '../op.js'
import { type Region, regionShape, regionVolume } from '../region.js'
import { elementCount, sameShape, type Tensor } from '../tensor.js'
import { asFour, channelsOf, whole } from './shared.js'

export interface AttentionOptions {
  heads: number
  /**
   * `space`: tokens are the rows and columns of a frame (or the sequence of a [T, C] tensor), frames are the batch;
   * `time`: tokens are the frames, every pixel apart, read as a strided view.
   */
  over?: 'space' | 'time'
  /** A token sees itself and earlier ones. */
  causal?: boolean
}

/**
 * softmax(q kᵀ / √d) v per head, with an online softmax: scores are never stored.
 * @param q f32 [..., heads·d]; @param k, v the same axes, or [tokens, heads·d] shared by all frames (cross-attention)
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  return traceOp(
    'attention',
    [
      { role: 'q', tensor: q },
      { role: 'k', tensor: k },
      { role: 'v', tensor: v },
    ],
    { heads: options.heads, over: options.over ?? 'space', causal: options.causal ?? false },
  )
}

/** Key tokens that one query sees at most. */
export function keyTokens(call: Pick<OpCall, 'inputs' | 'attrs'>): number {
  const [frames, rows, cols] = asFour(operand(call, 'k')!.shape, 1)
  return call.attrs.over === 'time' ? frames : rows * cols
}

function keyRegion(call: OpCall, key: Tensor, wanted: Region): Region {
  const q = operand(call, 'q')!
  if (key.shape.length < q.shape.length) return whole(key)
  if (call.attrs.over === 'time')
    return key.shape.map((extent, axis) => (axis === 0 || axis === 3 ? [0, extent] : wanted[axis]!))
  return key.shape.map((extent, axis) =>
    axis === 0 && key.shape.length > 2 ? wanted[0]! : [0, extent],
  )
}

/** Channels of the heads that a channel range touches. */
function headChannels(call: OpCall, wanted: Region): readonly [number, number] {
  const size = channelsOf(operand(call, 'q')!) / (call.attrs.heads as number)
  const [start, stop] = wanted[wanted.length - 1]!
  return [Math.floor(start / size) * size, Math.ceil(stop / size) * size]
}

/** attention_scores_stride in src/core/commands.h. */
const scoresStride = (blockK: number): number => (blockK % 256 === 0 ? blockK + 16 : blockK)

defineOp({
  name: 'attention',
  infer(call) {
    const q = operand(call, 'q')!
    const k = operand(call, 'k')!
    const v = operand(call, 'v')!
    const channels = channelsOf(q)
    const heads = call.attrs.heads as number
    if (!Number.isInteger(heads) || heads < 1 || channels % heads !== 0)
      throw ruleError(call, `heads that divide ${channels} channels`, `${heads}`)
    for (const tensor of [q, k, v])
      if (tensor.dtype !== 'f32') throw ruleError(call, 'f32 q, k and v', tensor)
    if (!sameShape(k.shape, v.shape))
      throw ruleError(call, `v of k's shape [${k.shape.join(', ')}]`, v)
    const shared = k.shape.length === 2 && q.shape.length > 2 && call.attrs.over === 'space'
    const alike =
      k.shape.length === q.shape.length &&
      (q.shape.length < 3 || call.attrs.over === 'time' || k.shape[0] === q.shape[0])
    if (channelsOf(k) !== channels || !(shared || alike))
      throw ruleError(call, `k with ${channels} channels and q's batch`, k)
    if (
      call.attrs.over === 'time' &&
      (q.shape.length !== 4 || !sameShape(q.shape.slice(1), k.shape.slice(1)))
    ) {
      throw ruleError(call, 'q and k [frames, rows, cols, channels] of the same pixels', k)
    }
    if (call.attrs.over !== 'time' && call.attrs.over !== 'space')
      throw ruleError(call, 'over space or time', `${call.attrs.over}`)
    return { shape: [...q.shape], dtype: 'f32' }
  },
  regions(call, _output, wanted) {
    const channels = headChannels(call, wanted)
    return call.inputs.map(({ role, tensor }) => {
      const region = role === 'q' ? wanted : keyRegion(call, tensor, wanted)
      return region.map((range, axis) => (axis === region.length - 1 ? channels : range))
    })
  },
  cost(call, output, wanted) {
    const elements = regionVolume(wanted)
    const reads = this.regions(call, output, wanted).reduce(
      (sum, region) => sum + elementCount(regionShape(region)),
      0,
    )
    return { flops: 4 * elements * keyTokens(call), bytes: 4 * (elements + reads) }
  },
  scratch(call, _output, wanted, target) {
    // A GPU's kernels keep their blocks in the multiprocessor, and choose them themselves.
    if (target.backend !== 'cpu') return { bytesPerThread: 0, tile: [8, 16] }
    const headDim = channelsOf(operand(call, 'q')!) / (call.attrs.heads as number)
    const padded = Math.ceil(headDim / 16) * 16
    const [frames, rows, cols] = asFour(regionShape(wanted), 1)
    const queries = call.attrs.over === 'time' ? frames : rows * cols
    // Keys are packed anew for every block of queries: as many as some 80 KB hold.
    const most = Math.max(64, Math.floor(20_000 / (headDim + padded + 2) / 8) * 8)
    const blockQ = Math.min(most, Math.ceil(queries / 8) * 8)
    // Keys and values of a block stay in the second-level cache beside the scores.
    const blockK = Math.min(headDim > 256 ? 128 : 256, Math.ceil(keyTokens(call) / 16) * 16)
    const floats =
      blockK * (headDim + padded) + 8 * scoresStride(blockK) + blockQ * (padded + headDim + 2)
    return { bytesPerThread: 4 * floats, tile: [blockQ, blockK] }
  },
})
