// Formats the C++ and CUDA sources, or with --check says which files are not formatted.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const check = process.argv.includes('--check')

const files = ['src', 'cuda', 'tests', 'bench']
  .map(folder => join(root, folder))
  .filter(existsSync)
  .flatMap(folder => readdirSync(folder, { recursive: true, withFileTypes: true }))
  .filter(entry => entry.isFile() && /\.(cpp|hpp|h|cu|cuh)$/.test(entry.name))
  .map(entry => join(entry.parentPath, entry.name))

if (files.length) {
  const mode = check ? ['--dry-run', '--Werror'] : ['-i']
  const { error, status } = spawnSync('clang-format', [...mode, ...files], { stdio: 'inherit' })
  if (error?.code === 'ENOENT') console.log('clang-format is not on PATH: C++ not checked')
  else process.exitCode = status ?? 1
}
