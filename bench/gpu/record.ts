/** The file that a call goes on from and a reader takes numbers from: what came of each item on one device, as JSON and as a table. */
import { cpSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { FileError } from '../../lib/errors.js'
import { replaceFile } from '../../lib/io/atomic.js'

/** What an item found. */
export interface Outcome {
  readonly passed: boolean
  /** Not run, since something is missing here. */
  readonly skipped?: boolean
  /** Cut off where the call's minutes ended. */
  readonly late?: boolean
  /** One line. */
  readonly detail: string
  /** Numbers, for whoever reads the JSON. */
  readonly values?: unknown
}

export interface Entry extends Outcome {
  readonly date: string
  readonly commit: string
  /** What it is of: the device and its settings. */
  readonly device: string
  readonly seconds: number
}

interface Content {
  device?: string
  items: Record<string, Entry>
}

export class ResultFile {
  private constructor(
    /** Without its ending: `.json` and `.md` follow. */
    private readonly path: string,
    private readonly title: string,
    private readonly content: Content,
  ) {}

  /** Reads what an earlier call left. @throws FileError for a file that is none of these */
  static open(path: string, title: string): ResultFile {
    return new ResultFile(path, title, contentOf(`${path}.json`))
  }

  entry(name: string): Entry | undefined {
    return this.content.items[name]
  }

  /** Writes an entry at once, so that a call that is cut off loses one item alone. */
  async put(name: string, entry: Entry): Promise<void> {
    this.content.items[name] = entry
    this.content.device = entry.device
    mkdirSync(dirname(this.path), { recursive: true })
    const json = `${JSON.stringify(this.content, null, 1)}\n`
    await replaceFile(`${this.path}.json`, temporary => writeFile(temporary, json))
    await replaceFile(`${this.path}.md`, temporary => writeFile(temporary, this.page()))
  }

  /** Copies both files into a folder. */
  copyTo(folder: string): void {
    mkdirSync(folder, { recursive: true })
    for (const file of [`${this.path}.json`, `${this.path}.md`])
      if (existsSync(file)) cpSync(file, join(folder, basename(file)))
  }

  private page(): string {
    const { device, items } = this.content
    const rows = Object.entries(items).map(([name, entry]) => [
      name,
      wordFor(entry),
      entry.detail,
      `${entry.seconds.toFixed(1)} s`,
      entry.date.slice(0, 10),
      entry.commit,
    ])
    const head = ['item', '', 'what', 'took', 'date', 'commit']
    const line = (cells: readonly string[]) =>
      `| ${cells.map(cell => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`
    return `${[`# ${this.title}: ${device ?? 'no device'}`, '', line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')}\n`
  }
}

function contentOf(file: string): Content {
  if (!existsSync(file)) return { items: {} }
  try {
    const content = JSON.parse(readFileSync(file, 'utf8')) as Content
    if (typeof content?.items === 'object' && content.items !== null) return content
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
  }
  throw new FileError(
    `${file}: expected the results of earlier calls, got something else; remove it, or name another folder with --out`,
    file,
  )
}

/** `ok`, `FAILED` or `skipped`. */
export function wordFor({ passed, skipped }: Outcome): string {
  if (skipped) return 'skipped'
  return passed ? 'ok' : 'FAILED'
}
