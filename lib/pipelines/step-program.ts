import type { StageSpec, StateSpec } from '../planner/plan.js'
import { add, combine, lerp, mul, type Program, program, sub } from '../program/index.js'
import type { Tensor } from '../program/tensor.js'
import type { Bindings } from '../runtime/stage.js'
import type { Scheduler } from '../schedulers/index.js'

/** Most tensors of one `combine`. */
const mostSources = 4

/** Whether the network reads the latents times a factor of the step. */
export function needsScaling(scheduler: Scheduler): boolean {
  return scheduler.timesteps.some((_, i) => scheduler.inputScale(i) !== 1)
}

/** Whether a step adds fresh noise. */
export function drawsNoise(scheduler: Scheduler): boolean {
  return scheduler.timesteps.some((_, i) => scheduler.step(i).noise !== 0)
}

/** The state that holds the network's prediction of a slot; a solver that does not look back has slot 0 alone. */
export function predictionOf(slot: number): string {
  return slot === 0 ? 'predicted' : `predicted${slot}`
}

/**
 * What a scheduler adds to a stage that denoises `latents`: the programs `step` and, where it scales the network's input, `scale`; the
 * state that these read and write; how often they run.
 * @param latents [frames, rows, cols, channels]
 * @param guidance g of unconditional + g · (conditional - unconditional): [1] for one scale, [frames, channels] for one of each frame;
 *   undefined: the conditional half alone
 */
export function solverParts(
  scheduler: Scheduler,
  latents: StateSpec,
  guidance: StateSpec | undefined,
): Required<Pick<StageSpec, 'state' | 'programs' | 'runs'>> {
  const { shape } = latents
  const scaled = needsScaling(scheduler)
  const vector = (count: number): StateSpec => ({ shape: [count], dtype: 'f32' })
  const slots = Array.from({ length: scheduler.slots }, (_, slot) => [predictionOf(slot), latents])
  const coefficients = stepValues(scheduler, 0).map(({ name, values }) => [
    name,
    vector(values.length),
  ])
  const evaluations = scheduler.timesteps.length
  return {
    state: {
      ...Object.fromEntries(slots),
      ...Object.fromEntries(coefficients),
      ...(drawsNoise(scheduler) && { noise: latents }),
      ...(guidance && { predictedUnconditional: latents, guidance }),
      ...(scaled && { scaled: latents, inputScale: vector(1) }),
    },
    programs: {
      step: stepProgram(scheduler, shape, guidance?.shape),
      ...(scaled && { scale: scaleProgram(shape) }),
    },
    runs: { step: evaluations, scale: evaluations },
  }
}

/**
 * Guidance and the scheduler's step (see SchedulerStep). With past predictions the new one is converted and held first, over the network's
 * output; without, both are one sum of the latents and the network's output.
 */
function stepProgram(
  scheduler: Scheduler,
  shape: readonly number[],
  guidance: readonly number[] | undefined,
): Program {
  const past = scheduler.slots - 1
  return program('step', trace => {
    const latents = trace.input('latents', shape)
    const conditional = trace.input('predicted', shape)
    const guided = (scaleShape: readonly number[]) => {
      const unconditional = trace.input('predictedUnconditional', shape)
      const scale = trace.input('guidance', scaleShape)
      return scaleShape.length === 1
        ? lerp(unconditional, conditional, scale)
        : add(mul(sub(conditional, unconditional), scale), unconditional)
    }
    const output = guidance ? guided(guidance) : conditional
    const held = past > 0 ? combine(trace.input('conversion', [2]), [latents, output]) : undefined
    const sources = [latents, held ?? output]
    for (let i = 0; i < past; i++) sources.push(trace.input(`past${i}`, shape))
    if (drawsNoise(scheduler)) sources.push(trace.input('noise', shape))
    const next = sum(sources, (name, count) => trace.input(name, [count]))
    return { ...(held && { held }), latents: next }
  })
}

/** A sum of weighted tensors; beyond what one combine takes, the sum so far goes into another. */
function sum(
  tensors: readonly Tensor[],
  coefficients: (name: string, count: number) => Tensor,
): Tensor {
  const [first, ...rest] = chunks(tensors)
  let total = combine(coefficients(coefficientsOf(0), first!.length), first!)
  for (const [i, part] of rest.entries())
    total = combine(coefficients(coefficientsOf(i + 1), part.length + 1), [total, ...part])
  return total
}

const coefficientsOf = (chunk: number): string =>
  chunk === 0 ? 'coefficients' : `coefficients${chunk}`

/** What each combine adds: the first takes as many as it can, the others as many beside the sum so far. */
function chunks<T>(items: readonly T[]): T[][] {
  const list = [items.slice(0, mostSources)]
  for (let at = mostSources; at < items.length; at += mostSources - 1)
    list.push(items.slice(at, at + mostSources - 1))
  return list
}

/** What to write to the state for evaluation i: coefficients in the order of the step program's tensors. */
export function stepValues(
  scheduler: Scheduler,
  i: number,
): readonly { name: string; values: Float32Array }[] {
  const { slot, convert, sample, predictions, noise } = scheduler.step(i)
  const newest = predictions[slot]!
  const looksBack = scheduler.slots > 1
  const conversion = { name: 'conversion', values: [convert.sample, convert.output] }
  const coefficients = [
    ...(looksBack
      ? [sample, newest, ...predictions.filter((_, s) => s !== slot)]
      : [sample + newest * convert.sample, newest * convert.output]),
    ...(drawsNoise(scheduler) ? [noise] : []),
  ]
  const sums = chunks(coefficients).map((part, j) => ({
    name: coefficientsOf(j),
    values: j === 0 ? part : [1, ...part],
  }))
  return [...(looksBack ? [conversion] : []), ...sums].map(({ name, values }) => ({
    name,
    values: Float32Array.from(values),
  }))
}

/** What the step program is bound to at evaluation i: the newest prediction's slot, and the others in order. */
export function stepBindings(scheduler: Scheduler, i: number): Bindings {
  const { slot, predictions } = scheduler.step(i)
  const newest = predictionOf(slot)
  const past = predictions.map((_, s) => predictionOf(s)).filter((_, s) => s !== slot)
  return {
    inputs: { predicted: newest, ...Object.fromEntries(past.map((name, j) => [`past${j}`, name])) },
    outputs: { held: newest },
  }
}

/** The network's input: scaled = inputScale · latents. */
function scaleProgram(shape: readonly number[]): Program {
  return program('scale', trace => {
    const latents = trace.input('latents', shape)
    return { scaled: combine(trace.input('inputScale', [1]), [latents]) }
  })
}
