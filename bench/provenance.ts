import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { fileURLToPath } from 'node:url'

/** Where scripts/gpu-pack.mjs leaves the commit, for machines that hold no repository. */
const packed = fileURLToPath(new URL('../commit.txt', import.meta.url))

/** What a commit's name ends with where tracked files are not as it has them. */
export const changed = '-changed'

const git = (...args: string[]) => spawnSync('git', args, { encoding: 'utf8' })

function commitHere(): string {
  const { status, stdout } = git('rev-parse', '--short', 'HEAD')
  // Results are written by what asks, and change nothing that is measured.
  const sources = ['--untracked-files=no', '--', ':/', ':!/bench/results']
  if (status === 0)
    return stdout.trim() + (git('status', '--porcelain', ...sources).stdout.trim() ? changed : '')
  return existsSync(packed) ? readFileSync(packed, 'utf8').trim() : 'unknown'
}

/** Where numbers come from: the commit and the machine. */
export function provenance(): {
  commit: string
  machine: { cpu: string; cores: number; node: string }
} {
  const machine = { cpu: cpus()[0]?.model ?? '', cores: cpus().length, node: process.version }
  return { commit: commitHere(), machine }
}
