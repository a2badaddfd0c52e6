import type { ConfigReader } from './config.js'

const f32 = Math.fround
const betaSchedules = ['linear', 'scaled_linear', 'squaredcos_cap_v2'] as const

/**
 * Cumulative products of 1 - beta, one for each training time step. Values are float32, rounded where PyTorch rounds,
 * so that time steps and sigmas derived from them agree with diffusers.
 */
export function alphasCumprod(config: ConfigReader): Float64Array {
  const steps = config.integer('num_train_timesteps', 1000, 1)
  const betas = trainingBetas(config, steps)
  return cumulate(config.flag('rescale_betas_zero_snr', false) ? zeroTerminalSnr(betas) : betas)
}

export function betaSchedule(config: ConfigReader): (typeof betaSchedules)[number] {
  return config.choice('beta_schedule', betaSchedules, 'linear')
}

function trainingBetas(config: ConfigReader, steps: number): Float64Array {
  const trained = config.optionalNumbers('trained_betas')
  if (trained) {
    if (trained.length !== steps)
      config.refuse(
        'trained_betas',
        `${steps} numbers, as num_train_timesteps says`,
        trained.length,
      )
    return Float64Array.from(trained, f32)
  }
  const first = config.number('beta_start', 0.0001)
  const last = config.number('beta_end', 0.02)
  switch (betaSchedule(config)) {
    case 'linear':
      return linspace32(first, last, steps)
    case 'scaled_linear':
      return linspace32(Math.sqrt(first), Math.sqrt(last), steps).map(x => f32(x * x))
    case 'squaredcos_cap_v2':
      return Float64Array.from({ length: steps }, (_, i) =>
        f32(Math.min(1 - cosineBar((i + 1) / steps) / cosineBar(i / steps), 0.999)),
      )
  }
}

function cosineBar(t: number): number {
  return Math.cos((((t + 0.008) / 1.008) * Math.PI) / 2) ** 2
}

/** Float32 steps from both ends towards the middle, each a fused multiply-add, as torch.linspace. */
export function linspace32(first: number, last: number, count: number): Float64Array {
  const a = f32(first)
  const b = f32(last)
  if (count === 1) return Float64Array.of(a)
  const step = f32(f32(b - a) / f32(count - 1))
  return Float64Array.from({ length: count }, (_, i) =>
    i < count >> 1 ? f32(a + step * i) : f32(b - step * (count - 1 - i)),
  )
}

/** PyTorch accumulates float32 products in float64 on the CPU and rounds each output. */
function cumulate(betas: Float64Array): Float64Array {
  let product = 1
  return betas.map(beta => {
    product *= f32(1 - beta)
    return f32(product)
  })
}

/** Betas whose last cumulative product is 0 and whose first is unchanged. arXiv 2305.08891, algorithm 1. */
function zeroTerminalSnr(betas: Float64Array): Float64Array {
  const roots = cumulate(betas).map(x => f32(Math.sqrt(x)))
  const first = roots[0]!
  const last = roots[roots.length - 1]!
  const scale = f32(first / f32(first - last))
  const bars = roots.map(root => {
    const scaled = f32(f32(root - last) * scale)
    return f32(scaled * scaled)
  })
  return bars.map((bar, i) => f32(1 - (i === 0 ? bar : f32(bar / bars[i - 1]!))))
}
