/**
 * Every kernel beside PyTorch's for the same shape, in short samples that alternate, with the machine's own limit measured between them.
 *   node dist/bench/kernels.js [--only WORD] [--threads 1,2] [--rounds N] [--venv FOLDER] [--compute bf16] [--out FILE without ending]
 * `% of peak`: of float32 multiply-adds in registers alone; of our copy of as many elements where memory is the limit.
 * PyTorch is installed where it is missing (rival.ts), some gigabytes.
 */
import { writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatTable } from '../lib/pipelines/pipeline-plan.js'
import type { Compute } from '../lib/runtime/device.js'
import { native } from '../lib/runtime/native.js'
import { benchArguments, refuseOption } from './arguments.js'
import { allCases, type Case, copyCase, type Family } from './kernels/cases.js'
import { peakRate, prepare } from './kernels/ours.js'
import { provenance } from './provenance.js'
import { Rival, rivalPython } from './rival/rival.js'

const values = benchArguments(
  'kernels',
  {
    only: { type: 'string', default: '' },
    threads: { type: 'string', default: '1,2' },
    rounds: { type: 'string', default: '7' },
    compute: { type: 'string', default: 'f32' },
    venv: { type: 'string' },
    out: { type: 'string' },
  },
  ['threads', 'rounds'],
  { compute: ['f32', 'bf16'] },
)
const rounds = Number(values.rounds)
/** Both sides': PyTorch then holds everything in bfloat16. */
const compute = values.compute as Compute
const threadCounts = values.threads.split(',').map(Number)
const cases = allCases().filter(one => `${one.family} ${one.name}`.includes(values.only))
if (cases.length === 0)
  refuseOption('kernels', `--only: expected a word in the name of a kernel, got ${values.only}`)
/** Seconds of one sample, at least. */
const sampleSeconds = 0.025
/** Workers of the other side spin a while after their last call. */
const settle = () => sleep(20)

const median = (list: readonly number[]): number =>
  [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)]!

interface Measured {
  readonly family: Family
  readonly name: string
  readonly times: number
  readonly threads: number
  /** Medians over the rounds. */
  readonly seconds: number
  readonly rivalSeconds: number
  /** The way of the rival's that was fastest. */
  readonly rivalWay: string
  /** The rival's time over ours: above 1 we are faster. */
  readonly ratio: number
  /** Operations, or bytes where memory is the limit, per second. */
  readonly rate: number
  /** Of the machine's measured limit. */
  readonly share: number
  readonly flops: number
}

async function measure(one: Case, threads: number): Promise<Measured> {
  const ours = prepare(one.program, threads, compute)
  const copy = one.flops > 0 ? undefined : copyOf(one, threads)
  const first = await rival.ask<{ seconds: number; what: string }>({
    do: 'prepare',
    case: one.rival,
    threads,
    dtype: compute,
  })
  const repeats = (seconds: number) => Math.max(1, Math.ceil(sampleSeconds / seconds))
  await ours.time(1)
  const ourRepeats = repeats(await ours.time(1))
  const theirRepeats = repeats(first.seconds)
  const samples: { own: number; their: number; limit: number }[] = []
  for (let round = 0; round < rounds; round++) {
    await settle()
    const peak = copy ? await copy.rate() : await peakRate(threads)
    // The system may wake both threads on one core, and parts them some milliseconds later.
    await ours.time(ourRepeats)
    const own = await ours.time(ourRepeats)
    await rival.ask({ do: 'time', repeats: theirRepeats })
    const { seconds } = await rival.ask<{ seconds: number }>({ do: 'time', repeats: theirRepeats })
    samples.push({ own, their: seconds, limit: peak })
  }
  ours.release()
  copy?.release()
  const work = one.flops || one.bytes
  const of = (value: (sample: (typeof samples)[number]) => number) => median(samples.map(value))
  return {
    family: one.family,
    name: one.name,
    times: one.times,
    threads,
    seconds: of(({ own }) => own),
    rivalSeconds: of(({ their }) => their),
    rivalWay: first.what,
    ratio: of(({ own, their }) => their / own),
    rate: work / of(({ own }) => own),
    share: of(({ own, limit }) => work / own / limit),
    flops: one.flops,
  }
}

