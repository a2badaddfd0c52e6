import { execFileSync } from 'node:child_process'
import { cpus } from 'node:os'

/** Where numbers come from: the commit and the machine. */
export function provenance(): {
  commit: string
  machine: { cpu: string; cores: number; node: string }
} {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim()
  const machine = { cpu: cpus()[0]?.model ?? '', cores: cpus().length, node: process.version }
  return { commit, machine }
}
