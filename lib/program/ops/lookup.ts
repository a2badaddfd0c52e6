import { operand, traceOp } from '../graph.js'
import { defineOp, ruleError } from '../op.js'
import { regionVolume } from '../region.js'
import { elementCount, type Tensor } from '../tensor.js'
import { channelsOf, optional, whole } from './shared.js'

/**
 * Rows of a table: out[t] = table[ids[t]] (+ positions[t]).
 * @param ids i32 [tokens]; @param table [rows, channels], a weight or an activation; @param options.positions [>= tokens, channels]
 * @returns f32 [tokens, channels]. An id outside the table fails the run.
 */
export function embedding(
  ids: Tensor,
  table: Tensor,
  options: { positions?: Tensor } = {},
): Tensor {
  return traceOp('embedding', [
    { role: 'ids', tensor: ids },
    { role: 'table', tensor: table },
    ...optional('positions', options.positions),
  ])
}

/**
 * Sinusoidal embedding of a timestep, or of several numbers side by side: half = dim / 2, frequencies exp(-ln(10000) i / (half - shift)), [sin | cos], or [cos | sin]
 * when flipped (diffusers' Timesteps).
 * @param t f32 [n]; @returns f32 [1, n · dim]
 */
export function timestepEmbedding(
  t: Tensor,
  options: { dim: number; flipSinToCos?: boolean; freqShift?: number; maxPeriod?: number },
): Tensor {
  return traceOp('timestep', [{ role: 't', tensor: t }], {
    dim: options.dim,
    flip: options.flipSinToCos ?? true,
    shift: options.freqShift ?? 0,
    maxPeriod: options.maxPeriod ?? 10000,
  })
}

/**
 * Tokens of an image: a first token before the others, positions added to all.
 * @param first [channels]; @param source f32 [..., channels], its positions in order; @param positions [1 + positions, channels]
 * @returns f32 [1 + positions, channels]
 */
export function prependToken(first: Tensor, source: Tensor, positions: Tensor): Tensor {
  return traceOp('prepend', [
    { role: 'source', tensor: source },
    { role: 'first', tensor: first },
    { role: 'positions', tensor: positions },
  ])
}

/** Rows [start, start + count) of a sequence [tokens, channels]. */
export function tokens(source: Tensor, start: number, count: number): Tensor {
  return traceOp('tokens', [{ role: 'source', tensor: source }], { start, count })
}

/** Nearest upsampling to [rows, cols]: output row r is source row floor(r · in / out). A following conv2d reads through it. */
export function upsampleNearest(source: Tensor, size: readonly [number, number]): Tensor {
  return traceOp('resize', [{ role: 'source', tensor: source }], { size })
}

defineOp({
  name: 'embedding',
  infer(call) {
    const ids = operand(call, 'ids')!
    const table = operand(call, 'table')!
    const positions = operand(call, 'positions')
    if (ids.dtype !== 'i32' || ids.shape.length !== 1) throw ruleError(call, 'ids i32[tokens]', ids)
    if (table.shape.length !== 2 || table.dtype === 'i32')
      throw ruleError(call, 'table [rows, channels] of floats', table)
    const channels = channelsOf(table)
    if (
      positions &&
      (positions.shape.length !== 2 ||
        channelsOf(positions) !== channels ||
        positions.shape[0]! < ids.shape[0]!)
    ) {
      throw ruleError(call, `positions [>= ${ids.shape[0]}, ${channels}]`, positions)
    }
    return { shape: [ids.shape[0]!, channels], dtype: 'f32' }
  },
  regions(call, _output, wanted) {
    return call.inputs.map(({ role, tensor }) => {
      if (role === 'ids') return [wanted[0]!]
      return role === 'positions' ? [wanted[0]!, [0, channelsOf(tensor)]] : whole(tensor)
    })
  },
  cost: (_call, _output, wanted) => ({
    flops: regionVolume(wanted),
    bytes: 12 * regionVolume(wanted),
  }),
})

