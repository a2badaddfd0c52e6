// Packs the package, installs the tarball into an empty folder with no compiler and no cmake on PATH,
// and uses it there: ESM, CommonJS, a worker thread, the command line, the demo video.
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const FORBIDDEN = [
  'cmake',
  'cmake-js',
  'ninja',
  'make',
  'c++',
  'g++',
  'gcc',
  'cc',
  'clang++',
  'python3',
]
const PROMPT = 'a red circle moving right on a black background'

/** Runs in the installed place: one denoising step, each frame a Uint8Array of pixels. */
const USE = `
async function use(sluice) {
  const pipeline = await sluice.AnimateDiff.load()
  try {
    const video = await pipeline.generate({ prompt: ${JSON.stringify(PROMPT)}, frames: 4, steps: 1, seed: 9 })
    let frames = 0
    for await (const _ of video.frames()) frames++
    if (frames !== 4) throw new Error('expected 4 frames, got ' + frames)
  } finally {
    await pipeline[Symbol.asyncDispose]()
  }
}`

const SCRIPTS = {
  'esm.mjs': `import * as sluice from 'sluice'\n${USE}\nawait use(sluice)`,
  'commonjs.cjs': `${USE}\nuse(require('sluice'))`,
  'worker.mjs': `
    import { Worker } from 'node:worker_threads'
    const code = ${JSON.stringify(`${USE}\nuse(require('sluice'))`)}
    await new Promise((resolve, reject) => new Worker(code, { eval: true }).on('error', reject)
      .on('exit', code => code ? reject(new Error('the worker exited with ' + code)) : resolve()))`,
}

/** npm by its script, so that it runs where PATH is almost empty. */
function npmScript() {
  if (basename(process.env.npm_execpath ?? '') === 'npm-cli.js') return process.env.npm_execpath
  const folder = process.env.PATH.split(':').find(f => existsSync(join(f, 'npm')))
  return realpathSync(join(folder, 'npm'))
}

function run(command, args, cwd, env = process.env) {
  const { status, signal, stdout, stderr, error } = spawnSync(command, args, {
    cwd,
    env,
    encoding: 'utf8',
    timeout: 900_000,
  })
  if (status === 0) return stdout
  throw new Error(
    `${status ?? signal ?? error}\n${`${stdout}${stderr}`.trim().split('\n').slice(-20).join('\n')}`,
  )
}

/** A folder that holds node, sh and nothing that compiles, to be the whole PATH. */
function poorPath(place) {
  const path = join(place, 'bin')
  mkdirSync(path)
  symlinkSync(process.execPath, join(path, 'node'))
  const sh = process.env.PATH.split(':').find(f => existsSync(join(f, 'sh')))
  symlinkSync(realpathSync(join(sh, 'sh')), join(path, 'sh'))
  for (const tool of FORBIDDEN) {
    if (spawnSync(tool, ['--version'], { env: { PATH: path } }).status === 0) {
      throw new Error(`${tool} is still found`)
    }
  }
  return path
}

/** Environment of a user: no npm lifecycle variables of this run, no build tools. */
function userEnvironment(path) {
  const kept = Object.entries(process.env).filter(
    ([key]) =>
      !/^npm_(package|lifecycle|command|execpath|node_execpath)/.test(key) && key !== 'INIT_CWD',
  )
  return { ...Object.fromEntries(kept), PATH: path, npm_config_update_notifier: 'false' }
}

/** Number of frames of an animated WebP file. */
function webpFrames(file) {
  const bytes = readFileSync(file)
  if (bytes.toString('latin1', 0, 4) !== 'RIFF' || bytes.toString('latin1', 8, 12) !== 'WEBP') {
    throw new Error(`${basename(file)}: expected a WebP file`)
  }
  let frames = 0
  for (let at = 12; at + 8 <= bytes.length; ) {
    if (bytes.toString('latin1', at, at + 4) === 'ANMF') frames++
    const size = bytes.readUInt32LE(at + 4)
    at += 8 + size + (size & 1)
  }
  return frames
}

/** The newest glibc that a binary asks for, e.g. `2.34`; undefined where it asks for none. */
function glibcOf(binary) {
  const versions = readFileSync(binary, 'latin1').matchAll(/GLIBC_2\.(\d+)/g)
  const minor = Math.max(-1, ...Array.from(versions, match => Number(match[1])))
  return minor < 0 ? undefined : `2.${minor}`
}

const place = mkdtempSync(join(tmpdir(), 'sluice-package-'))
const npm = npmScript()
const app = join(place, 'app')
const installed = join(app, 'node_modules/sluice')
let env = process.env
let done = 0
let failed = 0

function check(what, action) {
  if (failed) return
  const started = performance.now()
  try {
    const note = action()
    done++
    console.log(
      `ok   ${what}${note ? `: ${note}` : ''}  (${((performance.now() - started) / 1000).toFixed(1)} s)`,
    )
  } catch (error) {
    failed++
    console.log(`FAIL ${what}: ${error.message}`)
  }
}

const mebibytes = file => `${(statSync(file).size / 2 ** 20).toFixed(1)} MiB`
const cli = (...args) =>
  run(process.execPath, [npm, 'exec', '--offline', '--', 'sluice', ...args], app, env)

try {
  check('npm pack', () => {
    run(process.execPath, [npm, 'pack', '--pack-destination', place], ROOT)
    return mebibytes(tarball())
  })
  check('install without a compiler', () => {
    env = userEnvironment(poorPath(place))
    mkdirSync(app)
    writeFileSync(join(app, 'package.json'), '{ "private": true }')
    run(
      process.execPath,
      [npm, 'install', '--no-audit', '--no-fund', '--prefer-offline', tarball()],
      app,
      env,
    )
    if (existsSync(join(installed, 'build'))) throw new Error('the addon was built, not found')
    const prebuilt = readdirSync(join(installed, 'prebuilds'), { recursive: true }).filter(f =>
      f.endsWith('.node'),
    )
    return prebuilt
      .map(f => `${f} needs glibc ${glibcOf(join(installed, 'prebuilds', f)) ?? 'none'}`)
      .join(', ')
  })
  for (const [file, code] of Object.entries(SCRIPTS)) {
    check(`generate from ${file}`, () => {
      writeFileSync(join(app, file), code)
      run(process.execPath, [file], app, env)
    })
  }
  check('npx sluice doctor', () => {
    cli('doctor')
  })
  check('npx sluice generate, the demo video', () => {
    const out = join(app, 'out/demo.webp')
    const report = join(app, 'out/report.html')
    const options = ['--steps', '25', '--guidance', '2.5', '--seed', '9', '--report', report]
    cli('generate', PROMPT, ...options, '-o', out)
    if (!readFileSync(report, 'utf8').includes('formatBytes'))
      throw new Error('expected a report with its script')
    const frames = webpFrames(out)
    if (frames !== 16) throw new Error(`expected 16 frames, got ${frames}`)
    return `${frames} frames, ${statSync(out).size} bytes`
  })
} finally {
  rmSync(place, { recursive: true, force: true })
}
console.log(
  failed ? `package check: failed after ${done} steps` : `package check: all ${done} steps passed`,
)
process.exitCode = failed ? 1 : 0

function tarball() {
  return join(
    place,
    readdirSync(place).find(file => file.endsWith('.tgz')),
  )
}
