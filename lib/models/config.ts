import { CheckpointError } from '../errors.js'

/** A parsed `config.json`. */
export type ConfigJson = Readonly<Record<string, unknown>>

/**
 * Reads keys of a `config.json`, each with its type checked and the default that diffusers or transformers has.
 * Every refusal is a CheckpointError that names file, key, what is supported and what came.
 */
export class ConfigReader {
  /** @param file as messages name it: `unet/config.json` */
  constructor(
    private readonly json: ConfigJson,
    readonly file: string,
  ) {
    if (typeof json !== 'object' || json === null || Array.isArray(json)) {
      throw new CheckpointError(
        `${file}: expected a JSON object, got ${show(json)}; restore the file`,
        file,
      )
    }
  }

  /** The value, undefined where it is missing or null. */
  raw(key: string): unknown {
    return this.json[key] ?? undefined
  }

  /** Whether the key is there, be its value null. */
  has(key: string): boolean {
    return key in this.json
  }

  integer(key: string, otherwise: number, least = 1): number {
    const value = this.raw(key) ?? otherwise
    if (!isInteger(value, least)) this.refuse(key, `an integer of at least ${least}`)
    return value
  }

  number(key: string, otherwise: number): number {
    const value = this.raw(key) ?? otherwise
    if (typeof value !== 'number' || !Number.isFinite(value)) this.refuse(key, 'a finite number')
    return value
  }

  flag(key: string, otherwise: boolean): boolean {
    const value = this.raw(key) ?? otherwise
    if (typeof value !== 'boolean') this.refuse(key, 'true or false')
    return value
  }

  choice<T extends string>(key: string, choices: readonly T[], otherwise: T): T {
    const value = (this.raw(key) ?? otherwise) as T
    if (!choices.includes(value)) this.refuse(key, `one of ${choices.join(', ')}`)
    return value
  }

  /** A list of integers; a single number where `count` is given stands for each. */
  integers(
    key: string,
    otherwise: number | readonly number[],
    count?: number,
    least = 1,
  ): number[] {
    const value = this.raw(key) ?? otherwise
    if (count !== undefined && isInteger(value, least)) return new Array<number>(count).fill(value)
    const fits = Array.isArray(value) && value.length > 0 && value.every(x => isInteger(x, least))
    if (!fits || (count !== undefined && value.length !== count)) {
      this.refuse(
        key,
        count === undefined
          ? 'a list of positive integers'
          : `a positive integer or a list of ${count}`,
      )
    }
    return [...(value as number[])]
  }

  strings<T extends string>(key: string, choices: readonly T[], otherwise: readonly T[]): T[] {
    const value = this.raw(key) ?? otherwise
    if (!Array.isArray(value) || !value.every(x => choices.includes(x))) {
      this.refuse(key, `a list of ${choices.join(', ')}`)
    }
    return [...(value as T[])]
  }

  /** Refuses each key whose value is neither missing, null nor the one that is supported. */
  only(supported: Readonly<Record<string, unknown>>): void {
    for (const [key, value] of Object.entries(supported)) {
      const got = this.raw(key)
      if (got !== undefined && got !== value)
        this.refuse(key, value === null ? 'null' : `${JSON.stringify(value)}`)
    }
  }

  refuse(key: string, expected: string): never {
    const got = key in this.json ? show(this.json[key]) : 'nothing'
    throw new CheckpointError(
      `${this.file}: ${key}: expected ${expected}, got ${got}; use a checkpoint whose configuration is supported`,
      this.file,
    )
  }
}

function isInteger(value: unknown, least: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= least
}

function show(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value)
}
