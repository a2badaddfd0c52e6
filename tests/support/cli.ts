/** Runs the `sluice` command in a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { root } from './recorded.js'

export interface Finished {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

export interface Running {
  child: ChildProcess
  /** Resolves when stderr has shown the text. */
  shows(text: string): Promise<void>
  finished: Promise<Finished>
}

export function start(
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Running {
  const child = spawn(process.execPath, [`${root}dist/lib/cli/main.js`, ...args], {
    cwd: options.cwd ?? root,
    env: { ...process.env, NO_COLOR: '1', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]!.setEncoding('utf8').on('data', (text: string) => {
      output[name] += text
    })
  }
  const finished = new Promise<Finished>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal, ...output }))
  })
  const shows = (text: string) =>
    new Promise<void>((resolve, reject) => {
      const look = () => {
        if (output.stderr.includes(text)) resolve()
      }
      look()
      child.stderr!.on('data', look)
      child.on('close', () => reject(new Error(`expected ${text} on stderr, got ${output.stderr}`)))
    })
  return { child, shows, finished }
}

export function sluice(...args: string[]): Promise<Finished> {
  return start(args).finished
}
