// Results of checks as files: JSON for programs, Markdown for people, with date and commit.
import { spawnSync } from 'node:child_process'
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

/** The commit of the checkout, `-changed` where files differ from it; and the day. */
export function dateOf() {
  const git = (...args) => spawnSync('git', args, { encoding: 'utf8' }).stdout?.trim() ?? ''
  const changed = git('status', '--porcelain', '--', 'cuda', 'src/core') ? '-changed' : ''
  return `${new Date().toISOString().slice(0, 10)}, commit ${git('rev-parse', '--short', 'HEAD')}${changed}`
}

/** Writes a file whole or not at all. */
export function writeWhole(path, text) {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(`${path}.part`, text)
  renameSync(`${path}.part`, path)
}

/** Writes BASE.json, with where its numbers come from, and BASE.md. */
export function writeResult(base, value, lines) {
  writeWhole(`${base}.json`, `${JSON.stringify({ from: dateOf(), ...value }, null, 1)}\n`)
  writeWhole(`${base}.md`, `${lines.join('\n')}\n`)
}
