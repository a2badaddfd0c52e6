import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { basename, dirname, isAbsolute, join } from 'node:path'
import { FileError } from '../errors.js'
import { asFileError, replaceFile } from '../io/atomic.js'
import { type CostModel, roofline } from '../planner/cost.js'
import { type CostTable, checkCostTable, tableModel } from '../planner/cost-table.js'
import type { Target } from '../program/op.js'
import type { Compute } from './device.js'
import { native } from './native.js'

/**
 * Where this machine's table for a thread count belongs: `SLUICE_CALIBRATION`, else the user's cache folder.
 * @returns undefined where SLUICE_CALIBRATION is `none`
 */
export function calibrationPath(threads: number, compute: Compute = 'f32'): string | undefined {
  const named = process.env.SLUICE_CALIBRATION
  if (named === 'none') return undefined
  if (named) return named
  const { model, selected } = native().cpu()
  const hash = createHash('sha256').update(model).digest('hex').slice(0, 8)
  const name = compute === 'bf16' ? `${selected}-bf16` : selected
  return join(cacheFolder(), `calibration-${hash}-${name}-${threads}.json`)
}

/** A relative XDG_CACHE_HOME is invalid and counts as none (XDG Base Directory Specification). */
function cacheFolder(): string {
  const home = process.env.XDG_CACHE_HOME
  return join(home && isAbsolute(home) ? home : join(homedir(), '.cache'), 'sluice')
}

const models = new Map<string, CostModel>()

/**
 * The cost model for a target: the table of `sluice calibrate` where there is one, else the built-in roofline. A file is read once.
 * @throws FileError for a file that SLUICE_CALIBRATION names and that cannot be used; one of the cache that cannot be used is ignored, which plans name.
 */
export function costModel(target: Target): CostModel {
  const path =
    target.backend === 'cpu' ? calibrationPath(target.threads, target.compute) : undefined
  const named = Boolean(process.env.SLUICE_CALIBRATION)
  if (path === undefined || !(named || existsSync(path))) return roofline(target)
  const key = `${target.threads} ${target.compute} ${named} ${path}`
  let model = models.get(key)
  if (!model) {
    try {
      model = tableModel(readCalibration(path, target), `calibration ${basename(path)}`)
    } catch (error) {
      if (named) throw error
      const { name, ...built } = roofline(target)
      model = {
        ...built,
        name: `${name}, since ${basename(path)} cannot be used: run sluice calibrate`,
      }
    }
    models.set(key, model)
  }
  return model
}

/** @throws FileError for a missing or malformed table, and one of another target. */
export function readCalibration(path: string, target?: Target): CostTable {
  let table: unknown
  try {
    table = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw asFileError(error, path, 'read')
    throw refused(path, 'JSON', error.message)
  }
  const problem = checkCostTable(table)
  if (problem) throw refused(path, problem, 'something else')
  const describe = ({ threads, compute }: Pick<Target, 'threads' | 'compute'>) =>
    `for ${threads} threads computing in ${compute ?? 'f32'}`
  const found = describe(table as CostTable)
  if (target && found !== describe(target))
    throw refused(path, `a table ${describe(target)}`, `one ${found}`)
  return table as CostTable
}

function refused(path: string, expected: string, got: string): FileError {
  return new FileError(
    `${path}: expected ${expected}, got ${got}; run \`sluice calibrate\` again, or set SLUICE_CALIBRATION=none`,
    path,
  )
}

/** Writes a table, whole or not at all. @throws FileError */
export async function writeCalibration(path: string, table: CostTable): Promise<void> {
  try {
    mkdirSync(dirname(path), { recursive: true })
  } catch (error) {
    throw asFileError(error, path, 'write')
  }
  await replaceFile(path, temporary => writeFile(temporary, `${JSON.stringify(table)}\n`))
  models.clear()
}
