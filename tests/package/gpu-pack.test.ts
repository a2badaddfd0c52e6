import { readdirSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ROOT } from './checkout.js'

const script = pathToFileURL(join(ROOT, 'scripts/gpu-pack.mjs')).href
const { packedPackages } = (await import(script)) as { packedPackages(root: string): string[] }
const packed = packedPackages(ROOT)

/** Packages that a compiled script names. */
const importsOf = (path: string): string[] =>
  [...readFileSync(path, 'utf8').matchAll(/\b(?:from|import)[ (]*['"](@?[a-z][\w:./-]*)['"]/g)]
    .map(([, name]) => name!)
    .filter(name => !isBuiltin(name))
    .map(name =>
      name
        .split('/')
        .slice(0, name.startsWith('@') ? 2 : 1)
        .join('/'),
    )

test('the pack holds every package that the checks and benchmarks import, and no compiler', () => {
  const folders = [
    'dist/lib',
    'dist/bench',
    'dist/tests/cuda',
    'dist/tests/src',
    'dist/tests/support',
  ]
  const scripts = folders.flatMap(folder =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter(file => file.endsWith('.js'))
      .map(file => join(ROOT, folder, file)),
  )
  const wanted = new Set(scripts.flatMap(importsOf).filter(name => name !== 'sluice'))
  assert.ok(wanted.has('uvu') && wanted.has('sharp'))
  assert.equal(
    [...wanted].filter(name => !packed.includes(`node_modules/${name}`)),
    [],
  )
  for (const name of ['kleur', 'dequal', 'diff', 'sade', 'mri'])
    assert.ok(packed.includes(`node_modules/${name}`), `${name}, which uvu needs`)
  for (const name of ['typescript', 'esbuild', 'cmake-js'])
    assert.not.ok(packed.includes(`node_modules/${name}`), name)
})

test.run()
