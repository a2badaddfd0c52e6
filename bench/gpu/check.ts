/**
 * Checks everything that a GPU computes: each kernel against the CPU's tests, programs, recorded components and runs, bytes, and all that
 * NVIDIA's own checker sees. Results by item under bench/results; a call leaves what its minutes do not hold to the next one.
 *   node dist/bench/gpu/check.js [--only SECTION|ITEM,…] [--minutes 8] [--again] [--list] [--small] [--out FOLDER] [--copy FOLDER]
 * --small: what an emulated GPU does in a minute. --copy: where the results go besides, such as a lent machine's folder.
 */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { root } from '../../tests/support/recorded.js'
import { execute, failure, told } from './child.js'
import { describe, found, gpu, isEmulated } from './device.js'
import { ResultFile } from './record.js'
import { callArguments, called, chosen, type Item, runItems } from './runner.js'

const compiled = (path: string): string => join(root, 'dist', path)

interface Verdict {
  passed: number
  failed: number
  reason: string
}
const {
  verdict,
}: { verdict(output: string, code: number | null, signal: string | null): Verdict } = await import(
  pathToFileURL(join(root, 'scripts/test.mjs')).href
)

/** A file of tests, run on the GPU. */
function testItem(
  name: string,
  file: string,
  env: Readonly<Record<string, string>> = {},
  before: readonly string[] = [],
): Item {
  return {
    name,
    run: async seconds => {
      const [command, ...args] = [...before, process.execPath, compiled(`tests/${file}.test.js`)]
      const ended = await execute(command!, args, {
        seconds,
        env: { SLUICE_TEST_DEVICE: gpu, ...env },
      })
      const { passed, failed } = verdict(ended.output, ended.code, ended.signal)
      if (failed || ended.late) return failure(ended)
      return { passed: true, detail: `${passed} tests` }
    },
  }
}

/** A program of items/. */
function programItem(name: string, program: string, ...args: string[]): Item {
  return {
    name,
    run: async seconds =>
      told(
        await execute(process.execPath, [compiled(`bench/gpu/items/${program}.js`), ...args], {
          seconds,
        }),
      ),
  }
}

const families = {
  pointwise: ['f32'],
  norm: ['f32'],
  quantise: ['f32'],
  conv: ['f32', 'f16', 'bf16'],
  attention: ['f32', 'f16', 'bf16'],
} as const
const components = [
  'clip-text',
  'clip-text-gelu',
  'clip-vision',
  'vae',
  'vae-plain',
  'vae-temporal',
  'unet-motion',
  'unet-motion-mid',
  'unet-motion-whole',
  'unet-spatio-temporal',
]
const runs = [
  'ad-lcm',
  'ad-euler-karras',
  'ad-dpmpp-2m',
  'ad-pndm',
  'ad-plms',
  'ad-wide',
  'ad-blue-square',
  'ad-red-circle',
  'svd-run',
]

/** compute-sanitizer over a family's tests, where it is installed and can watch this device. */
function sanitizerItem(tool: string, family: string): Item {
  const arguments_ = ['--tool', tool, '--error-exitcode', '9', '--target-processes', 'all']
  const dtype = tool === 'memcheck' || tool === 'racecheck' ? 'f16' : 'f32'
  const watched = testItem(
    `sanitizer/${tool} ${family}`,
    `src/cpu/${family}`,
    // Launches one by one, so that a report names the kernel.
    { SLUICE_TEST_DTYPE: dtype, SLUICE_CUDA_GRAPHS: '0' },
    ['compute-sanitizer', ...arguments_],
  )
  return {
    name: watched.name,
    run: async seconds => {
      const { code } = await execute('compute-sanitizer', ['--version'], { seconds: 60 })
      if (code !== 0)
        return { passed: true, skipped: true, detail: 'compute-sanitizer is not installed' }
      return watched.run(seconds)
    },
  }
}

const items: Item[] = [
  programItem('device/described', 'device'),
  programItem('memory/generations', 'memory'),
  testItem('memory/device', 'cuda/backend'),
  ...Object.entries(families).flatMap(([family, dtypes]) =>
    dtypes.map(dtype =>
      testItem(`kernels/${family} ${dtype}`, `src/cpu/${family}`, { SLUICE_TEST_DTYPE: dtype }),
    ),
  ),
  testItem('kernels/copy', 'src/copy'),
  testItem('programs/random', 'cuda/programs'),
  testItem('programs/boxes', 'cuda/boxes'),
  testItem('programs/pipeline', 'cuda/pipeline'),
  ...components.flatMap(name =>
    ['f32', 'f16', 'bf16'].map(dtype =>
      programItem(`components/${name} ${dtype}`, 'component', name, dtype),
    ),
  ),
  ...runs.flatMap(name =>
    ['f32', 'f16'].map(dtype => programItem(`golden/${name} ${dtype}`, 'golden', name, dtype)),
  ),
  ...['memcheck', 'racecheck', 'synccheck', 'initcheck'].flatMap(tool =>
    Object.keys(families).map(family => sanitizerItem(tool, family)),
  ),
]

/** What an emulated GPU gets through in a minute. */
const smallItems: Item[] = [
  programItem('device/described', 'device'),
  programItem('memory/generations', 'memory', '--small'),
  testItem('kernels/quantise f32', 'src/cpu/quantise'),
  testItem('kernels/copy', 'src/copy'),
  testItem('programs/pipeline', 'cuda/pipeline'),
  testItem('programs/boxes', 'cuda/boxes'),
  programItem('components/clip-text f16', 'component', 'clip-text', 'f16'),
  programItem('components/vae-plain f32', 'component', 'vae-plain', 'f32'),
  sanitizerItem('memcheck', 'quantise'),
]

async function main(): Promise<number> {
  const { values, options } = callArguments()
  const all = values.small ? smallItems : items
  if (values.list) {
    for (const { name } of chosen(all, options.only)) console.log(name)
    return 0
  }
  const device = found()
  const folder = values.out ?? join(root, isEmulated(device) ? 'out/gpu' : 'bench/results')
  const slug = device.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')
  const file = ResultFile.open(join(folder, `gpu-check-${slug}`), 'GPU check')
  const code = await runItems(all, file, describe(device, values.small), options)
  if (values.copy) file.copyTo(values.copy)
  return code
}

process.exitCode = await called('gpu:check', main)
