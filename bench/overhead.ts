/**
 * What is spent around the kernels: dispatch of a command, import to first command, packing of Stable Diffusion 1.5's UNet in float16
 * (1.7 GB, from the page cache), and two runs at once.
 *   node dist/bench/overhead.js [--work FOLDER] [--out FILE.json]
 */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { formatTable } from '../lib/pipelines/pipeline-plan.js'
import { activationProgram } from '../lib/runtime/calibrate-kinds.js'
import { planProgramOf } from '../lib/runtime/executable.js'
import { native } from '../lib/runtime/native.js'
import { PackList } from '../lib/runtime/weights.js'
import { networks } from '../tests/support/networks.js'
import { benchArguments } from './arguments.js'
import { prepare } from './kernels/ours.js'
import { checkpointOf } from './overhead/checkpoint.js'
import { provenance } from './provenance.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const values = benchArguments('overhead', {
  work: { type: 'string', default: join(root, 'build/bench-overhead') },
  out: { type: 'string' },
})
const median = (list: readonly number[]): number =>
  [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)]!
const mostThreads = native().cpu().threads

/** Seconds of a command that does next to nothing, in a stream of many. */
async function dispatchSeconds(threads: number): Promise<number> {
  const tiny = prepare(activationProgram('none', 64), threads)
  const samples: number[] = []
  for (let i = 0; i < 21; i++) samples.push(await tiny.time(2000))
  tiny.release()
  return median(samples)
}

/** Milliseconds from importing the package to the end of a first command, in a new process. */
function startMilliseconds(): number {
  const entry = pathToFileURL(join(root, 'dist/bundle/index.js')).href
  const code = `
    const begin = performance.now()
    const { add, program, run } = await import('${entry}')
    const twice = program('twice', ({ input }) => { const x = input('x', [16]); return { y: add(x, x) } })
    await run(twice, { x: new Float32Array(16) })
    console.log(performance.now() - begin)`
  const samples = Array.from({ length: 7 }, () =>
    Number(
      execFileSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' }),
    ),
  )
  return median(samples)
}

async function packing(): Promise<{ bytes: number; seconds: number }> {
  const unet = networks['animatediff unet']!({ frames: 1, rows: 256, cols: 256 })
  const own = unet.weights.filter(({ name }) => name.startsWith('unet/'))
  const source = checkpointOf(own, join(values.work, 'unet-f16.bin'))
  const { weights: layout } = planProgramOf(unet, { device: 'cpu', weights: source, slices: 1 })
  const wanted = layout.weights.filter(({ tensor }) => tensor.name.startsWith('unet/'))
  const bytes = own.reduce(
    (sum, { name }) => sum + (source.find(name) as { bytes: number }).bytes,
    0,
  )
  const samples: number[] = []
  for (let i = 0; i < 3; i++) {
    const block = native().createBlock('cpu', layout.bytes)
    const list = new PackList(native(), wanted, source)
    const begin = performance.now()
    await native().pack(block, list.jobs, mostThreads).done
    samples.push((performance.now() - begin) / 1000)
    list.close()
    block.release()
  }
  return { bytes, seconds: median(samples) }
}

/** Two equal runs at once: how long each takes, of one alone. */
async function twoAtOnce(): Promise<{ first: number; second: number }> {
  const program = () => activationProgram('gelu', 1 << 16)
  const both = [prepare(program(), mostThreads), prepare(program(), mostThreads)] as const
  const repeats = 2000
  await Promise.all(both.map(one => one.time(repeats)))
  const ratios: { first: number; second: number }[] = []
  for (let i = 0; i < 5; i++) {
    const alone = await both[0].time(repeats)
    const [first, second] = await Promise.all(both.map(one => one.time(repeats)))
    ratios.push({ first: first! / alone, second: second! / alone })
  }
  for (const one of both) one.release()
  return {
    first: median(ratios.map(({ first }) => first)),
    second: median(ratios.map(({ second }) => second)),
  }
}

const dispatch = []
for (let threads = 1; threads <= mostThreads; threads *= 2)
  dispatch.push({ threads, microseconds: 1e6 * (await dispatchSeconds(threads)) })
const start = startMilliseconds()
const packed = await packing()
const shared = await twoAtOnce()

console.log(
  formatTable([
    ['what', 'measured', 'goal'],
    ...dispatch.map(({ threads, microseconds }) => [
      `a command, ${threads} thread${threads > 1 ? 's' : ''}`,
      `${microseconds.toFixed(2)} us`,
      '5 us',
    ]),
    ['import to first command', `${start.toFixed(0)} ms`, '150 ms'],
    [`packing ${(packed.bytes / 1e9).toFixed(2)} GB`, `${packed.seconds.toFixed(2)} s`, '3 s'],
    [
      'each of two runs at once, of one alone',
      `${shared.first.toFixed(2)} and ${shared.second.toFixed(2)}`,
      '2 and 2',
    ],
  ]),
)
if (values.out)
  writeFileSync(
    values.out,
    `${JSON.stringify({ ...provenance(), threads: mostThreads, dispatch, startMilliseconds: start, packed, shared }, null, 1)}\n`,
  )
