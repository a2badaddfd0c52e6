/**
 * One evaluation of the network as linear combinations. With x the sample and e the network's output (guidance applied):
 *
 *     held[slot] = convert.sample · x + convert.output · e
 *     x'         = sample · x + Σ held[s] · predictions[s] + noise · z,   z standard normal
 *
 * so that a solver that looks back reads its past predictions from the other slots. Coefficients are float64.
 */
export interface SchedulerStep {
  /** Where this evaluation's prediction is held until another takes the slot. */
  readonly slot: number
  /** From the network's output to what the solver works with: noise, clean sample, or the output itself. */
  readonly convert: { readonly sample: number; readonly output: number }
  readonly sample: number
  /** One coefficient for each slot; 0 for a slot that nothing was written to yet. */
  readonly predictions: readonly number[]
  /** 0 for the deterministic solvers. */
  readonly noise: number
}

/**
 * A noise schedule laid out for a number of steps. Evaluation i of the network runs from 0 to timesteps.length - 1; a solver may ask for
 * more of them than steps (PNDM), and those that ask for one each are the rule.
 */
export interface Scheduler {
  /** diffusers' class name. */
  readonly name: string
  /** Values handed to the network, in order: one for each evaluation. */
  readonly timesteps: Float64Array
  /** Predictions held at once, the newest among them: 1 for a solver that does not look back. */
  readonly slots: number
  /** Factor on standard normal noise that gives the first sample. */
  readonly initNoiseSigma: number
  /** Factor on the sample before the network at evaluation i (diffusers' `scale_model_input`). */
  inputScale(i: number): number
  step(i: number): SchedulerStep
}

/** `scheduler_config.json` as read; keys that a class does not know are ignored. */
export interface SchedulerConfig {
  readonly _class_name?: string
  readonly [key: string]: unknown
}

/** The solver works with the network's output as it is. */
export const unconverted = { sample: 0, output: 1 } as const

/** A step of a solver that does not look back: x' = sample · x + output · e + noise · z. */
export function singleStep(sample: number, output: number, noise = 0): SchedulerStep {
  return { slot: 0, convert: unconverted, sample, predictions: [output], noise }
}

/** A config without keys that a class does not have: another class that was configured by them may have left them there. */
export function withoutKeys(config: SchedulerConfig, ...keys: readonly string[]): SchedulerConfig {
  return Object.fromEntries(Object.entries(config).filter(([key]) => !keys.includes(key)))
}
