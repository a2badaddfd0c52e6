import { InterruptError } from './errors.js'

const codes = { SIGINT: 130, SIGTERM: 143 } as const

/**
 * Runs work that stops by an AbortSignal at the first SIGINT or SIGTERM. A second one ends the process at once.
 * @throws InterruptError, once the work has stopped; a work that ends well all the same counts as done.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  let interrupted: InterruptError | undefined
  const handle = (signal: NodeJS.Signals): void => {
    const code = codes[signal as keyof typeof codes]
    if (interrupted) leave(code)
    interrupted = new InterruptError(signal, code)
    controller.abort(interrupted)
  }
  for (const signal of Object.keys(codes)) process.on(signal, handle)
  try {
    return await work(controller.signal)
  } catch (error) {
    // What a cancelled run throws depends on where it was: an encoder may have failed first.
    throw interrupted ?? error
  } finally {
    for (const signal of Object.keys(codes)) process.off(signal, handle)
  }
}

/** Ends at once; a progress bar may have hidden the cursor. */
function leave(code: number): never {
  if (process.stderr.isTTY) process.stderr.write('\u001b[?25h\n')
  process.exit(code)
}
