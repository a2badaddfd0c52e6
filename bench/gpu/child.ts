/** Items run in processes of their own: a kernel that faults takes a GPU's context, and with it the process's later work, along. */
import { spawn } from 'node:child_process'
import type { Outcome } from './record.js'

export interface Ended {
  readonly output: string
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** Killed because its time was over. */
  readonly late: boolean
}

/** Runs a command to its end, or for so many seconds; `input` goes to its standard input. */
export async function execute(
  command: string,
  args: readonly string[],
  options: { seconds: number; env?: Readonly<Record<string, string>>; input?: string },
): Promise<Ended> {
  const child = spawn(command, args, {
    env: { SLUICE_CALIBRATION: 'none', ...process.env, ...options.env, NO_COLOR: '1' },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', text => {
      output += text
    })
  }
  // A child that ends before it has read everything is judged by how it ended.
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  let late = false
  const timer = setTimeout(() => {
    late = true
    child.kill('SIGKILL')
  }, options.seconds * 1000)
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>(resolve => {
    child.on('close', (...end) => resolve(end))
    child.on('error', error => {
      output += error.message
      resolve([127, null])
    })
  })
  clearTimeout(timer)
  return { output, code, signal, late }
}

const mark = 'outcome: '

/** What an item's process says last. */
export function tell(outcome: Outcome): void {
  console.log(`${mark}${JSON.stringify(outcome)}`)
}

/** Lines that say what went wrong: of an error, of a test that failed, of a report of compute-sanitizer. */
const telling = /\bError\b.*: |\bexpected\b.*\bgot\b|\bFAIL\b|=========.*(Invalid|hazard|Error)/i

/** The end of an item that never came to say what it found. */
export function failure({ output, code, signal, late }: Ended): Outcome {
  const why = late ? 'its time was over' : `ended with ${signal ?? code}`
  const lines = output.split('\n').filter(line => line.trim())
  const said = lines.filter(line => telling.test(line)).slice(0, 4)
  const text = (said.length ? said : lines.slice(-4)).map(line => line.trim()).join(' / ')
  return { passed: false, ...(late && { late }), detail: `${why}: ${text.slice(0, 600)}` }
}

/** What a process told. */
export function told(ended: Ended): Outcome {
  const line = ended.output.split('\n').findLast(text => text.startsWith(mark))
  if (!line || ended.code !== 0) return failure(ended)
  return JSON.parse(line.slice(mark.length)) as Outcome
}
