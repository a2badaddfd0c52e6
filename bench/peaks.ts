/**
 * What the planner reaches on the published networks at 576x1024, weights apart, activations in float16, against the floor that
 * bench/floor.ts computes by itself, and what memory costs in modelled time.
 *   node dist/bench/peaks.js [--only WORD] [--backend NAME] [--threads N] [--wgmma] [--out FILE]
 */
import { writeFileSync } from 'node:fs'
import { BudgetError } from '../lib/errors.js'
import { formatTable } from '../lib/pipelines/pipeline-plan.js'
import { planStage, type StagePlan } from '../lib/planner/plan.js'
import type { Program } from '../lib/program/graph.js'
import type { Target } from '../lib/program/op.js'
import { networks } from '../tests/support/networks.js'
import { benchArguments } from './arguments.js'
import { floorOf } from './floor.js'
import { provenance } from './provenance.js'

const values = benchArguments(
  'peaks',
  {
    only: { type: 'string', default: '' },
    backend: { type: 'string', default: 'cuda' },
    threads: { type: 'string', default: '1' },
    wgmma: { type: 'boolean', default: false },
    out: { type: 'string' },
  },
  ['threads'],
)

interface Question {
  readonly name: string
  readonly network: string
  readonly frames: number
  /** The target of the peak, and the floor found by hand, in MB. */
  readonly target: number
  readonly byHand?: number
  /** Most operations spent on making tensors again, as a share. */
  readonly recompute: number
}

const unet = { recompute: 0.02 }
const vae = { recompute: 0.03 }
const questions: readonly Question[] = [
  {
    name: 'AnimateDiff 16',
    network: 'animatediff unet',
    frames: 16,
    target: 375,
    byHand: 354,
    ...unet,
  },
  { name: 'SVD 14', network: 'svd unet', frames: 14, target: 340, byHand: 316, ...unet },
  { name: 'SVD-XT 25', network: 'svd-xt unet', frames: 25, target: 600, byHand: 564, ...unet },
  { name: 'VAE decode 1', network: 'vae decoder', frames: 1, target: 330, byHand: 302, ...vae },
  { name: 'VAE encode 1', network: 'vae encoder', frames: 1, target: 330, ...vae },
  {
    name: 'temporal decode 14',
    network: 'temporal decoder',
    frames: 14,
    target: 2700,
    byHand: 2420,
    ...vae,
  },
  {
    name: 'decodeChunk 2',
    network: 'temporal decoder',
    frames: 2,
    target: 650,
    byHand: 606,
    ...vae,
  },
]

const megabyte = 1e6
const target: Target = {
  backend: values.backend,
  threads: Number(values.threads),
  ...(values.wgmma && { wgmma: true }),
}

/** Bytes of the arena, which is the peak without weights, and what they cost. */
interface Outcome {
  readonly bytes: number
  readonly seconds: number
  readonly flops: number
  /** What waits on the host. */
  readonly hostBytes: number
  readonly overBound: number
  readonly commands: number
  readonly planSeconds: number
}

/** A plan with `arena` bytes beside the weights; where that is not enough, what would be. */
function planAt(
  program: Program,
  recompute: number,
  arena?: number,
  slices?: number,
  spill = false,
) {
  const weightBytes = () => 'f16' as const
  const attempt = (budget?: number): StagePlan =>
    planStage(
      { name: program.name, state: {}, programs: { main: program } },
      {
        target,
        weightDtype: weightBytes,
        activations: 'f16',
        budget,
        slices,
        recompute,
        streaming: 'never',
        spill,
      },
    )
  const begin = performance.now()
  const done = (plan: StagePlan): Outcome => ({
    bytes: plan.arenaBytes,
    seconds: plan.programs.main!.work.seconds,
    flops: plan.programs.main!.work.flops,
    hostBytes: plan.hostBytes,
    overBound: plan.programs.main!.bytes / plan.programs.main!.lowerBound,
    commands: plan.programs.main!.commands,
    planSeconds: (performance.now() - begin) / 1000,
  })
  try {
    return done(attempt(arena === undefined ? undefined : arena + weights(program)))
  } catch (error) {
    if (!(error instanceof BudgetError)) throw error
    return error.needed - weights(program)
  }
}

