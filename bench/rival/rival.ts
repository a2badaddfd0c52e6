/** PyTorch beside us: a Python process of our own that answers lines of JSON. */
import { type ChildProcess, execFileSync, type StdioOptions, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** The checkout; compiled files lie in dist/bench/rival. */
const root = fileURLToPath(new URL('../../..', import.meta.url))

/**
 * The Python of a virtual environment that holds the packages, made where there is none.
 * @param folder of the environment; default `SLUICE_RIVAL`, else build/rival in the checkout
 */
export function rivalPython(
  packages: readonly string[],
  folder = process.env.SLUICE_RIVAL,
): string {
  const home = folder ?? join(root, 'build/rival')
  const python = join(home, 'bin/python')
  const has = () => {
    try {
      const names = packages.map(name => name.replaceAll('-', '_')).join(', ')
      execFileSync(python, ['-c', `import ${names}`], { stdio: 'ignore' })
      return true
    } catch {
      return false
    }
  }
  if (existsSync(python) && has()) return python
  console.error(
    `sluice: installing the rival (${packages.join(', ')}: some gigabytes) in ${home}; SLUICE_RIVAL or --venv names an environment that has it`,
  )
  const stdio: StdioOptions = ['ignore', 'inherit', 'inherit']
  try {
    if (!existsSync(python)) execFileSync('python3', ['-m', 'venv', home], { stdio })
    execFileSync(python, ['-m', 'pip', 'install', '--quiet', ...packages], { stdio })
  } catch (error) {
    console.error(
      `sluice: expected to install the rival, got: ${(error as Error).message}; install ${packages.join(' ')} and name the environment by SLUICE_RIVAL or --venv`,
    )
    process.exit(1)
  }
  return python
}

type Json = Readonly<Record<string, unknown>>

/** One Python process; a question at a time. */
export class Rival {
  private readonly child: ChildProcess
  private readonly lines: AsyncIterator<string>

  /** @param script in bench/rival; @param threads the most it will be asked to use */
  constructor(python: string, script: string, threads: number) {
    this.child = spawn(python, [join(root, 'bench/rival', script)], {
      env: { ...process.env, OMP_NUM_THREADS: `${threads}` },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.lines = createInterface({ input: this.child.stdout! })[Symbol.asyncIterator]()
  }

  async ask<T>(question: Json): Promise<T> {
    this.child.stdin!.write(`${JSON.stringify(question)}\n`)
    const { value, done } = await this.lines.next()
    if (done) throw new Error(`rival: expected an answer to ${question.do}, got its end`)
    return JSON.parse(value) as T
  }

  /** Ends the process and waits until its memory is free. */
  async close(): Promise<void> {
    if (this.child.exitCode !== null) return
    const ended = new Promise(resolve => this.child.once('close', resolve))
    this.child.stdin!.end()
    await ended
  }
}
