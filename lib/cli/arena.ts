import { readFile, writeFile } from 'node:fs/promises'
import { asFileError, replaceFile } from '../io/atomic.js'
import { formatArenaCsv, parseArenaCsv } from '../planner/arena/csv.js'
import { packArena } from '../planner/arena/index.js'
import { exactBytes } from './format.js'
import { checkOutputs, withFolders } from './outputs.js'

interface ArenaArguments {
  capacity?: number
  nodes?: number
  out?: string
}

/**
 * `sluice arena`: offsets for a table of buffers; exit code 1 when none within the capacity were
 * found.
 */
export async function arena(path: string, args: ArenaArguments): Promise<void> {
  const { capacity, nodes, out } = args
  await checkOutputs({ offsets: out })
  const text = await readFile(path, 'utf8').catch(error => {
    throw asFileError(error, path, 'read')
  })
  const table = parseArenaCsv(text, path)
  const layout = packArena(table.buffers, { capacity, nodes })
  const found =
    `${table.buffers.length} buffers in ${exactBytes(layout.bytes)}, ` +
    `lower bound ${exactBytes(layout.lowerBound)}, ${layout.nodes} nodes`
  if (capacity !== undefined && layout.bytes > capacity) {
    const why =
      layout.lowerBound > capacity ? 'there is none' : 'allow more with --nodes or --capacity'
    process.stderr.write(
      `sluice: ${path}: expected offsets within ${exactBytes(capacity)}, got ${found}; ${why}\n`,
    )
    process.exitCode = 1
    return
  }
  const csv = formatArenaCsv(table, layout.offsets)
  if (out === undefined) {
    process.stdout.write(csv)
    process.stderr.write(`${found}\n`)
    return
  }
  await withFolders([out], () => replaceFile(out, at => writeFile(at, csv)))
  console.log(found)
}