defineOp({
  name: 'timestep',
  infer(call) {
    const t = operand(call, 't')!
    const dim = call.attrs.dim as number
    if (t.dtype !== 'f32' || t.shape.length !== 1) throw ruleError(call, 't f32[numbers]', t)
    if (!Number.isInteger(dim) || dim < 4 || dim % 2 !== 0)
      throw ruleError(call, 'an even dim of at least 4', `${dim}`)
    return { shape: [1, elementCount(t.shape) * dim], dtype: 'f32' }
  },
  regions: call => call.inputs.map(({ tensor }) => whole(tensor)),
  cost: (_call, output) => ({
    flops: 20 * elementCount(output.shape),
    bytes: 4 * elementCount(output.shape),
  }),
})

defineOp({
  name: 'resize',
  infer(call) {
    const source = operand(call, 'source')!
    const size = call.attrs.size as readonly number[]
    if (source.shape.length !== 4 || source.dtype !== 'f32')
      throw ruleError(call, 'source f32[frames, rows, cols, channels]', source)
    const [frames, rows, cols, channels] = source.shape as [number, number, number, number]
    if (size.length !== 2 || !size.every(Number.isInteger) || size[0]! < rows || size[1]! < cols) {
      throw ruleError(call, `a size of at least ${rows}x${cols}`, `${size}`)
    }
    return { shape: [frames, size[0]!, size[1]!, channels], dtype: 'f32' }
  },
  regions(call, output, [frames, rows, cols, channels]) {
    const source = operand(call, 'source')!
    const map = ([start, stop]: readonly [number, number], axis: number) => {
      const ratio = (index: number) =>
        Math.floor((index * source.shape[axis]!) / output.shape[axis]!)
      return [ratio(start), ratio(stop - 1) + 1] as const
    }
    return [[frames!, map(rows!, 1), map(cols!, 2), channels!]]
  },
  cost: (_call, _output, wanted) => ({ flops: 0, bytes: 8 * regionVolume(wanted) }),
})

defineOp({
  name: 'prepend',
  infer(call) {
    const source = operand(call, 'source')!
    const first = operand(call, 'first')
    const positions = operand(call, 'positions')
    const channels = channelsOf(source)
    const count = elementCount(source.shape) / channels + 1
    if (source.dtype !== 'f32') throw ruleError(call, 'an f32 source', source)
    if (first?.kind !== 'weight' || elementCount(first.shape) !== channels)
      throw ruleError(call, `a weight [${channels}] as first`, first)
    if (positions?.kind !== 'weight' || positions.shape.join() !== `${count},${channels}`) {
      throw ruleError(call, `a weight [${count}, ${channels}] as positions`, positions)
    }
    return { shape: [count, channels], dtype: 'f32' }
  },
  regions: (call, _output, wanted) =>
    call.inputs.map(({ role, tensor }) =>
      role === 'positions' ? [wanted[0]!, [0, channelsOf(tensor)]] : whole(tensor),
    ),
  cost: (_call, _output, wanted) => ({
    flops: regionVolume(wanted),
    bytes: 12 * regionVolume(wanted),
  }),
})

defineOp({
  name: 'tokens',
  infer(call) {
    const source = operand(call, 'source')!
    const { start, count } = call.attrs as { start: number; count: number }
    if (source.dtype !== 'f32' || source.shape.length !== 2)
      throw ruleError(call, 'source f32[tokens, channels]', source)
    if (
      !Number.isInteger(start) ||
      !Number.isInteger(count) ||
      start < 0 ||
      count < 1 ||
      start + count > source.shape[0]!
    ) {
      throw ruleError(call, `tokens within 0 to ${source.shape[0]}`, `${start} to ${start + count}`)
    }
    return { shape: [count, channelsOf(source)], dtype: 'f32' }
  },
  regions(call, _output, [rows, channels]) {
    const start = call.attrs.start as number
    return [[[rows![0] + start, rows![1] + start], channels!]]
  },
  cost: (_call, _output, wanted) => ({ flops: 0, bytes: 8 * regionVolume(wanted) }),
})