/** Our copy of as many elements as a case has: what memory, or the cache that holds them, allows at that moment. */
function copyOf(one: Case, threads: number) {
  const { shape } = one.rival as { shape: readonly [number, number, number, number] }
  const { program, bytes } = copyCase(shape)
  const ours = prepare(program, threads)
  return {
    async rate(): Promise<number> {
      const repeats = Math.max(1, Math.ceil(sampleSeconds / (await ours.time(1))))
      return bytes / (await ours.time(repeats))
    },
    release: () => ours.release(),
  }
}

const python = rivalPython(['torch', 'numpy'], values.venv)
const rival = new Rival(python, 'kernels.py', Math.max(...threadCounts))
const results: Measured[] = []
for (const threads of threadCounts) {
  for (const one of cases) {
    const result = await measure(one, threads)
    results.push(result)
    process.stderr.write(
      `${threads}t ${one.name}: ${(100 * result.share).toFixed(1)} %, ${result.ratio.toFixed(2)}\n`,
    )
  }
}
const about = await rival.ask<{ torch: string }>({ do: 'about' })
await rival.close()

// --- Tables ---------------------------------------------------------------------------------------

const percent = (share: number) => (100 * share).toFixed(1)

/** Weighted by the operations that the network spends on each: shares and ratios of whole times. */
function summary(family: Family, threads: number) {
  const own = results.filter(r => r.family === family && r.threads === threads)
  const sum = (value: (r: Measured) => number) =>
    own.reduce((total, r) => total + r.times * value(r), 0)
  const byMemory = family === 'pointwise'
  return {
    family,
    threads,
    // Of the time that the work would take at the limit.
    share: sum(r => r.share * r.seconds) / sum(r => r.seconds),
    least: Math.min(...own.map(r => r.share)),
    ratio: sum(r => r.ratio * r.seconds) / sum(r => r.seconds),
    leastRatio: Math.min(...own.map(r => r.ratio)),
    unit: byMemory ? 'copy' : 'peak',
  }
}

const families = [...new Set(results.map(({ family }) => family))]
const summaries = threadCounts.flatMap(threads => families.map(family => summary(family, threads)))
const summaryTable = formatTable([
  ['kernels', 'threads', '% of', 'mean', 'least', 'PyTorch / ours', 'least'],
  ...summaries.map(s => [
    s.family,
    `${s.threads}`,
    s.unit,
    percent(s.share),
    percent(s.least),
    s.ratio.toFixed(2),
    s.leastRatio.toFixed(2),
  ]),
])
const table = formatTable([
  [
    'kernel',
    'times',
    'threads',
    'ms',
    'GFLOP/s or GB/s',
    '% of limit',
    'PyTorch ms',
    'PyTorch / ours',
    'by',
  ],
  ...results.map(r => [
    `${r.family === 'conv' || r.family === 'pointwise' ? '' : `${r.family} `}${r.name}`,
    `${r.times}`,
    `${r.threads}`,
    (1e3 * r.seconds).toFixed(3),
    (r.rate / 1e9).toFixed(1),
    percent(r.share),
    (1e3 * r.rivalSeconds).toFixed(3),
    r.ratio.toFixed(2),
    r.rivalWay,
  ]),
])
const { model, selected } = native().cpu()
const heading = `${model}, ${selected}, ${compute}; PyTorch ${about.torch}, the fastest of its ways for each, oneDNN by name among them; medians of ${rounds} alternating rounds`
console.log(`${heading}\n\n${summaryTable}\n\n${table}`)
if (values.out) {
  const document = {
    ...provenance(),
    isa: selected,
    compute,
    ...about,
    rounds,
    summaries,
    results,
  }
  writeFileSync(`${values.out}.json`, `${JSON.stringify(document, null, 1)}\n`)
  writeFileSync(
    `${values.out}.md`,
    `# Kernels beside PyTorch\n\n${heading}\n\n\`\`\`\n${summaryTable}\n\n${table}\n\`\`\`\n`,
  )
}
