import { OptionError } from '../errors.js'
import type { SchedulerConfig } from './scheduler.js'

/** Reads keys of a scheduler's config, each with its type checked and its default. */
export class ConfigReader {
  constructor(
    readonly name: string,
    private readonly config: SchedulerConfig,
  ) {}

  number(key: string, otherwise: number): number {
    return this.optionalNumber(key) ?? otherwise
  }

  integer(key: string, otherwise: number, least: number): number {
    const value = this.number(key, otherwise)
    if (!Number.isSafeInteger(value) || value < least)
      this.refuse(key, `an integer of at least ${least}`, value)
    return value
  }

  optionalNumber(key: string): number | undefined {
    const value = this.config[key] ?? undefined
    if (value === undefined) return undefined
    if (typeof value !== 'number' || !Number.isFinite(value))
      this.refuse(key, 'a finite number', value)
    return value as number
  }

  /** A least value; minus infinity, which scheduler_config.json writes as such, and absence bound nothing. */
  lowerBound(key: string): number {
    const value = this.config[key] ?? Number.NEGATIVE_INFINITY
    if (typeof value !== 'number' || Number.isNaN(value) || value === Number.POSITIVE_INFINITY)
      this.refuse(key, 'a number, or -Infinity', value)
    return value as number
  }

  flag(key: string, otherwise: boolean): boolean {
    const value = this.config[key] ?? otherwise
    if (typeof value !== 'boolean') this.refuse(key, 'true or false', value)
    return value as boolean
  }

  choice<T extends string>(key: string, choices: readonly T[], otherwise: T): T {
    const value = (this.config[key] ?? otherwise) as T
    if (!choices.includes(value)) this.refuse(key, `one of ${choices.join(', ')}`, value)
    return value
  }

  optionalNumbers(key: string): number[] | undefined {
    const value = this.config[key] ?? undefined
    if (value === undefined) return undefined
    if (!Array.isArray(value) || !value.every(x => typeof x === 'number' && Number.isFinite(x))) {
      this.refuse(key, 'an array of numbers', value)
    }
    return value as number[]
  }

  /** A clamp between network and sample breaks the linear step. */
  refuseNonlinear(key: string, otherwise: boolean): void {
    if (!this.flag(key, otherwise)) return
    const got = key in this.config ? 'true' : 'nothing, which means true'
    throw new OptionError(
      `${this.name}.${key}: expected false, because a clamped prediction is no linear step and is not supported, got ${got}; ` +
        `set "${key}": false in scheduler_config.json (latent checkpoints are trained without it)`,
    )
  }

  refuse(key: string, expected: string, got: unknown): never {
    throw new OptionError(
      `${this.name}.${key}: expected ${expected}, got ${JSON.stringify(got)}; correct scheduler_config.json`,
    )
  }
}

export const predictionTypes = ['epsilon', 'sample', 'v_prediction'] as const
export type PredictionType = (typeof predictionTypes)[number]
