import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { basename, join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ROOT } from './checkout.js'

interface Manifest {
  name: string
  dependencies: Record<string, string>
  bin: Record<string, string>
  main: string
  types: string
}

const manifest: Manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))

/** The paths that `npm pack` would put into the tarball. */
function packed(): string[] {
  const npm = process.env.npm_execpath
  const args = ['pack', '--dry-run', '--json', '--ignore-scripts']
  const { stdout } =
    npm && basename(npm) === 'npm-cli.js'
      ? spawnSync(process.execPath, [npm, ...args], { cwd: ROOT, encoding: 'utf8' })
      : spawnSync('npm', args, { cwd: ROOT, encoding: 'utf8', shell: process.platform === 'win32' })
  const [{ files }] = JSON.parse(stdout) as [{ files: { path: string }[] }]
  return files.map(file => file.path)
}

const files = packed()

test('the tarball runs, and builds from source where no binary fits', () => {
  const model = 'models/moving-shapes'
  const wanted = [
    'LICENSE',
    'README.md',
    'package.json',
    'CMakeLists.txt',
    'binding.gyp',
    'scripts/build.cmake',
    'scripts/toolchain.cjs',
    manifest.main.slice(2),
    manifest.types.slice(2),
    'dist/bundle/index.js',
    'dist/lib/index.cjs',
    'dist/lib/index.d.cts',
    'dist/lib/report/client/main.js',
    ...Object.values(manifest.bin),
    `${model}/model_index.json`,
    `${model}/tokenizer/vocab.json`,
    `${model}/tokenizer/merges.txt`,
    ...['unet', 'vae', 'motion_adapter'].map(
      f => `${model}/${f}/diffusion_pytorch_model.safetensors`,
    ),
  ]
  assert.equal(
    wanted.filter(path => !files.includes(path)),
    [],
  )
})

test('every native source is in the tarball', () => {
  const sources = ['src', 'cuda'].flatMap(folder =>
    existsSync(join(ROOT, folder))
      ? readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
          .filter(entry => entry.isFile())
          .map(entry => join(entry.parentPath, entry.name).slice(ROOT.length))
      : [],
  )
  assert.ok(sources.length > 0)
  assert.equal(
    sources.filter(path => !files.includes(path)),
    [],
  )
})

test('nothing of the workshop is in the tarball', () => {
  const strangers = files.filter(path =>
    /^(tests|bench|build|node_modules|dist\/(tests|bench))\//.test(path),
  )
  assert.equal(strangers, [])
})

test('the shipped code imports only what is listed as a dependency', () => {
  const missing = new Set<string>()
  for (const path of files.filter(f => /^dist\/.*\.c?js$/.test(f))) {
    const code = readFileSync(join(ROOT, path), 'utf8')
    for (const [, name] of code.matchAll(
      /\b(?:from|import|require)[ (]*['"](@?[a-z][\w:./-]*)['"]/g,
    )) {
      const bare = name!
        .split('/')
        .slice(0, name!.startsWith('@') ? 2 : 1)
        .join('/')
      if (!isBuiltin(name!) && bare !== manifest.name && !(bare in manifest.dependencies))
        missing.add(`${bare} in ${path}`)
    }
  }
  assert.equal([...missing], [])
})

test('the lock file names no registry and is complete on every platform', () => {
  interface Entry {
    resolved?: string
    version?: string
    optionalDependencies?: Record<string, string>
  }
  const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, Entry>
  }
  const entries = Object.values(packages)
  assert.equal(
    entries.filter(e => e.resolved).map(e => e.resolved),
    [],
  )
  const optional = entries.flatMap(e => Object.keys(e.optionalDependencies ?? {}))
  assert.equal(
    optional.filter(name => !(`node_modules/${name}` in packages)),
    [],
  )
})

test.run()
