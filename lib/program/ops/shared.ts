import type { Attrs, Operand } from '../graph.js'
import { operand, operands } from '../graph.js'
import { type OpCall, ruleError } from '../op.js'
import type { Region } from '../region.js'
import { elementCount, sameShape, type Tensor } from '../tensor.js'

/** Activations that ops may apply; `geglu` only on linear. */
export type Activation = 'none' | 'silu' | 'gelu' | 'quick_gelu' | 'gelu_tanh' | 'sigmoid' | 'geglu'

/** One tensor, or two read as one channel range (a skip beside a feature), never stored together. */
export type Source = Tensor | readonly [Tensor, Tensor]

export function sourceOperands(source: Source): Operand[] {
  return (Array.isArray(source) ? (source as readonly Tensor[]) : [source as Tensor]).map(
    tensor => ({ role: 'source', tensor }),
  )
}

export function optional(role: string, tensor: Tensor | undefined): Operand[] {
  return tensor ? [{ role, tensor }] : []
}

/** A shape or region seen as [frames, rows, cols, channels]: [T, C] is [1, 1, T, C], [B, T, C] is [B, 1, T, C], [C] is [1, 1, 1, C]. */
export function asFour<T>(axes: readonly T[], one: T): [T, T, T, T] {
  const [a, b, c, d] = axes
  switch (axes.length) {
    case 1:
      return [one, one, one, a!]
    case 2:
      return [one, one, a!, b!]
    case 3:
      return [a!, one, b!, c!]
    default:
      return [a!, b!, c!, d!]
  }
}

export function channelsOf(tensor: Tensor): number {
  return tensor.shape[tensor.shape.length - 1]!
}

/** Checks one or two f32 sources that agree in all axes but channels; returns their leading shape and channel sum. */
export function checkSources(call: OpCall, rank?: number): { lead: number[]; channels: number } {
  const sources = operands(call, 'source')
  const first = sources[0]
  if (!first || sources.length > 2) throw ruleError(call, 'one or two sources', `${sources.length}`)
  for (const source of sources) {
    if (source.dtype !== 'f32') throw ruleError(call, 'f32 sources', source)
    if (rank !== undefined && source.shape.length !== rank)
      throw ruleError(call, `sources with ${rank} axes`, source)
    if (!sameShape(source.shape.slice(0, -1), first.shape.slice(0, -1))) {
      throw ruleError(
        call,
        `sources that agree with ${first.name} in all axes but channels`,
        source,
      )
    }
  }
  return {
    lead: first.shape.slice(0, -1),
    channels: sources.reduce((sum, source) => sum + channelsOf(source), 0),
  }
}

/** Checks an optional operand's element count and that it is a float. */
export function checkVector(call: OpCall, role: string, length: number): void {
  const tensor = operand(call, role)
  if (!tensor) return
  if (elementCount(tensor.shape) !== length || tensor.dtype === 'i32')
    throw ruleError(call, `${role} with ${length} values`, tensor)
}

/** An optional operand of exactly the output's shape. */
export function checkSame(call: OpCall, role: string, shape: readonly number[]): void {
  const tensor = operand(call, role)
  if (tensor && !(sameShape(tensor.shape, shape) && tensor.dtype === 'f32')) {
    throw ruleError(call, `${role} f32[${shape.join(', ')}]`, tensor)
  }
}

/** Scale and shift of a norm, [frames or 1, 2, channels]. */
export function checkAffine(call: OpCall, lead: readonly number[], channels: number): void {
  const affine = operand(call, 'affine')
  if (!affine) return
  const frames = asFour([...lead, channels], 1)[0]
  const fits = affine.shape.length === 3 && affine.shape[1] === 2 && affine.shape[2] === channels
  if (!fits || !(affine.shape[0] === 1 || affine.shape[0] === frames)) {
    throw ruleError(call, `affine [${frames} or 1, 2, ${channels}]`, affine)
  }
}

/** The region of a [frames or 1, ...rest] operand for a range of frames: one frame is shared by all. */
export function perFrame(tensor: Tensor, frames: readonly [number, number]): Region {
  return tensor.shape.map((extent, axis) =>
    axis === 0 && extent > 1 ? frames : ([0, extent] as const),
  )
}

export function whole(tensor: Tensor): Region {
  return tensor.shape.map(extent => [0, extent] as const)
}

/** `wanted` with the last axis whole in `tensor`: what a row-wise op reads. */
export function rowsOf(tensor: Tensor, wanted: Region): Region {
  return wanted.map((range, axis) =>
    axis === wanted.length - 1 ? ([0, tensor.shape[axis]!] as const) : range,
  )
}

export function activationOf(attrs: Attrs, key = 'act'): Activation {
  return (attrs[key] as Activation | undefined) ?? 'none'
}

export const activations: readonly Activation[] = [
  'none',
  'silu',
  'gelu',
  'quick_gelu',
  'gelu_tanh',
  'sigmoid',
]

export function checkActivation(
  call: OpCall,
  key = 'act',
  allowed: readonly Activation[] = activations,
): void {
  const act = activationOf(call.attrs, key)
  if (!allowed.includes(act)) throw ruleError(call, `${key} one of ${allowed.join(', ')}`, act)
}
