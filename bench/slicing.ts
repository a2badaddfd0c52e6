/**
 * What memory costs in time, modelled and measured: the UNet of AnimateDiff (Stable Diffusion 1.5) at half its width with seeded weights,
 * run unsliced, at three quarters, half and a quarter of the unsliced arena where that is enough, with the least, and with all weights streamed. Plans of one round run one after another, so that the machine's other work
 * falls on all of them; ratios are medians over rounds.
 *   node dist/bench/slicing.js [--side PIXELS] [--frames N] [--rounds N] [--threads N] [--out FILE]
 */
import { writeFileSync } from 'node:fs'
import { BudgetError } from '../lib/errors.js'
import { unetMotion, unetMotionConfig } from '../lib/models/index.js'
import { formatTable } from '../lib/pipelines/pipeline-plan.js'
import { compile, type Executable, planProgramOf } from '../lib/runtime/executable.js'
import { networkConfig } from '../tests/support/networks.js'
import { seededTensor } from '../tests/support/seeded.js'
import { benchArguments } from './arguments.js'
import { provenance } from './provenance.js'

const values = benchArguments(
  'slicing',
  {
    side: { type: 'string', default: '256' },
    frames: { type: 'string', default: '16' },
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: '2' },
    out: { type: 'string' },
  },
  ['side', 'frames', 'rounds', 'threads'],
)
const [side, frames, rounds, threads] = [
  values.side,
  values.frames,
  values.rounds,
  values.threads,
].map(Number) as [number, number, number, number]

const unet = networkConfig('animatediff-sd15/unet')
const half = (widths: unknown) => (widths as number[]).map(width => width / 2)
const config = unetMotionConfig(
  { ...unet, block_out_channels: half(unet.block_out_channels) },
  {
    ...networkConfig('animatediff-sd15/motion_adapter'),
    block_out_channels: half(unet.block_out_channels),
  },
)
const program = unetMotion(config, { frames, rows: side / 8, cols: side / 8, tokens: 77 })
const weights: Record<string, Float32Array> = {}
for (const tensor of program.weights) weights[tensor.name] = seededTensor(tensor.name, tensor.shape)
const options = { device: 'cpu', threads, weights, streaming: 'never' as const }

const whole = planProgramOf(program, options)
const least = leastBudget()
interface Memory {
  readonly name: string
  readonly budget?: number
  readonly streaming?: 'always'
}
const budgets: Memory[] = [
  { name: 'unsliced' },
  { name: 'three quarters', budget: whole.weights.bytes + Math.floor(0.75 * whole.arenaBytes) },
  { name: 'half', budget: whole.weights.bytes + Math.floor(0.5 * whole.arenaBytes) },
  { name: 'quarter', budget: whole.weights.bytes + Math.floor(0.25 * whole.arenaBytes) },
  { name: 'least', budget: least },
  { name: 'streamed weights', streaming: 'always' } as Memory,
].filter(({ budget }) => budget === undefined || budget >= least)

function leastBudget(): number {
  try {
    return planProgramOf(program, { ...options, budget: 0 }).peakBytes
  } catch (error) {
    if (error instanceof BudgetError) return error.needed
    throw error
  }
}

const inputs = Object.fromEntries(
  Object.entries(program.inputs).map(([name, { shape }]) => [
    name,
    name === 'timestep' ? Float32Array.of(500) : seededTensor(`${name}.weight`, shape),
  ]),
)
const executables: Executable[] = []
for (const { budget, streaming } of budgets)
  executables.push(
    await compile(program, {
      ...options,
      ...(budget && { budget }),
      ...(streaming && { streaming }),
    }),
  )
const seconds = budgets.map((): number[] => [])
let reference: Float32Array | undefined
for (let round = -1; round < rounds; round++) {
  for (const [i, executable] of executables.entries()) {
    const start = performance.now()
    const { sample } = await executable.run(inputs)
    // The first round warms caches and pages.
    if (round >= 0) seconds[i]!.push((performance.now() - start) / 1000)
    reference ??= sample
    if (Buffer.compare(Buffer.from(sample!.buffer), Buffer.from(reference!.buffer)) !== 0)
      throw new Error(`${budgets[i]!.name}: expected the bits of the unsliced run`)
  }
}

const median = (list: readonly number[]): number =>
  [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)]!
const modelled = executables.map(({ plan }) => plan.programs.main!.work.seconds)
const results = executables.map(({ plan }, i) => ({
  name: budgets[i]!.name,
  arenaBytes: plan.arenaBytes,
  peakBytes: plan.peakBytes,
  commands: plan.programs.main!.commands,
  seconds: median(seconds[i]!),
  modelled: modelled[i]! / modelled[0]!,
  measured: median(seconds[i]!.map((value, round) => value / seconds[0]![round]!)),
}))
const { cost } = executables[0]!.plan
for (const executable of executables) executable.close()

console.log(
  `half-width AnimateDiff UNet, ${frames} frames of ${side} x ${side}, ${threads} threads, ${rounds} rounds; times of the model: ${cost}\n`,
)
console.log(
  formatTable([
    [
      'arena',
      'MB',
      'of unsliced',
      'MB with weights',
      'commands',
      'seconds',
      'modelled',
      'measured',
      'apart',
    ],
    ...results.map(({ name, arenaBytes, peakBytes, commands, seconds: taken, ...ratio }) => [
      name,
      (arenaBytes / 1e6).toFixed(1),
      (arenaBytes / results[0]!.arenaBytes).toFixed(3),
      (peakBytes / 1e6).toFixed(1),
      `${commands}`,
      taken.toFixed(3),
      ratio.modelled.toFixed(3),
      ratio.measured.toFixed(3),
      `${(100 * (ratio.measured / ratio.modelled - 1)).toFixed(1)} %`,
    ]),
  ]),
)
if (values.out)
  writeFileSync(
    values.out,
    `${JSON.stringify({ date: new Date().toISOString(), ...provenance(), frames, side, threads, rounds, cost, results }, null, 2)}\n`,
  )
