import { OptionError } from '../errors.js'
import { formatTable } from '../pipelines/pipeline-plan.js'
import type { CostTable } from '../planner/cost-table.js'
import { calibrate as measure } from '../runtime/calibrate.js'
import { calibrationPath, writeCalibration } from '../runtime/calibration.js'
import type { Compute } from '../runtime/device.js'
import { native } from '../runtime/native.js'
import { formatSeconds } from './format.js'
import { interruptible } from './interrupt.js'
import { checkOutputs } from './outputs.js'

interface CalibrateArguments {
  threads?: number
  compute?: Compute
  output?: string
  json?: boolean
  quiet?: boolean
}

/** `sluice calibrate`: measures this machine and writes the table that plans take their times from. */
export async function calibrate(args: CalibrateArguments): Promise<void> {
  const threads = args.threads ?? native().cpu().threads
  await checkOutputs({ calibration: args.output })
  const path = args.output ?? calibrationPath(threads, args.compute)
  if (path === undefined)
    throw new OptionError(
      'SLUICE_CALIBRATION: expected a file or nothing, got none; give --output, or unset it',
    )
  const start = performance.now()
  const shown = process.stderr.isTTY && !args.quiet
  const table = await interruptible(signal =>
    measure({
      threads,
      compute: args.compute,
      signal,
      onProgress: (done, total) => {
        if (shown) process.stderr.write(`\rmeasuring ${done} of ${total}`)
      },
    }),
  )
  if (shown) process.stderr.write('\r\x1b[K')
  await writeCalibration(path, table)
  if (args.json) console.log(JSON.stringify({ path, ...table }))
  else if (!args.quiet) console.log(describe(table, path, (performance.now() - start) / 1000))
}

function describe(table: CostTable, path: string, seconds: number): string {
  const { flopsPerSecond, bytesPerSecond, secondsPerCommand } = table.machine
  const rows = [
    ['what', 'measured'],
    [
      'processor',
      `${table.cpu}, ${table.isa}, ${table.threads} threads, ${table.compute ?? 'f32'}`,
    ],
    ['arithmetic', `${(flopsPerSecond / 1e9).toFixed(1)} GFLOP/s`],
    ['memory', `${(bytesPerSecond / 1e9).toFixed(1)} GB/s`],
    ['dispatch', `${(secondsPerCommand * 1e6).toFixed(1)} us a command`],
    ...Object.entries(table.grids).map(([kind, { seconds: cells }]) => [
      kind,
      `${cells.length} shapes`,
    ]),
  ]
  return `${formatTable(rows)}\n\n${formatSeconds(seconds)}; wrote ${path}`
}
