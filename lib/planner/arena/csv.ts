import { FileError } from '../../errors.js'
import type { ArenaBuffer } from './problem.js'

/** A table of buffers as read: its cells, for writing them again, and what they mean. */
export interface ArenaTable {
  readonly header: readonly string[]
  readonly rows: readonly (readonly string[])[]
  readonly buffers: readonly ArenaBuffer[]
}

const names: Readonly<Record<string, string>> = {
  buffer: 'id',
  buffer_id: 'id',
  begin: 'lower',
  start: 'lower',
}

/**
 * Reads MiniMalloc's format: a header with the columns id, lower, upper and size in any order, one
 * buffer a row. Also `buffer` or `buffer_id` for id, `begin` or `start` for lower, `end` (the last
 * moment, inclusive) for upper; optional `alignment` and `gaps` (`from-to from-to`). Other columns
 * are kept, not read; blank rows are left out.
 * @throws FileError that names row (1 is the header) and column.
 */
export function parseArenaCsv(text: string, path: string): ArenaTable {
  const [first = '', ...lines] = text.replace(/^\uFEFF/, '').split(/\r?\n/)
  const header = cellsOf(first)
  const filled = lines
    .map((line, index) => ({ row: cellsOf(line), number: index + 2, blank: line.trim() === '' }))
    .filter(({ blank }) => !blank)
  const columns = columnsOf(header, path)
  const inclusive = header.includes('end') ? 1 : 0
  const buffers = filled.map(({ row, number }): ArenaBuffer => {
    const fail = (column: string, expected: string, got: string) =>
      new FileError(
        `${path}: row ${number}, column ${column}: ` +
          `expected ${expected}, got ${JSON.stringify(got)}`,
        path,
      )
    if (row.length !== header.length) {
      const column = header[row.length] ?? row.length
      throw fail(`${column}`, `${header.length} cells`, row.join(','))
    }
    const at = (name: string) => columns.get(name)!
    const integer = (name: string, least: number): number => {
      const cell = row[at(name)]!
      const value = Number(cell)
      if (!/^-?\d+$/.test(cell) || !Number.isSafeInteger(value) || value < least) {
        throw fail(header[at(name)]!, `a whole number${least > -1e9 ? ` from ${least}` : ''}`, cell)
      }
      return value
    }
    const lower = integer('lower', Number.MIN_SAFE_INTEGER)
    const upper = integer('upper', Number.MIN_SAFE_INTEGER) + inclusive
    if (upper <= lower) {
      throw fail(header[at('upper')]!, `an end after the start ${lower}`, row[at('upper')]!)
    }
    const gaps = columns.has('gaps')
      ? parseGaps(row[at('gaps')]!, lower, upper, inclusive, expected =>
          fail('gaps', expected, row[at('gaps')]!),
        )
      : undefined
    return {
      id: row[at('id')]!,
      lower,
      upper,
      size: integer('size', 0),
      alignment: columns.has('alignment') ? integer('alignment', 1) : 1,
      gaps,
    }
  })
  return { header, rows: filled.map(({ row }) => row), buffers }
}

function cellsOf(line: string): string[] {
  return line.split(',').map(cell => cell.trim())
}

/** Where each known column is. */
function columnsOf(header: readonly string[], path: string): Map<string, number> {
  const columns = new Map<string, number>()
  header.forEach((cell, index) => {
    const name = cell === 'end' ? 'upper' : (names[cell] ?? cell)
    if (columns.has(name)) {
      throw new FileError(
        `${path}: row 1, column ${cell}: expected each column once, got two for ${name}`,
        path,
      )
    }
    columns.set(name, index)
  })
  for (const name of ['id', 'lower', 'upper', 'size']) {
    if (columns.has(name)) continue
    throw new FileError(
      `${path}: row 1, column ${name}: ` +
        `expected columns id, lower, upper and size, got ${header.join(',')}`,
      path,
    )
  }
  return columns
}

/** `from-to` pairs between blanks, inside the lifetime and in order. */
function parseGaps(
  cell: string,
  lower: number,
  upper: number,
  inclusive: number,
  fail: (expected: string) => FileError,
): [number, number][] {
  let after = lower
  return cell
    .split(' ')
    .filter(Boolean)
    .map((piece): [number, number] => {
      if (piece.includes('@')) {
        throw fail('gaps that free the whole buffer (from-to, no @window)')
      }
      const match = /^(-?\d+)-(-?\d+)$/.exec(piece)
      if (!match) throw fail('gaps such as 3-5 8-9')
      const from = Number(match[1])
      const to = Number(match[2]) + inclusive
      if (!(from >= after && to > from && to <= upper)) {
        throw fail(`gaps in order inside [${lower}, ${upper})`)
      }
      after = to
      return [from, to]
    })
}

/** The rows as they were with a last column `offset`; one that is there already is replaced. */
export function formatArenaCsv({ header, rows }: ArenaTable, offsets: readonly number[]): string {
  const at = header.indexOf('offset')
  const withOffset = (row: readonly string[], cell: string) =>
    at < 0 ? [...row, cell] : row.map((old, i) => (i === at ? cell : old))
  const lines = [
    withOffset(header, 'offset'),
    ...rows.map((row, i) => withOffset(row, `${offsets[i]}`)),
  ]
  return `${lines.map(line => line.join(',')).join('\n')}\n`
}
