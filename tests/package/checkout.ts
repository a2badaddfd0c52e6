import { spawnSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The repository's root, from dist/tests/package. */
export const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

export function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), 'sluice-'))
}

export interface Ended {
  code: number | null
  stdout: string
  stderr: string
}

/** Runs this Node in the repository's root. */
export function node(args: string[], env: NodeJS.ProcessEnv = process.env): Ended {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: ROOT,
    env,
    encoding: 'utf8',
  })
  return { code: status, stdout, stderr }
}
