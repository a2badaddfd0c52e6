/**
 * One step as a linear combination: next = sample·x + output·network(x) + noise·z, z standard normal.
 * `noise` is 0 for the deterministic solvers. Coefficients are float64.
 */
export interface SchedulerStep {
  readonly sample: number
  readonly output: number
  readonly noise: number
}

/** A noise schedule laid out for a number of steps. Step i runs from 0 to timesteps.length - 1. */
export interface Scheduler {
  /** diffusers' class name. */
  readonly name: string
  /** Values handed to the network, in order. */
  readonly timesteps: Float64Array
  /** Factor on standard normal noise that gives the first sample. */
  readonly initNoiseSigma: number
  /** Factor on the sample before the network at step i (diffusers' `scale_model_input`). */
  inputScale(i: number): number
  step(i: number): SchedulerStep
}

/** `scheduler_config.json` as read; keys that a class does not know are ignored. */
export interface SchedulerConfig {
  readonly _class_name?: string
  readonly [key: string]: unknown
}
