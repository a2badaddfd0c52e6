import { CheckpointError, OptionError } from '../errors.js'
import { ParityCase } from './case.js'
import { type Difference, isWithin } from './compare.js'
import { checks } from './components.js'
import { checkScheduler } from './scheduler.js'
import { type ProgramPeak, type VerifyOptions, VerifySession } from './session.js'

/** What came of one recorded case. */
export interface VerifyReport {
  readonly path: string
  /** A component of case.json, or `scheduler`. */
  readonly component: string
  readonly outputs: readonly Difference[]
  readonly programs: readonly ProgramPeak[]
  /** SHA-256 of the outputs of a component. */
  readonly sha256?: string
  readonly seconds: number
  /** Every output within the tolerance, and no peak above its prediction. */
  readonly passed: boolean
}

/**
 * Runs a recorded case and compares: a folder with `case.json`, or a scheduler record NAME.json beside NAME.safetensors.
 * @param tolerance largest difference allowed, over the standard deviation of the expected output
 * @throws CheckpointError for a case that is incomplete or of a component that this version does not run; BudgetError, AbortError
 */
export async function verify(
  path: string,
  tolerance: number,
  options: VerifyOptions = {},
): Promise<VerifyReport> {
  if (!(tolerance >= 0))
    throw new OptionError(`tolerance: expected a number of at least 0, got ${tolerance}`)
  const start = performance.now()
  const done = (outputs: readonly Difference[], programs: readonly ProgramPeak[]) => ({
    outputs,
    programs,
    seconds: (performance.now() - start) / 1000,
    passed:
      outputs.every(output => isWithin(output, tolerance)) &&
      programs.every(({ measuredBytes, predictedBytes }) => measuredBytes <= predictedBytes),
  })
  if (path.endsWith('.json')) {
    const { scheduler, outputs } = await checkScheduler(path)
    return { path, component: `scheduler ${scheduler}`, ...done(outputs, []) }
  }
  const recorded = ParityCase.open(path)
  const check = checks[recorded.component]
  if (!check) {
    const known = Object.keys(checks).join(', ')
    throw new CheckpointError(
      `${path}: expected a component of ${known}, got ${recorded.component}; use another case`,
      path,
    )
  }
  const session = new VerifySession(recorded.weights, options)
  await check(recorded, session)
  return {
    path,
    component: recorded.component,
    sha256: session.digest(),
    ...done(session.outputs, session.programs),
  }
}
