import type { Activation } from '../../lib/program/index.js'

/** Error function, to float64 accuracy: 2/sqrt(pi) e^(-x²) Σ 2ⁿ x^(2n+1) / (2n+1)!!, all terms of one sign. */
export function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x)
  let term = x
  let sum = x
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1)
    sum += term
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum
}

export function gelu(x: number): number {
  return 0.5 * x * (1 + erf(x / Math.SQRT2))
}

/** An activation of one value (not geglu, which takes two). */
export function activate(x: number, act: Activation): number {
  switch (act) {
    case 'none':
      return x
    case 'silu':
      return x / (1 + Math.exp(-x))
    case 'quick_gelu':
      return x / (1 + Math.exp(-1.702 * x))
    case 'gelu':
      return gelu(x)
    case 'sigmoid':
      return 1 / (1 + Math.exp(-x))
    case 'gelu_tanh':
      return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))
    default:
      throw new Error(`${act}: expected an activation of one value`)
  }
}

/** Nearest float16 or bfloat16, ties to even. */
export function roundTo(value: number, dtype: 'f16' | 'bf16'): number {
  if (!Number.isFinite(value) || value === 0) return value
  const [digits, least, most] =
    dtype === 'f16' ? [10, -14, 65504] : [7, -126, 3.3895313892515355e38]
  const exponent = Math.max(least, Math.floor(Math.log2(Math.abs(value))))
  const step = 2 ** (exponent - digits)
  const scaled = value / step
  const floor = Math.floor(scaled)
  const rest = scaled - floor
  const rounded = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor
  const result = rounded * step
  return Math.abs(result) > most ? Math.sign(result) * Number.POSITIVE_INFINITY : result
}
