import { OptionError } from './errors.js'

/** Refuses what is given under a name that means nothing: a budget with a slip in its name would limit nothing. @throws OptionError */
export function checkNames(given: object, known: readonly string[]): void {
  for (const [name, value] of Object.entries(given)) {
    if (value !== undefined && !known.includes(name))
      throw new OptionError(`${name}: expected one of ${known.join(', ')}, got another option`)
  }
}

/** What several calls take, and a caller without types may get wrong. @throws OptionError */
export function checkKinds(given: {
  readonly dtype?: unknown
  readonly recompute?: unknown
  readonly spill?: unknown
  readonly poison?: unknown
  readonly signal?: unknown
}): void {
  const { dtype, recompute, spill, poison, signal } = given
  if (dtype !== undefined && !['f32', 'f16', 'bf16'].includes(dtype as string))
    throw new OptionError(`dtype: expected f32, f16 or bf16, got ${dtype}`)
  if (recompute !== undefined && typeof recompute !== 'number')
    throw new OptionError(`recompute: expected a share from 0 to 1, got ${typeof recompute}`)
  for (const [name, value] of Object.entries({ spill, poison })) {
    if (value !== undefined && typeof value !== 'boolean')
      throw new OptionError(`${name}: expected true or false, got ${typeof value}`)
  }
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw new OptionError(`signal: expected an AbortSignal, got ${typeof signal}`)
}
