// Builds the CUDA plug-in, build/Release/sluice_cuda.so, and checks what the compiler says of every
// kernel: no spills, registers and shared memory within limits, a library of moderate size.
//   npm run build:cuda [-- --arch 80,90a] [--fetch] [--jobs N] [--report FOLDER]
// Only what changed is compiled; the compiler's words about the rest are kept from when it was.
// nvcc: $CUDACXX, on PATH, in $CUDA_HOME or /usr/local/cuda, or in build/nvcc, a Python environment
// that --fetch makes from NVIDIA's wheels.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { faultsOf, parsePtxas, writeReport } from './ptxas.mjs'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const WHEELS = ['nvcc', 'crt', 'runtime', 'cccl'].map(name => `nvidia-cuda-${name}>=13,<14`)
const MOST_BYTES = 20e6

class BuildError extends Error {}

/** nvcc inside the Python environment, where there is one. */
function nvccOfWheels(environment) {
  const lib = join(environment, 'lib')
  if (!existsSync(lib)) return undefined
  return readdirSync(lib, { recursive: true })
    .filter(path => /nvidia\/[^/]+\/bin\/nvcc$/.test(path))
    .map(path => join(lib, path))[0]
}

function findNvcc() {
  const { CUDACXX, PATH = '', CUDA_HOME, CUDA_PATH } = process.env
  const places = [
    ...PATH.split(delimiter),
    ...[CUDA_HOME, CUDA_PATH, '/usr/local/cuda'].filter(Boolean).map(root => join(root, 'bin')),
  ]
  return [
    CUDACXX,
    ...places.map(place => join(place, 'nvcc')),
    nvccOfWheels(join(ROOT, 'build/nvcc')),
  ]
    .filter(Boolean)
    .find(path => existsSync(path))
}

/** NVIDIA's compiler from its Python wheels, in an environment of its own. */
function fetchNvcc() {
  const environment = join(ROOT, 'build/nvcc')
  for (const [command, ...args] of [
    ['python3', '-m', 'venv', environment],
    [join(environment, 'bin/pip'), 'install', '--quiet', ...WHEELS, 'nvidia-nvvm>=13,<14'],
  ]) {
    const { status, error } = spawnSync(command, args, { stdio: 'inherit' })
    if (status !== 0) throw new BuildError(`${command} failed (${error?.message ?? status})`)
  }
  return nvccOfWheels(environment)
}

/** Runs a command; resolves with all that it wrote. */
async function output(command, args, env) {
  const child = spawn(command, args, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', data => {
      text += data
    })
  }
  const code = await new Promise(resolve => {
    child.on('close', resolve)
    child.on('error', error => resolve(error.message))
  })
  if (code === 0) return text
  const lines = text
    .split('\n')
    .filter(line => /error|fatal/i.test(line) && !/ptxas info/.test(line))
  throw new BuildError(
    `${command} failed (${code})\n${(lines.length ? lines : text.split('\n')).slice(-15).join('\n')}`,
  )
}

/** What the compiler said of every object in the tree, now or when it was compiled. */
function wordsOf(tree) {
  return readdirSync(tree, { recursive: true })
    .filter(path => path.endsWith('.o.log') && existsSync(join(tree, path.slice(0, -4))))
    .map(path => readFileSync(join(tree, path), 'utf8'))
    .join('')
}

async function main() {
  const { values } = parseArgs({
    options: {
      arch: { type: 'string' },
      fetch: { type: 'boolean' },
      jobs: { type: 'string' },
      report: { type: 'string' },
    },
  })
  const nvcc = findNvcc() ?? (values.fetch ? fetchNvcc() : undefined)
  if (!nvcc) {
    throw new BuildError(
      'nvcc: expected the CUDA toolkit 13 on PATH, in CUDA_HOME or as CUDACXX, got none; install it, or let this script make a Python environment with it: npm run build:cuda -- --fetch',
    )
  }
  const tree = 'build/cuda'
  // NVIDIA's wheels have their libraries where nvcc does not look.
  const lib = join(dirname(realpathSync(nvcc)), '../lib')
  const path = [process.env.LIBRARY_PATH, existsSync(lib) ? lib : undefined].filter(Boolean)
  const env = { ...process.env, LIBRARY_PATH: path.join(delimiter) }
  const architectures = values.arch?.split(',').map(a => (/^\d+a?$/.test(a) ? `${a}-real` : a))
  const ninja = spawnSync('ninja', ['--version']).status === 0 ? ['-G', 'Ninja'] : []
  const options = [
    '-DCMAKE_BUILD_TYPE=Release',
    '-DSLUICE_CUDA=ON',
    `-DCMAKE_CUDA_COMPILER=${nvcc}`,
    `-DCMAKE_CUDA_COMPILER_LAUNCHER=${process.execPath};${join(ROOT, 'scripts/keep-output.mjs')}`,
    architectures
      ? `-DCMAKE_CUDA_ARCHITECTURES=${architectures.join(';')}`
      : '-UCMAKE_CUDA_ARCHITECTURES',
  ]
  await output('cmake', ['-S', 'cuda', '-B', tree, ...ninja, ...options], env)
  const jobs = values.jobs ?? `${availableParallelism()}`
  await output('cmake', ['--build', tree, '--parallel', jobs], env)
  const kernels = parsePtxas(wordsOf(join(ROOT, tree)))
  const faults = faultsOf(kernels)
  const bytes = statSync(join(ROOT, 'build/Release/sluice_cuda.so')).size
  if (kernels.length === 0) faults.push('no kernel was seen')
  if (bytes > MOST_BYTES) faults.push(`the library: ${bytes} bytes, more than ${MOST_BYTES}`)
  const names = new Set(kernels.map(({ name }) => name))
  const built = [...new Set(kernels.map(({ architecture }) => architecture))].sort()
  const most = Math.max(...kernels.map(({ registers }) => registers))
  console.log(
    `sluice_cuda.so: ${(bytes / 1e6).toFixed(1)} MB, ${names.size} kernels for ${built.join(', ')}, at most ${most} registers`,
  )
  if (values.report) {
    const version = spawnSync(nvcc, ['--version'], { encoding: 'utf8' }).stdout.match(
      /V[\d.]+/,
    )?.[0]
    writeReport(values.report, { compiler: `nvcc ${version}`, bytes, kernels })
  }
  if (faults.length) throw new BuildError(faults.join('\n'))
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    await main()
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
    console.error(`sluice: ${error.message}`)
    process.exitCode = 1
  }
}
