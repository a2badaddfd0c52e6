import { OptionError } from './errors.js'

/** Refuses what is given under a name that means nothing: a budget with a slip in its name would limit nothing. @throws OptionError */
export function checkNames(given: object, known: readonly string[]): void {
  for (const [name, value] of Object.entries(given)) {
    if (value !== undefined && !known.includes(name))
      throw new OptionError(`${name}: expected one of ${known.join(', ')}, got another option`)
  }
}