const known = new WeakMap<Program, number>()
function weights(program: Program): number {
  const bytes =
    known.get(program) ??
    planStage(
      { name: program.name, state: {}, programs: { main: program } },
      { target, weightDtype: () => 'f16', activations: 'f16', slices: 1 },
    ).weights.bytes
  known.set(program, bytes)
  return bytes
}

function answer(question: Question) {
  const { name, network, frames, recompute } = question
  const program = networks[network]!({ frames, rows: 576, cols: 1024 })
  const goal = question.target * megabyte
  const floor = floorOf(program, 'f16', recompute)
  const whole = planAt(program, recompute, undefined, 1) as Outcome
  const fastest = planAt(program, recompute) as Outcome
  weights(program)
  const begin = performance.now()
  const least = planAt(program, recompute, 0)
  const leastSeconds = (performance.now() - begin) / 1000
  const smallest = typeof least === 'number' ? planAt(program, recompute, least) : least
  const at = (bytes: number, spill = false) => {
    const plan = planAt(program, recompute, Math.floor(bytes), undefined, spill)
    if (typeof plan === 'number') return { needs: plan }
    return {
      ...plan,
      ratio: plan.seconds / fastest.seconds,
      again: plan.flops / fastest.flops - 1,
    }
  }
  return {
    name,
    target: goal,
    floor,
    byHand: question.byHand && question.byHand * megabyte,
    unsliced: whole.bytes,
    fastest,
    smallest: { ...(smallest as Outcome), planSeconds: leastSeconds },
    atTarget: at(goal),
    half: at(whole.bytes / 2),
    quarter: at(whole.bytes / 4, true),
  }
}

type Answer = ReturnType<typeof answer>
const size = (bytes: number | undefined): string =>
  bytes === undefined ? '' : (bytes / megabyte).toFixed(1)
const ratio = (plan: Answer['half']): string =>
  'ratio' in plan ? plan.ratio.toFixed(3) : `needs ${size(plan.needs)}`

const answers = questions.filter(({ name }) => name.includes(values.only)).map(answer)
console.log(
  `peaks in MB (10^6 bytes) without weights, f16, ${target.backend}${target.wgmma ? ' with wgmma' : ''}, ${target.threads} thread(s)\n`,
)
console.log(
  formatTable([
    ['network', 'floor', 'by hand', 'target', 'smallest', 'time', 'again', 'planned in'],
    ...answers.map(({ name, floor, byHand, target, smallest, fastest }) => [
      name,
      size(floor.bytes),
      size(byHand),
      size(target),
      `${size(smallest.bytes)}${smallest.bytes <= target ? '' : ' (over)'}`,
      (smallest.seconds / fastest.seconds).toFixed(3),
      `${(100 * (smallest.flops / fastest.flops - 1)).toFixed(2)} %`,
      `${smallest.planSeconds.toFixed(1)} s`,
    ]),
  ]),
)
console.log('\nmodelled time as a multiple of the fastest plan\n')
console.log(
  formatTable([
    [
      'network',
      'unsliced',
      'fastest',
      'at target',
      'at half',
      'at a quarter, spilling',
      'arena / bound',
      'planned in',
    ],
    ...answers.map(({ name, unsliced, fastest, atTarget, half, quarter, smallest }) => {
      const plans = [fastest, smallest, atTarget, half, quarter].filter(plan => 'bytes' in plan)
      return [
        name,
        size(unsliced),
        size(fastest.bytes),
        ratio(atTarget),
        ratio(half),
        ratio(quarter),
        Math.max(...plans.map(({ overBound }) => overBound)).toFixed(4),
        `${Math.max(...plans.map(({ planSeconds }) => planSeconds)).toFixed(1)} s`,
      ]
    }),
  ]),
)
for (const { name, floor } of answers) {
  const tensors = floor.tensors.slice(0, 6).map(t => `${t.name} ${size(t.bytes)}`)
  console.log(`\nfloor of ${name}: ${floor.from} to ${floor.to}\n  ${tensors.join(', ')}`)
  if (floor.again.length > 0)
    console.log(`  again, ${(100 * floor.share).toFixed(2)} %: ${floor.again.join(', ')}`)
}
if (values.out)
  writeFileSync(values.out, `${JSON.stringify({ ...provenance(), target, answers }, null, 1)}\n`)
