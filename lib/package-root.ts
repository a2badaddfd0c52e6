import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { NativeError } from './errors.js'

let found: string | undefined

/**
 * This package's folder: the nearest one above this code, compiled or bundled, that holds its package.json.
 * @throws NativeError where there is none
 */
export function packageRoot(): string {
  found ??= above(dirname(fileURLToPath(import.meta.url)))
  return found
}

function above(start: string): string {
  for (let folder = start; ; folder = dirname(folder)) {
    if (isPackage(folder)) return folder
    if (folder === dirname(folder))
      throw new NativeError(
        `native addon: expected the package's folder above ${start}, got none; install sluice again`,
      )
  }
}

function isPackage(folder: string): boolean {
  try {
    const text = readFileSync(join(folder, 'package.json'), 'utf8')
    return (JSON.parse(text) as { name?: string }).name === 'sluice'
  } catch {
    return false
  }
}
