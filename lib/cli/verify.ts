import { SluiceError } from '../errors.js'
import { formatTable } from '../pipelines/pipeline-plan.js'
import { isWithin } from '../verify/compare.js'
import { type VerifyReport, verify as verifyCase } from '../verify/verify.js'
import { describeError, exitCodeOf, InterruptError } from './errors.js'
import { formatSeconds, grouped } from './format.js'
import { interruptible } from './interrupt.js'

interface VerifyArguments {
  json?: boolean
  tolerance: number
  budget?: number
  smallest?: boolean
  slices?: number
  device?: string
  threads?: number
}

/** `sluice verify`: exit code 1 when a difference is above the tolerance; the first error's own code when a case could not run. */
export async function verify(paths: readonly string[], args: VerifyArguments): Promise<void> {
  const { json, tolerance, ...options } = args
  const reports: VerifyReport[] = []
  const failures: { path: string; error: unknown }[] = []
  await interruptible(async signal => {
    for (const path of paths) {
      try {
        const report = await verifyCase(path, tolerance, { ...options, signal })
        reports.push(report)
        if (!json) console.log(`${describe(report, tolerance)}\n`)
      } catch (error) {
        if (signal.aborted || error instanceof InterruptError) throw error
        failures.push({ path, error })
        process.stderr.write(`${describeError(error, path)}\n`)
      }
    }
  })
  const passed = failures.length === 0 && reports.every(report => report.passed)
  if (json)
    console.log(
      JSON.stringify({ passed, tolerance, cases: [...reports, ...failures.map(asJson)] }, null, 2),
    )
  if (failures.length > 0) process.exitCode = exitCodeOf(failures[0]!.error)
  else if (!passed) process.exitCode = 1
}

function describe(
  { path, component, outputs, programs, seconds, passed }: VerifyReport,
  tolerance: number,
): string {
  const lines = [
    `${path}: ${component}, ${formatSeconds(seconds)}: ${passed ? 'passed' : 'FAILED'}`,
    formatTable([
      ['output', 'largest difference', 'over std', ''],
      ...outputs.map(output => [
        output.output,
        output.largest.toExponential(2),
        output.relative.toExponential(2),
        isWithin(output, tolerance) ? 'ok' : `above ${tolerance}`,
      ]),
    ]),
  ]
  if (programs.length > 0) {
    const rows = programs.map(({ program, slices, predictedBytes, measuredBytes }) => [
      program,
      slices === 1 ? 'none' : `up to ${slices}`,
      grouped(predictedBytes),
      grouped(measuredBytes),
      measuredBytes === predictedBytes ? 'equal' : 'differs',
    ])
    lines.push(
      '',
      formatTable([['program', 'slices', 'predicted bytes', 'measured bytes', ''], ...rows]),
    )
  }
  return lines.join('\n')
}

function asJson({ path, error }: { path: string; error: unknown }): object {
  const code = error instanceof SluiceError ? error.code : 'UNEXPECTED'
  return { path, passed: false, error: { code, message: (error as Error).message } }
}
