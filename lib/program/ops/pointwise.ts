import { operand, operands, traceOp } from '../graph.js'
import { defineOp, type OpCall, ruleError } from '../op.js'
import { type Region, regionVolume } from '../region.js'
import { type DType, elementCount, sameShape, type Tensor } from '../tensor.js'
import { type Activation, asFour, checkActivation } from './shared.js'

/** Applies an activation element by element. */
export function activation(source: Tensor, act: Activation): Tensor {
  return traceOp('unary', [{ role: 'source', tensor: source }], { act })
}
/** 1 / (1 + e^-x), f32 whatever the source: mixing factors are stored as weights of any dtype. */
export function sigmoid(source: Tensor): Tensor {
  return traceOp(
    'unary',
    [{ role: 'source', tensor: source }],
    { act: 'sigmoid', dtype: 'f32' },
    'sigmoid',
  )
}
export const silu = (source: Tensor): Tensor => activation(source, 'silu')
export const gelu = (source: Tensor): Tensor => activation(source, 'gelu')
export const quickGelu = (source: Tensor): Tensor => activation(source, 'quick_gelu')

/** Converts between f32, f16 and bf16, to nearest even. */
export function cast(source: Tensor, dtype: DType): Tensor {
  return traceOp('unary', [{ role: 'source', tensor: source }], { act: 'none', dtype })
}

/**
 * Element-wise a op b. `b` has a's shape, or is broadcast: [channels] or [1, channels] to every position, [frames, channels] to the
 * positions of a frame of a 4-axis `a`, [1] to all.
 */
export function add(a: Tensor, b: Tensor): Tensor {
  return binary('add', a, b)
}
export function sub(a: Tensor, b: Tensor): Tensor {
  return binary('sub', a, b)
}
export function mul(a: Tensor, b: Tensor): Tensor {
  return binary('mul', a, b)
}
/** a + t (b - a), t one value [1]. Guidance is lerp(unconditional, conditional, scale). */
export function lerp(a: Tensor, b: Tensor, t: Tensor): Tensor {
  return traceOp(
    'binary',
    [
      { role: 'a', tensor: a },
      { role: 'b', tensor: b },
      { role: 't', tensor: t },
    ],
    { op: 'lerp' },
    'lerp',
  )
}

function binary(op: string, a: Tensor, b: Tensor): Tensor {
  return traceOp(
    'binary',
    [
      { role: 'a', tensor: a },
      { role: 'b', tensor: b },
    ],
    { op },
    op,
  )
}

/** Sum of up to four tensors of one shape, each times a coefficient: a scheduler's step. @param coefficients f32 [tensors] */
export function combine(coefficients: Tensor, tensors: readonly Tensor[]): Tensor {
  return traceOp('combine', [
    { role: 'coefficients', tensor: coefficients },
    ...tensors.map(tensor => ({ role: 'source', tensor })),
  ])
}

/** How `b` repeats along `a`: its shape seen as four axes with 1 where it repeats; undefined: it does not fit. */
export function broadcastShape(
  a: readonly number[],
  b: readonly number[],
): [number, number, number, number] | undefined {
  const full = asFour(a, 1)
  if (sameShape(a, b)) return full
  const channels = full[3]
  if (elementCount(b) === 1) return [1, 1, 1, 1]
  if (elementCount(b) === channels && b[b.length - 1] === channels) return [1, 1, 1, channels]
  if (a.length === 4 && b.length === 2 && b[0] === full[0] && b[1] === channels)
    return [full[0], 1, 1, channels]
  return undefined
}

function sameElements(call: OpCall, wanted: Region): Region[] {
  return call.inputs.map(({ role, tensor }) =>
    role === 'source' ? wanted : tensor.shape.map(extent => [0, extent] as const),
  )
}

defineOp({
  name: 'unary',
  infer(call) {
    const source = operand(call, 'source')!
    if (source.dtype === 'i32') throw ruleError(call, 'a float source', source)
    const dtype = (call.attrs.dtype as DType | undefined) ?? source.dtype
    if (dtype === 'i32' || !['f32', 'f16', 'bf16'].includes(dtype))
      throw ruleError(call, 'dtype f32, f16 or bf16', dtype)
    checkActivation(call)
    return { shape: [...source.shape], dtype }
  },
  regions: (call, _output, wanted) => sameElements(call, wanted),
  cost: (_call, _output, wanted) => ({
    flops: 8 * regionVolume(wanted),
    bytes: 8 * regionVolume(wanted),
  }),
  inPlace: ['source'],
})

defineOp({
  name: 'binary',
  infer(call) {
    const a = operand(call, 'a')!
    const b = operand(call, 'b')!
    for (const { tensor } of call.inputs)
      if (tensor.dtype !== 'f32' && tensor.kind !== 'weight')
        throw ruleError(call, 'f32 operands', tensor)
    if (!broadcastShape(a.shape, b.shape))
      throw ruleError(call, `b that fits or repeats along [${a.shape.join(', ')}]`, b)
    const t = operand(call, 't')
    if (call.attrs.op === 'lerp' && (!t || elementCount(t.shape) !== 1))
      throw ruleError(call, 't with one value', t)
    return { shape: [...a.shape], dtype: 'f32' }
  },
  regions(call, output, wanted) {
    const four = asFour(wanted, [0, 1] as const)
    return call.inputs.map(({ role, tensor }) => {
      if (role === 'a') return wanted
      if (role === 't') return [[0, 1]]
      if (sameShape(tensor.shape, output.shape)) return wanted
      // Repeated: [1], [channels], [1, channels] or [frames, channels].
      const axes = broadcastShape(output.shape, tensor.shape)!
      const last = axes[3] > 1 ? four[3] : ([0, 1] as const)
      return tensor.shape.map((extent, axis) => {
        if (axis === tensor.shape.length - 1) return last
        return extent > 1 ? four[0] : ([0, extent] as const)
      })
    })
  },
  cost: (_call, _output, wanted) => ({
    flops: 2 * regionVolume(wanted),
    bytes: 12 * regionVolume(wanted),
  }),
  inPlace: ['a'],
})

defineOp({
  name: 'combine',
  infer(call) {
    const sources = operands(call, 'source')
    const first = sources[0]
    const coefficients = operand(call, 'coefficients')!
    if (!first || sources.length > 4) throw ruleError(call, '1 to 4 sources', `${sources.length}`)
    for (const source of sources) {
      if (source.dtype !== 'f32' || !sameShape(source.shape, first.shape))
        throw ruleError(call, `sources f32[${first.shape.join(', ')}]`, source)
    }
    if (coefficients.dtype !== 'f32' || elementCount(coefficients.shape) !== sources.length) {
      throw ruleError(call, `coefficients f32[${sources.length}]`, coefficients)
    }
    return { shape: [...first.shape], dtype: 'f32' }
  },
  regions: (call, _output, wanted) => sameElements(call, wanted),
  cost(call, _output, wanted) {
    const elements = regionVolume(wanted)
    const count = operands(call, 'source').length
    return { flops: 2 * count * elements, bytes: 4 * (count + 1) * elements }
  },
  inPlace: ['source'],
})
