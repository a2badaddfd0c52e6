/**
 * What rehash costs and gains on the embedded checkpoint: policies, features and storages against the full run of the same seed. Takes
 * long; what was measured stays in a file of samples, and a later call goes on from there.
 *   node dist/bench/rehash.js [--videos N] [--minutes M] [--samples FILE] [--out FOLDER]
 */
import { execFileSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { dirname, join } from 'node:path'
import { AnimateDiff } from '../lib/index.js'
import { psnr, ssim } from '../lib/quality/metrics.js'
import { whatIsShown } from '../tests/support/moving-shapes.js'
import { benchArguments } from './arguments.js'
import { cases, steps, videos, type Wanted } from './rehash/cases.js'
import { chart } from './rehash/chart.js'
import { markdown, rowsOf, type Sample } from './rehash/table.js'

const values = benchArguments(
  'rehash',
  {
    videos: { type: 'string', default: `${videos.length}` },
    minutes: { type: 'string', default: '600' },
    samples: { type: 'string', default: 'out/rehash-samples.jsonl' },
    out: { type: 'string' },
  },
  ['videos', 'minutes'],
)
const side = 64
const range = 2
const until = performance.now() + Number(values.minutes) * 60e3
// One thread: its processor time does not count waiting for another.
const pipeline = await AnimateDiff.load(undefined, { device: 'cpu', threads: 1 })

interface Run {
  readonly frames: Float32Array[]
  readonly fullSteps: number
  readonly seconds: number
}

async function generate({ prompt, seed }: Wanted, rehash: string | false): Promise<Run> {
  let begin: NodeJS.CpuUsage | undefined
  const video = await pipeline.generate({
    prompt,
    seed,
    steps,
    rehash,
    onProgress({ stage, phase }) {
      if (stage === 'denoise' && phase === 'run') begin ??= process.cpuUsage()
    },
  })
  const { user, system } = process.cpuUsage(begin)
  const frames: Float32Array[] = []
  for await (const frame of video.frames()) frames.push(frame.data)
  return { frames, fullSteps: video.fullSteps.length, seconds: (user + system) / 1e6 }
}

function compare(run: Run, other: Run): { psnr: number | null; ssim: number } {
  const [a, b] = [joined(run.frames), joined(other.frames)]
  const shape = { planes: 3 * run.frames.length, height: side, width: side }
  const decibels = psnr(a, b, range)
  return { psnr: Number.isFinite(decibels) ? decibels : null, ssim: ssim(a, b, shape, range) }
}

function joined(frames: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(frames.length * frames[0]!.length)
  frames.forEach((frame, i) => all.set(frame, i * frame.length))
  return all
}

function sampleOf(rehash: string, video: number, run: Run, full: Run, reference?: Run): Sample {
  const wanted = videos[video]!
  const shown = whatIsShown(run.frames, side, side)
  return {
    rehash,
    video,
    fullSteps: run.fullSteps,
    seconds: run.seconds,
    cacheBytes: pipeline.plan({ steps, rehash }).rehash?.cacheBytes ?? 0,
    ...compare(run, full),
    ...(reference && { referencePsnr: compare(run, reference).psnr }),
    colour: shown.colour === wanted.colour,
    motion: shown.motion === wanted.motion,
  }
}

const lines = existsSync(values.samples) ? readFileSync(values.samples, 'utf8').split('\n') : []
const known = lines.filter(line => line !== '').map(line => JSON.parse(line) as Sample)
mkdirSync(dirname(values.samples), { recursive: true })

function keep(sample: Sample): void {
  known.push(sample)
  appendFileSync(values.samples, `${JSON.stringify(sample)}\n`)
}

const has = (rehash: string, video: number) =>
  known.some(sample => sample.rehash === rehash && sample.video === video)

/** Every case of one video; false where time is up. */
async function measure(video: number): Promise<boolean> {
  const wanted = videos[video]!
  const left = cases.filter(
    ({ rehash, videos: most = videos.length }) => video < most && !has(rehash, video),
  )
  if (left.length === 0 && has('off', video)) return true
  const full = await generate(wanted, false)
  if (!has('off', video)) keep(sampleOf('off', video, full, full))
  const runs = new Map<string, Run>()
  const runOf = async (rehash: string): Promise<Run> => {
    const run = runs.get(rehash) ?? (await generate(wanted, rehash))
    runs.set(rehash, run)
    return run
  }
  for (const { rehash, reference } of left) {
    if (performance.now() > until) return false
    const other = reference === undefined ? undefined : await runOf(reference)
    keep(sampleOf(rehash, video, await runOf(rehash), full, other))
  }
  return true
}

for (let video = 0; video < Number(values.videos); video++) {
  if (!(await measure(video))) break
  console.error(`${video + 1} of ${values.videos} videos`)
}

const rows = rowsOf(known)
const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim()
const machine = `${cpus()[0]?.model ?? 'unknown processor'}, ${cpus().length} cores, node ${process.version}`
const date = new Date().toISOString().slice(0, 10)
const full = known.filter(({ rehash }) => rehash === 'off')
const text = markdown(rows, 'Rehash on models/moving-shapes', [
  `${full.length} videos (16 prompts, 2 seeds) of 16 frames, 25 steps of DDIM, guidance 2.5. \`node dist/bench/rehash.js --out bench/results\`; ${machine}; ${date}; commit ${commit}.`,
  'PSNR and SSIM of the decoded frames to those of the full run with the same seed, means over videos (range 2). *Faster*: processor time of ' +
    'denoising in one thread, of the full runs over theirs. *Kept*: of the videos whose full run shows the colour and the motion of its prompt ' +
    '(tests/support/moving-shapes.ts), how many still do.',
])
console.log(text)
if (values.out !== undefined) {
  mkdirSync(values.out, { recursive: true })
  writeFileSync(join(values.out, 'rehash.md'), text)
  writeFileSync(join(values.out, 'rehash.svg'), chart(rows))
  const head = JSON.stringify({ commit, machine, date })
  const list = rows.map(row => `    ${JSON.stringify(row)}`).join(',\n')
  writeFileSync(join(values.out, 'rehash.json'), `${head.slice(0, -1)},"rows":[\n${list}\n]}\n`)
}
