import { randomBytes } from 'node:crypto'
import { realpathSync, statSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { FileError } from '../errors.js'

/** A name beside `path`, hidden, to write to before renaming: a rename within a folder is atomic. */
export function temporaryBeside(path: string): string {
  return join(
    dirname(path),
    `.${basename(path)}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`,
  )
}

/** A file, and a name beside it to write to before renaming. */
export interface Replacement {
  readonly file: string
  readonly temporary: string
}

/** Where to write what a path names. @throws as fileBehind */
export function replacementOf(path: string): Replacement {
  const file = fileBehind(path)
  return { file, temporary: temporaryBeside(file) }
}

/**
 * The file that a path names, through links, whether it is there or not.
 * @throws FileError for what is no file: a rename would put a file in the place of a device.
 */
export function fileBehind(path: string): string {
  const found = statSync(path, { throwIfNoEntry: false })
  if (!found || found.isDirectory()) return path
  if (!found.isFile())
    throw new FileError(`${path}: expected a file, got a device, pipe or socket; name a file`, path)
  return realpathSync(path)
}

/**
 * Writes a file by `write(temporary)` and a rename. On failure nothing is left and an older file stays as it was.
 * @throws FileError when the system refuses, or the path names a device; other errors of `write` pass through.
 */
export async function replaceFile(
  path: string,
  write: (temporary: string) => Promise<void>,
): Promise<void> {
  const { file, temporary } = replacementOf(path)
  try {
    await write(temporary)
    await rename(temporary, file)
  } catch (error) {
    await rm(temporary, { force: true, recursive: true }).catch(() => {})
    throw asFileError(error, path, 'write')
  }
}

/** A system error as a FileError; any other error as it is. */
export function asFileError(error: unknown, path: string, action: 'read' | 'write'): unknown {
  const { code } = error as NodeJS.ErrnoException
  if (!(error instanceof Error) || typeof code !== 'string' || !/^E[A-Z0-9]+$/.test(code))
    return error
  const remedy: Record<string, string> = {
    ENOENT: action === 'read' ? 'check the path' : 'make the folder first',
    EACCES: 'check the permissions',
    ENOSPC: 'free some space',
    EISDIR: 'name a file, not a folder',
  }
  const expected = action === 'read' ? 'a readable file' : 'a place to write'
  return new FileError(
    `${path}: expected ${expected}, got ${code}; ${remedy[code] ?? 'check the path'}`,
    path,
    { cause: error },
  )
}
