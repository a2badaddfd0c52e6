import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../package-root.js'
import { formatBytes } from '../units.js'
import { axisNames, kinds } from './kinds.js'

/** Modules of the page's script, each after what it uses. */
const modules = ['timeline', 'view', 'axes', 'chart', 'map', 'describe', 'figure', 'main']

/** The page's script: the compiled modules of client/ as one text without imports and exports. */
export function pageScript(): string {
  const folder = join(packageRoot(), 'dist/lib/report/client')
  const parts = modules.map(name =>
    readFileSync(join(folder, `${name}.js`), 'utf8')
      .replace(/^import\s[^;]*?from\s*['"][^'"]+['"];?$/gm, '')
      .replace(/^export \{[^}]*\};?$/gm, '')
      .replace(/^export /gm, '')
      .trim(),
  )
  const call = `start(${JSON.stringify(kinds)}, ${JSON.stringify(axisNames)})`
  const text = ["'use strict'", `const formatBytes = ${formatBytes}`, ...parts, call].join('\n')
  // A closing tag inside a string would end the script element.
  return `(() => {\n${text.replaceAll('</', '<\\/')}\n})()`
}
