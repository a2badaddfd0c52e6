// Packs what a machine with a GPU needs besides the working tree, as out/gpu/pack.tar.xz: this node, the addon and the CUDA plug-in,
// the compiled scripts, the packages they load and, for gpu:bench, Python wheels of diffusers. Names in it begin at the repository's root.
//   node scripts/gpu-pack.mjs [--no-wheels]      docs/gpu.md says how it is used
import { spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const FOLDER = join(ROOT, 'out/gpu')
/** What travels at most, and a lent machine takes: with the tracked files, 64 MiB. */
const MOST_BYTES = 64 * 2 ** 20
const WHEELS = ['diffusers==0.42.0', 'importlib-metadata']

class PackError extends Error {}

function run(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: ROOT,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    ...options,
  })
  if (status === 0) return stdout
  throw new PackError(
    `${command} ${args[0]} failed: ${error?.message ?? stderr.trim().slice(-600)}`,
  )
}

/** Folders, below node_modules, of the packages that the library needs at run time, and of uvu with what it needs: the checks are tests. */
export function packedPackages(root) {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))
  const checks = new Set()
  const need = name => {
    const path = `node_modules/${name}`
    if (checks.has(path)) return
    checks.add(path)
    for (const dependency of Object.keys(packages[path].dependencies ?? {})) need(dependency)
  }
  need('uvu')
  return Object.entries(packages)
    .filter(([path, { dev }]) => path.startsWith('node_modules/') && (!dev || checks.has(path)))
    .map(([path]) => path)
    .filter(path => existsSync(join(root, path)) && !path.includes('linuxmusl'))
}

function bytesOf(path) {
  const stat = statSync(path)
  if (!stat.isDirectory()) return stat.size
  return readdirSync(path).reduce((sum, name) => sum + bytesOf(join(path, name)), 0)
}

function trackedBytes() {
  return run('git', ['ls-files', '-z'])
    .split('\0')
    .filter(path => path && existsSync(join(ROOT, path)))
    .reduce((sum, path) => sum + statSync(join(ROOT, path)).size, 0)
}

function main() {
  const stage = join(FOLDER, 'stage')
  rmSync(FOLDER, { recursive: true, force: true })
  mkdirSync(join(stage, 'bin'), { recursive: true })
  for (const file of ['build/Release/sluice.node', 'dist']) {
    if (!existsSync(join(ROOT, file)))
      throw new PackError(`${file}: expected it built, got none; run npm run build`)
  }
  const copy = path => cpSync(join(ROOT, path), join(stage, path), { recursive: true })
  copy('build/Release/sluice.node')
  const plugin = 'build/Release/sluice_cuda.so'
  if (existsSync(join(ROOT, plugin))) copy(plugin)
  else console.log(`${plugin} is not built (npm run build:cuda): the machine's own nvcc must`)
  // What tests and benchmarks run: no bundle, no types.
  const runs = path => !path.endsWith('.d.ts') && !path.endsWith('dist/bundle')
  cpSync(join(ROOT, 'dist'), join(stage, 'dist'), { recursive: true, filter: runs })
  for (const path of packedPackages(ROOT)) copy(path)
  writeFileSync(join(stage, 'dist/commit.txt'), run('git', ['rev-parse', '--short', 'HEAD']))
  cpSync(process.execPath, join(stage, 'bin/node'))
  spawnSync('strip', [join(stage, 'bin/node')])
  if (!process.argv.includes('--no-wheels')) {
    const platform = ['--python-version', '3.12', '--platform', 'manylinux_2_28_x86_64']
    const where = ['-d', join(stage, 'wheels'), '--only-binary=:all:', '--no-deps']
    run('python3', ['-m', 'pip', 'download', '--quiet', ...platform, ...where, ...WHEELS])
  }
  for (const name of readdirSync(stage))
    console.log(`${name.padEnd(14)} ${(bytesOf(join(stage, name)) / 2 ** 20).toFixed(1)} MiB`)
  const pack = join(FOLDER, 'pack.tar.xz')
  run('tar', ['-C', stage, '-cJf', pack, ...readdirSync(stage)], {
    env: { ...process.env, XZ_OPT: '-7' },
  })
  rmSync(stage, { recursive: true })
  const [packed, tracked] = [statSync(pack).size, trackedBytes()]
  const text = bytes => `${(bytes / 2 ** 20).toFixed(1)} MiB`
  console.log(
    `${relative(ROOT, pack)}: ${text(packed)}, with the tracked files ${text(packed + tracked)}`,
  )
  if (packed + tracked > MOST_BYTES)
    throw new PackError(`expected at most ${text(MOST_BYTES)} in all; carry less`)
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    main()
  } catch (error) {
    if (!(error instanceof PackError)) throw error
    console.error(`sluice: ${error.message}`)
    process.exitCode = 1
  }
}
