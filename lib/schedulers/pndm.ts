import { ConfigReader } from './config.js'
import { alphasCumprod } from './noise-schedule.js'
import {
  type Scheduler,
  type SchedulerConfig,
  type SchedulerStep,
  unconverted,
  withoutKeys,
} from './scheduler.js'
import { checkSteps, roundHalfEven, spacedTimesteps, spacings } from './spacing.js'

/** Adams–Bashforth weights on the newest and the past outputs, newest first, for one to four of them. */
const adamsBashforth = [
  [1],
  [3 / 2, -1 / 2],
  [23 / 12, -16 / 12, 5 / 12],
  [55 / 24, -59 / 24, 37 / 24, -9 / 24],
]

/** Weights of the four outputs of a classical Runge–Kutta step. */
const rungeKutta = [1 / 6, 1 / 3, 1 / 3, 1 / 6]

/**
 * Pseudo numerical methods (arXiv 2202.09778, algorithm 2) as diffusers' PNDMScheduler: three Runge–Kutta steps of four evaluations each,
 * then linear multistep ones on four outputs; with `skip_prk_steps`, as Stable Diffusion has it, multistep from the start, whose second
 * evaluation repeats the first step. So there are steps + 9 evaluations, or steps + 1 (1 for a single step).
 * @throws OptionError for wrong values, and fewer than 4 steps with the Runge–Kutta ones.
 */
export function createPndm(config: SchedulerConfig, steps: number): Scheduler {
  const name = 'PNDMScheduler'
  const read = new ConfigReader(name, withoutKeys(config, 'rescale_betas_zero_snr'))
  const trainSteps = read.integer('num_train_timesteps', 1000, 1)
  const offset = read.integer('steps_offset', 0, 0)
  const spacing = read.choice('timestep_spacing', spacings, 'leading')
  const prediction = read.choice('prediction_type', ['epsilon', 'v_prediction'], 'epsilon')
  const skipped = read.flag('skip_prk_steps', false)
  const why = skipped ? '' : ' (skip_prk_steps in scheduler_config.json allows fewer)'
  checkSteps(steps, skipped ? 1 : 4, trainSteps, why)
  const alphas = alphasCumprod(read)
  const finalAlpha = read.flag('set_alpha_to_one', false) ? 1 : alphas[0]!
  const grid = Array.from(spacedTimesteps(spacing, steps, trainSteps, offset), roundHalfEven)
  if (grid[0]! >= trainSteps)
    read.refuse('steps_offset', `time steps below ${trainSteps} with ${steps} steps`, offset)
  const stride = Math.floor(trainSteps / steps)
  const half = Math.floor(stride / 2)

  const trace = new Trace(transfer)
  const past: number[] = []
  if (skipped) {
    const [first, second] = grid as [number, number?]
    const slot = trace.evaluate(first, past)
    past.push(slot)
    trace.move(first, first - stride, [[slot, 1]], 'stay')
    if (second !== undefined) {
      const repeated = trace.evaluate(second, past)
      const mean = [repeated, slot].map((s): Weight => [s, 1 / 2])
      trace.move(second + stride, second, mean, 'go on')
    }
  } else {
    for (let step = 0; step < 3; step++) {
      const [from, to] = [grid[step]!, grid[step + 1]!]
      const times = [from, to + half, to + half, to]
      const own: number[] = []
      for (const [i, time] of times.entries()) {
        const slot = trace.evaluate(time, [...past, ...own])
        own.push(slot)
        const weights =
          i < 3 ? [[slot, 1] as Weight] : own.map((s, j): Weight => [s, rungeKutta[j]!])
        trace.move(from, i % 2 === 0 ? time - half : time, weights, i < 3 ? 'stay' : 'go on')
      }
      past.unshift(own[0]!)
    }
  }
  for (const time of grid.slice(skipped ? 1 : 3)) {
    past.length = Math.min(past.length, 3)
    past.unshift(trace.evaluate(time, past))
    const weights = adamsBashforth[past.length - 1]!
    trace.move(
      time,
      time - stride,
      past.map((s, i) => [s, weights[i]!]),
      'go on',
    )
  }
  const table = trace.steps()
  return {
    name,
    timesteps: Float64Array.from(trace.times),
    slots: table[0]!.predictions.length,
    initNoiseSigma: 1,
    inputScale: () => 1,
    step: i => table[i]!,
  }

  /** From the sample at a time step to that at another, by the noise in between: formula 9. */
  function transfer(from: number, to: number): { sample: number; output: number } {
    const alpha = alphas[from]!
    const next = to >= 0 ? alphas[to]! : finalAlpha
    const sample = Math.sqrt(next / alpha)
    const noise = Math.sqrt(1 - next) - sample * Math.sqrt(1 - alpha)
    if (prediction === 'epsilon') return { sample, output: noise }
    // Noise from a velocity: sqrt(alpha) · v + sqrt(1 - alpha) · x.
    return { sample: sample + noise * Math.sqrt(1 - alpha), output: noise * Math.sqrt(alpha) }
  }
}

type Weight = readonly [slot: number, weight: number]

/**
 * Collects evaluations and moves. Several moves may start from one sample: it is not kept, as the sample after a move and the outputs that
 * made it give it back.
 */
class Trace {
  readonly times: number[] = []
  private readonly moves: { slot: number; sample: number; held: Map<number, number> }[] = []
  private slot = 0
  /** The sample that moves start from, in terms of the current sample and the outputs held. */
  private base = { sample: 1, held: new Map<number, number>() }

  constructor(
    private readonly transfer: (from: number, to: number) => { sample: number; output: number },
  ) {}

  /** An evaluation of the network at a time step; the slot of its output is none of those kept. */
  evaluate(time: number, kept: readonly number[]): number {
    this.times.push(time)
    this.slot = 0
    while (kept.includes(this.slot)) this.slot++
    return this.slot
  }

  /** A move of the base from one time step to another by a weighted sum of outputs; the next starts from the same base, or goes on. */
  move(from: number, to: number, weights: readonly Weight[], then: 'stay' | 'go on'): void {
    const { sample, output } = this.transfer(from, to)
    const { base } = this
    const held = new Map([...base.held].map(([slot, c]) => [slot, c * sample]))
    for (const [slot, weight] of weights) held.set(slot, (held.get(slot) ?? 0) + weight * output)
    this.moves.push({ slot: this.slot, sample: base.sample * sample, held })
    this.base =
      then === 'go on'
        ? { sample: 1, held: new Map() }
        : {
            sample: 1 / sample,
            held: new Map(weights.map(([slot, weight]) => [slot, (-weight * output) / sample])),
          }
  }

  steps(): SchedulerStep[] {
    const slots = 1 + Math.max(...this.moves.map(({ slot }) => slot))
    return this.moves.map(({ slot, sample, held }) => ({
      slot,
      convert: unconverted,
      sample,
      predictions: Array.from({ length: slots }, (_, s) => held.get(s) ?? 0),
      noise: 0,
    }))
  }
}
