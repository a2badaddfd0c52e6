/**
 * Every kernel beside PyTorch's for the same shape, in short samples that alternate, with the machine's own limits measured between them.
 *   node dist/bench/kernels.js [--only WORD] [--threads 1,2] [--rounds N] [--venv FOLDER] [--compute bf16] [--out FILE without ending]
 * `% of peak`: of float32 multiply-adds in registers alone; of a copy of memory where memory is the limit.
 */
import { writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { formatTable } from '../lib/pipelines/pipeline-plan.js'
import type { Compute } from '../lib/runtime/device.js'
import { native } from '../lib/runtime/native.js'
import { allCases, type Case, type Family, streamCase } from './kernels/cases.js'
import { peakRate, prepare } from './kernels/ours.js'
import { provenance } from './provenance.js'
import { Rival, rivalPython } from './rival/rival.js'

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    threads: { type: 'string', default: '1,2' },
    rounds: { type: 'string', default: '7' },
    compute: { type: 'string', default: 'f32' },
    venv: { type: 'string' },
    out: { type: 'string' },
  },
})
const rounds = Number(values.rounds)
/** Both sides': PyTorch then holds everything in bfloat16. */
const compute = values.compute as Compute
const threadCounts = values.threads.split(',').map(Number)
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
  /** The rival's time over ours: above 1 we are faster. */
  readonly ratio: number
  /** Operations, or bytes where memory is the limit, per second. */
  readonly rate: number
  /** Of the machine's measured limit. */
  readonly share: number
  readonly flops: number
}

async function measure(one: Case, threads: number, limit: number): Promise<Measured> {
  const ours = prepare(one.program, threads, compute)
  const first = await rival.ask<{ seconds: number }>({
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
    const peak = one.flops > 0 ? await peakRate(threads) : limit
    // The system may wake both threads on one core, and parts them some milliseconds later.
    await ours.time(ourRepeats)
    const own = await ours.time(ourRepeats)
    await rival.ask({ do: 'time', repeats: theirRepeats })
    const { seconds } = await rival.ask<{ seconds: number }>({ do: 'time', repeats: theirRepeats })
    samples.push({ own, their: seconds, limit: peak })
  }
  ours.release()
  const work = one.flops || one.bytes
  const of = (value: (sample: (typeof samples)[number]) => number) => median(samples.map(value))
  return {
    family: one.family,
    name: one.name,
    times: one.times,
    threads,
    seconds: of(({ own }) => own),
    rivalSeconds: of(({ their }) => their),
    ratio: of(({ own, their }) => their / own),
    rate: work / of(({ own }) => own),
    share: of(({ own, limit }) => work / own / limit),
    flops: one.flops,
  }
}

/** The faster of both sides' copies of arrays that no cache holds, bytes per second. */
async function streamRate(threads: number): Promise<number> {
  const ours = prepare(streamCase.program, threads)
  await rival.ask({ do: 'prepare', case: streamCase.rival, threads })
  let seconds = Number.POSITIVE_INFINITY
  for (let round = 0; round < 5; round++) {
    await settle()
    seconds = Math.min(seconds, await ours.time(2))
    const their = await rival.ask<{ seconds: number }>({ do: 'time', repeats: 2 })
    seconds = Math.min(seconds, their.seconds)
  }
  ours.release()
  return streamCase.bytes / seconds
}

const python = rivalPython(['torch', 'numpy'], values.venv)
const rival = new Rival(python, 'kernels.py', Math.max(...threadCounts))
const cases = allCases().filter(({ family, name }) => `${family} ${name}`.includes(values.only))
const results: Measured[] = []
const limits: { threads: number; peak: number; stream: number }[] = []
for (const threads of threadCounts) {
  const stream = await streamRate(threads)
  limits.push({ threads, peak: await peakRate(threads), stream })
  for (const one of cases) {
    const result = await measure(one, threads, stream)
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
    unit: byMemory ? 'stream' : 'peak',
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
  ]),
])
const { model, selected } = native().cpu()
const heading = `${model}, ${selected}, ${compute}; PyTorch ${about.torch}; medians of ${rounds} alternating rounds; ${limits
  .map(
    l =>
      `${l.threads} thread${l.threads > 1 ? 's' : ''}: peak ${(l.peak / 1e9).toFixed(0)} GFLOP/s, copy ${(l.stream / 1e9).toFixed(1)} GB/s`,
  )
  .join('; ')}`
console.log(`${heading}\n\n${summaryTable}\n\n${table}`)
if (values.out) {
  const document = {
    ...provenance(),
    isa: selected,
    compute,
    ...about,
    rounds,
    limits,
    summaries,
    results,
  }
  writeFileSync(`${values.out}.json`, `${JSON.stringify(document, null, 1)}\n`)
  writeFileSync(
    `${values.out}.md`,
    `# Kernels beside PyTorch\n\n${heading}\n\n\`\`\`\n${summaryTable}\n\n${table}\n\`\`\`\n`,
  )
}
