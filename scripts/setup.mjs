// Brings a checkout to where it can run, doing only what is out of date: packages, TypeScript, native
// addon and, for the tests, the emulated CUDA plug-in. Needs nothing but Node, so `npm run demo` and
// `npm test` work on a fresh clone.
//   node scripts/setup.mjs [--no-native | --emulation]
import { spawn, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const NATIVE_SOURCES = ['CMakeLists.txt', 'scripts/build.cmake', 'src']
const EMULATION_SOURCES = ['cuda', 'src/core', 'tests/cuda/native']
const SCRIPT_SOURCES = [
  'tsconfig.json',
  'package-lock.json',
  'scripts/bundle.mjs',
  'lib',
  'tests',
  'bench',
]

class SetupError extends Error {}

/** Newest modification time in milliseconds below a file or folder; 0 where there is none. */
function newest(path) {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (!stat?.isDirectory()) return stat?.mtimeMs ?? 0
  // A folder's own time counts: it changes when a source is removed.
  return readdirSync(path).reduce((t, n) => Math.max(t, newest(join(path, n))), stat.mtimeMs)
}

/** Whether node_modules holds just what the lock file names; optional packages may be absent. */
export function packagesAreFresh(root) {
  const installed = join(root, 'node_modules/.package-lock.json')
  if (!existsSync(installed)) return false
  const packages = file => JSON.parse(readFileSync(file, 'utf8')).packages
  const have = packages(installed)
  return Object.entries(packages(join(root, 'package-lock.json'))).every(([path, want]) => {
    if (path === '') return true
    const found = have[path]
    return found ? found.version === want.version : want.optional === true
  })
}

/** Whether `stamp` is at least as new as every source. */
export function isFresh(root, stamp, sources) {
  const made = newest(join(root, stamp))
  return made > 0 && sources.every(source => newest(join(root, source)) <= made)
}

/** Runs a command without showing it; rejects with a line for people and the output's useful end. */
async function quietly(what, command, args) {
  const child = spawn(command, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', text => {
      output += text
    })
  }
  const code = await new Promise(resolve => {
    child.on('close', resolve)
    child.on('error', error => resolve(error.message))
  })
  if (code === 0) return
  const noise = /^(npm warn|npm error (code|path|command|A complete)|info\b|ERROR OMG)/
  const lines = [...new Set(output.split('\n'))].filter(l => l.trim() && !noise.test(l))
  const errors = lines.filter(l => /error/i.test(l))
  const shown = (errors.length ? errors.slice(0, 10) : lines.slice(-10)).join('\n')
  throw new SetupError(`sluice: ${what} failed (${code})\n${shown}`)
}

function say(text) {
  console.error(`sluice: ${text}`)
}

/** Dates the stamp to the start of the step, so that a source edited meanwhile counts as newer. */
function finish(stamp, started) {
  mkdirSync(join(ROOT, stamp, '..'), { recursive: true })
  writeFileSync(join(ROOT, stamp), '')
  utimesSync(join(ROOT, stamp), started, started)
}

/** The bin script of an installed package, run by this very Node: no shell and no .bin needed. */
function binOf(name, bin) {
  const manifest = join(ROOT, 'node_modules', name, 'package.json')
  return join(manifest, '..', JSON.parse(readFileSync(manifest, 'utf8')).bin[bin])
}

async function installPackages() {
  if (packagesAreFresh(ROOT)) return
  say('installing packages')
  const npm = process.env.npm_execpath
  const viaNode = npm && basename(npm) === 'npm-cli.js'
  // Scripts are left out because the only one that matters here is our own, and the addon is built below.
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund']
  await quietly('npm ci', viaNode ? process.execPath : 'npm', viaNode ? [npm, ...args] : args)
}

async function buildTypeScript() {
  const stamp = 'dist/.built'
  if (isFresh(ROOT, stamp, SCRIPT_SOURCES)) return
  const started = new Date()
  await quietly('compiling TypeScript', process.execPath, [binOf('typescript', 'tsc'), '-p', '.'])
  await quietly('bundling', process.execPath, ['scripts/bundle.mjs'])
  finish(stamp, started)
}

async function buildNative() {
  const stamp = 'build/.built'
  if (existsSync(join(ROOT, 'build/Release/sluice.node')) && isFresh(ROOT, stamp, NATIVE_SOURCES)) {
    return
  }
  const line = createRequire(import.meta.url)('./toolchain.cjs').complaint()
  if (line) throw new SetupError(line)
  say('building the native addon (a minute or two the first time)')
  const started = new Date()
  const args = [binOf('cmake-js', 'cmake-js'), 'compile', '--out', 'build/cmake']
  await quietly('building the native addon', process.execPath, args)
  finish(stamp, started)
}

/** The CUDA plug-in's sources as C++, for a GPU of host memory: the compiler that builds the addon is enough. */
async function buildEmulation() {
  const stamp = 'build/emulation/.built'
  const library = join(ROOT, 'build/emulation/sluice_cuda_emulated.so')
  if (existsSync(library) && isFresh(ROOT, stamp, EMULATION_SOURCES)) return
  say('building the emulated CUDA plug-in (a minute the first time)')
  const started = new Date()
  const tree = 'build/emulation/cmake'
  const fresh = !existsSync(join(ROOT, tree, 'CMakeCache.txt'))
  const ninja = fresh && spawnSync('ninja', ['--version']).status === 0 ? ['-G', 'Ninja'] : []
  const options = ['-DCMAKE_BUILD_TYPE=Release', '-DSLUICE_CUDA_EMULATION=ON']
  const what = 'building the emulated CUDA plug-in'
  await quietly(what, 'cmake', ['-S', 'cuda', '-B', tree, ...ninja, ...options])
  await quietly(what, 'cmake', ['--build', tree, '--parallel', `${availableParallelism()}`])
  finish(stamp, started)
}

export async function setup({ native = true, emulation = false } = {}) {
  await installPackages()
  await buildTypeScript()
  if (native) await buildNative()
  if (emulation) await buildEmulation()
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    await setup({
      native: !process.argv.includes('--no-native'),
      emulation: process.argv.includes('--emulation'),
    })
  } catch (error) {
    if (!(error instanceof SetupError)) throw error
    console.error(error.message)
    process.exitCode = 1
  }
}
