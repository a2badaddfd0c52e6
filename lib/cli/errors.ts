import { NativeError, SluiceError } from '../errors.js'

/** A command stopped by a signal, after the run has stopped and given its memory back. */
export class InterruptError extends SluiceError {
  override readonly code = 'INTERRUPT'
  constructor(
    readonly signal: NodeJS.Signals,
    override readonly exitCode: number,
    options?: ErrorOptions,
  ) {
    super(`cancelled by ${signal}`, options)
  }
}

/** 70 is for what is our own mistake. */
export function exitCodeOf(error: unknown): number {
  return error instanceof SluiceError ? error.exitCode : 70
}

export function printError(error: unknown): void {
  process.stderr.write(`${describeError(error)}\n`)
}

/** One line for an error thrown on purpose; a stack for any other. `where` is named unless the message does. */
export function describeError(error: unknown, where = ''): string {
  // A native addon that does not load comes with a list of remedies.
  if (error instanceof NativeError) return `sluice: ${error.message}`
  if (error instanceof SluiceError) {
    const message = error.message.replace(/\s*\n\s*/g, ' ')
    return `sluice: ${message.includes(where) ? message : `${where}: ${message}`}`
  }
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return `sluice: unexpected error; please report it with this text and the output of sluice doctor\n${stack}`
}
