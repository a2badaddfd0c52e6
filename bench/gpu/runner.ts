/** Runs items one after another within a call's minutes, and leaves what is left to the next call. */
import { parseArgs } from 'node:util'
import { OptionError, SluiceError } from '../../lib/errors.js'
import { changed, provenance } from '../provenance.js'
import { type Outcome, type ResultFile, wordFor } from './record.js'

export interface Item {
  /** `section/name` */
  readonly name: string
  /** Runs for so many seconds at most; what it found is its outcome, never an error. */
  run(seconds: number): Promise<Outcome>
}

export interface RunnerOptions {
  /** Sections or items; all where there is none. */
  readonly only: readonly string[]
  /** Seconds of the whole call. */
  readonly seconds: number
  /** Also what has passed at this commit. */
  readonly again: boolean
}

/** The options that gpu:check and gpu:bench share. */
export const runnerArguments = {
  only: { type: 'string', multiple: true },
  minutes: { type: 'string', default: '8' },
  again: { type: 'boolean', default: false },
  list: { type: 'boolean', default: false },
  small: { type: 'boolean', default: false },
  out: { type: 'string' },
  copy: { type: 'string' },
} as const

export interface CallArguments {
  readonly values: { list: boolean; small: boolean; out?: string; copy?: string }
  readonly options: RunnerOptions
}

/** @throws OptionError for arguments that there are not */
export function callArguments(argv?: string[]): CallArguments {
  const { values } = parsed(argv)
  const minutes = Number(values.minutes)
  if (!(minutes > 0))
    throw new OptionError(`minutes: expected a number above 0, got ${values.minutes}`)
  const only = (values.only ?? []).flatMap(text => text.split(','))
  return { values, options: { only, seconds: minutes * 60, again: values.again } }
}

function parsed(argv?: string[]) {
  try {
    return parseArgs({ args: argv, options: runnerArguments })
  } catch (error) {
    throw new OptionError((error as Error).message)
  }
}

/** Runs a command's program and says what stopped it. @returns its exit code, or the error's: 2 for options, 6 for no device */
export async function called(name: string, main: () => Promise<number>): Promise<number> {
  try {
    return await main()
  } catch (error) {
    console.error(`${name}: ${(error as Error).message}`)
    return error instanceof SluiceError ? error.exitCode : 1
  }
}

/** Items of the sections and names asked for. @throws OptionError for one that there is not */
export function chosen(items: readonly Item[], only: readonly string[]): Item[] {
  const is = (item: Item, wanted: string) =>
    item.name === wanted || item.name.startsWith(`${wanted}/`)
  for (const wanted of only) {
    if (items.some(item => is(item, wanted))) continue
    const sections = [...new Set(items.map(({ name }) => name.split('/')[0]))]
    throw new OptionError(
      `only: expected a section (${sections.join(', ')}) or an item, got ${wanted}; see --list`,
    )
  }
  return items.filter(item => only.length === 0 || only.some(wanted => is(item, wanted)))
}

/**
 * @param device what the results are of
 * @param least seconds that an item is still begun with
 * @returns exit code: 0 where all has passed, 1 where something failed, 3 where something is left for another call
 */
export async function runItems(
  items: readonly Item[],
  file: ResultFile,
  device: string,
  { only, seconds, again }: RunnerOptions,
  least = 20,
): Promise<number> {
  const end = performance.now() + seconds * 1000
  const { commit } = provenance()
  const wanted = chosen(items, only)
  const left: string[] = []
  /** What is known of an item as things stand. */
  const current = (name: string) => {
    const entry = file.entry(name)
    return entry?.commit === commit && entry.device === device ? entry : undefined
  }
  const isKept = (name: string) => {
    const known = current(name)
    return known?.passed && !known.skipped && !commit.endsWith(changed) && !again
  }
  for (const { name, run } of wanted) {
    if (isKept(name)) continue
    const rest = (end - performance.now()) / 1000
    if (rest < Math.min(least, seconds / 2)) {
      left.push(name)
      continue
    }
    const start = performance.now()
    const outcome = await run(rest)
    const took = (performance.now() - start) / 1000
    if (outcome.late) {
      console.log(`cut off ${name}: ${outcome.detail} (${took.toFixed(1)} s)`)
      left.push(name)
      continue
    }
    const entry = { ...outcome, date: new Date().toISOString(), commit, device, seconds: took }
    await file.put(name, entry)
    console.log(`${wordFor(outcome).padEnd(7)} ${name}: ${outcome.detail} (${took.toFixed(1)} s)`)
  }
  const entries = wanted.map(({ name }) => (left.includes(name) ? undefined : current(name)))
  const failed = entries.filter(entry => entry && !entry.passed).length
  const skipped = entries.filter(entry => entry?.skipped).length
  const passed = entries.filter(entry => entry?.passed).length - skipped
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped, ${left.length} left`)
  if (left.length) console.log(`left for another call: ${left.join(', ')}`)
  if (failed) return 1
  return left.length ? 3 : 0
}
