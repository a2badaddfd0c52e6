import { OptionError } from '../errors.js'
import { betaQuantile } from './beta-quantile.js'
import type { ConfigReader } from './config.js'

const f32 = Math.fround

/** Stands for a last cumulative product of 0, whose sigma would be infinite (diffusers' value). */
export const leastAlpha = 2 ** -24

/** Ratio of noise to signal at each training time step, float32 as PyTorch rounds it. */
export function trainingSigmas(alphas: Float64Array): Float64Array {
  return alphas.map(alpha => f32(Math.sqrt(f32(f32(1 - alpha) / alpha))))
}

export const sigmaKinds = [
  'use_karras_sigmas',
  'use_exponential_sigmas',
  'use_beta_sigmas',
] as const
export type SigmaKind = (typeof sigmaKinds)[number]

/** The spacing of sigmas that a config asks for; undefined: that of the time steps. @throws OptionError for several */
export function sigmaKind(read: ConfigReader): SigmaKind | undefined {
  const kinds = sigmaKinds.filter(key => read.flag(key, false))
  if (kinds.length > 1) {
    throw new OptionError(
      `${read.name}: expected at most one kind of sigmas, got ${kinds.join(' and ')}; set all but one to false`,
    )
  }
  return kinds[0]
}

/** The sigma after the last step. */
export function lastSigma(read: ConfigReader, smallest: number): number {
  return read.choice('final_sigmas_type', ['zero', 'sigma_min'], 'zero') === 'zero' ? 0 : smallest
}

/** `steps` sigmas falling from the config's `sigma_max`, `high` without, to its `sigma_min`, `low` without. @throws OptionError */
export function spacedSigmas(
  read: ConfigReader,
  kind: SigmaKind,
  steps: number,
  high: number,
  low: number,
): Float64Array {
  const least = read.optionalNumber('sigma_min') ?? low
  const most = read.optionalNumber('sigma_max') ?? high
  if (least <= 0 || most < least) {
    throw new OptionError(
      `${read.name}: expected 0 < sigma_min <= sigma_max, got ${least} and ${most}; correct scheduler_config.json`,
    )
  }
  const ramp = Float64Array.from({ length: steps }, (_, i) => (steps === 1 ? 0 : i / (steps - 1)))
  return ramp.map(rampOf(kind, least, most))
}

/** Sigma at x in 0..1, falling from high to low. */
function rampOf(kind: SigmaKind, low: number, high: number): (x: number) => number {
  switch (kind) {
    case 'use_karras_sigmas': {
      const rho = 7
      const [from, to] = [high ** (1 / rho), low ** (1 / rho)]
      return x => (from + x * (to - from)) ** rho
    }
    case 'use_exponential_sigmas':
      return x => Math.exp(Math.log(high) + x * (Math.log(low) - Math.log(high)))
    case 'use_beta_sigmas':
      // arXiv 2407.12173, with its alpha and beta of 0.6.
      return x => low + betaQuantile(1 - x, 0.6, 0.6) * (high - low)
  }
}

/** The time step of a sigma, by linear interpolation of the training sigmas' logarithms. */
export function timestepOf(training: Float64Array): (sigma: number) => number {
  const logs = training.map(sigma => f32(Math.log(sigma)))
  return sigma => indexOf(logs, Math.log(Math.max(sigma, 1e-10)))
}

/** Linear interpolation in a table at a fractional index, held at the ends. */
export function valueAt(table: Float64Array, at: number): number {
  if (at >= table.length - 1) return table[table.length - 1]!
  const low = Math.max(Math.floor(at), 0)
  return table[low]! + (Math.max(at, 0) - low) * (table[low + 1]! - table[low]!)
}

/** Fractional index at which a rising table holds a value, held at the ends. */
function indexOf(table: Float64Array, value: number): number {
  let low = 0
  let high = table.length - 1
  if (high === 0) return 0
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (table[middle]! <= value) low = middle
    else high = middle
  }
  const weight = (value - table[low]!) / (table[high]! - table[low]!)
  return low + Math.min(Math.max(weight, 0), 1)
}
