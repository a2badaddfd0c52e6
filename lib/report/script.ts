import { readFileSync } from 'node:fs'
import { formatBytes } from '../units.js'
import { axisNames, kinds } from './kinds.js'

/** Modules of the page's script, each after what it uses. */
const modules = ['timeline', 'view', 'axes', 'chart', 'map', 'describe', 'figure', 'main']

/** The page's script: the compiled modules of client/ as one text without imports and exports. */
export function pageScript(): string {
  const parts = modules.map(name =>
    readFileSync(new URL(`client/${name}.js`, import.meta.url), 'utf8')
      .replace(/^import\s[^;]*?from\s*['"][^'"]+['"];?$/gm, '')
      .replace(/^export \{[^}]*\};?$/gm, '')
      .replace(/^export /gm, '')
      .trim(),
  )
  const call = `start(${JSON.stringify(kinds)}, ${JSON.stringify(axisNames)})`
  const text = ["'use strict'", formatBytes.toString(), ...parts, call].join('\n')
  // A closing tag inside a string would end the script element.
  return `(() => {\n${text.replaceAll('</', '<\\/')}\n})()`
}
