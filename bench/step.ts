/**
 * Whole steps beside diffusers on PyTorch, float32 (or, both, products in bfloat16), the same weights, in turn in the same run: time, and most memory beyond the weights. Ours
 * unsliced, at half and at a quarter of the unsliced arena (or the least that works).
 *   node dist/bench/step.js [--only vae,animatediff,svd] [--threads N] [--rounds N] [--ways eager,channels-last,compile] [--compute bf16]
 *     [--work FOLDER] [--venv FOLDER] [--out FILE without network and ending]
 * The weights, up to 6 GB a network, are made once in the work folder.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readFloats, readSafetensorsHeader } from '../lib/io/safetensors.js'
import { formatTable } from '../lib/pipelines/pipeline-plan.js'
import type { Compute } from '../lib/runtime/device.js'
import { native } from '../lib/runtime/native.js'
import { benchArguments } from './arguments.js'
import { provenance } from './provenance.js'
import { Rival, rivalPython } from './rival/rival.js'
import {
  programOf,
  type Question,
  questions,
  titles,
  weightFile,
  weightsIn,
} from './step/networks.js'
import { Network } from './step/ours.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const values = benchArguments(
  'step',
  {
    only: { type: 'string', default: 'vae,animatediff,svd' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '3' },
    ways: { type: 'string', default: 'eager,channels-last,compile' },
    compute: { type: 'string', default: 'f32' },
    work: { type: 'string', default: join(root, 'build/bench-step') },
    venv: { type: 'string' },
    out: { type: 'string' },
  },
  ['threads', 'rounds'],
  { compute: ['f32', 'bf16'] },
)
const threads = Number(values.threads)
const rounds = Number(values.rounds)
const compute = values.compute as Compute
const configs: Readonly<Record<string, string>> = {
  animatediff: 'animatediff-sd15',
  svd: 'svd',
  vae: 'animatediff-sd15',
}
const allWays: Readonly<Record<string, { channelsLast: boolean; compile: boolean }>> = {
  eager: { channelsLast: false, compile: false },
  'channels-last': { channelsLast: true, compile: false },
  compile: { channelsLast: true, compile: true },
}

/** Of PyTorch's memory beyond the weights: 0.35 is the goal, some of it for what a process holds beside its arena. */
const goalOfPytorch = 0.34

const median = (list: readonly number[]): number =>
  [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)]!
const say = (text: string): boolean => process.stderr.write(`${text}\n`)

interface RivalStep {
  readonly seconds: number
  readonly activationBytes: number
}

async function loadRival(rival: Rival, question: Question, weights: string, way: string) {
  await rival.ask({
    do: 'load',
    network: question.name,
    configs: join(root, 'tests/fixtures/configs', configs[question.name]!),
    weights,
    threads,
    way: { ...allWays[way]!, half: compute === 'bf16' },
  })
}

/** Tries each way of running the network in PyTorch; the fastest stays, warm. */
async function bestRival(question: Question, weights: string) {
  const tried: { way: string; seconds: number; activationBytes: number }[] = []
  let best: { rival: Rival; way: string; seconds: number } | undefined
  for (const way of values.ways.split(',')) {
    const rival = new Rival(python, 'step.py', threads)
    try {
      await loadRival(rival, question, weights, way)
      await rival.ask({ do: 'step' })
      const step = await rival.ask<RivalStep>({ do: 'step' })
      tried.push({ way, ...step })
      say(`${question.name}, PyTorch ${way}: ${step.seconds.toFixed(2)} s`)
      if (best && best.seconds <= step.seconds) {
        await rival.close()
        continue
      }
      await best?.rival.close()
      best = { rival, way, seconds: step.seconds }
    } catch (error) {
      say(`${question.name}, PyTorch ${way}: ${(error as Error).message}`)
      await rival.close()
    }
  }
  if (!best) throw new Error(`${question.name}: expected PyTorch to run it, got errors alone`)
  return { ...best, tried }
}

/** Largest difference as a share of the expected values' standard deviation. */
function apart(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length)
    throw new Error(`expected ${expected.length} values, got ${actual.length}`)
  let [sum, squares, most] = [0, 0, 0]
  for (let i = 0; i < actual.length; i++) {
    sum += expected[i]!
    squares += expected[i]! ** 2
    most = Math.max(most, Math.abs(actual[i]! - expected[i]!))
  }
  const mean = sum / actual.length
  return most / Math.sqrt(squares / actual.length - mean ** 2)
}

async function answer(question: Question) {
  const program = programOf(question)
  const weights = await weightFile(program, values.work, question.name)
  const { tensors } = readSafetensorsHeader(weights)
  const inputs: Record<string, Float32Array> = {}
  for (const name of Object.keys(program.inputs))
    inputs[name] = await readFloats(tensors.get(`input/${name}`)!)

  const { rival, way, tried } = await bestRival(question, weights)
  const network = await Network.open(program, weightsIn(weights), threads, compute)
  const unsliced = network.plan(undefined, 1)
  const half = network.plan(Math.floor(unsliced.arenaBytes / 2))
  const goal = goalOfPytorch * Math.min(...tried.map(({ activationBytes }) => activationBytes))
  const named = [
    { name: 'unsliced', plan: unsliced },
    { name: 'fastest', plan: network.plan() },
    { name: 'half', plan: half },
    ...(half.arenaBytes > goal
      ? [{ name: `${goalOfPytorch} of PyTorch`, plan: network.plan(goal) }]
      : []),
    { name: 'quarter', plan: network.plan(Math.floor(unsliced.arenaBytes / 4)) },
  ]
  const plans = named.filter(
    ({ plan }, i) => named.findIndex(other => other.plan.arenaBytes === plan.arenaBytes) === i,
  )
  const out = join(values.work, `${question.name}.out`)
  const samples: { rival: RivalStep; ours: { seconds: number; activationBytes: number }[] }[] = []
  let difference = 0
  let bits: Float32Array | undefined
  for (let round = 0; round < rounds; round++) {
    const their = await rival.ask<RivalStep>({ do: 'step', out: round === 0 ? out : null })
    const ours: { seconds: number; activationBytes: number }[] = []
    for (const { name, plan } of plans) {
      const { output, ...step } = await network.run(plan, inputs, question.halves)
      ours.push(step)
      if (!bits) {
        const bytes = readFileSync(out)
        difference = apart(output, new Float32Array(bytes.buffer, bytes.byteOffset, output.length))
        bits = output
      }
      if (Buffer.compare(Buffer.from(output.buffer), Buffer.from(bits.buffer)) !== 0)
        throw new Error(`${question.name}, ${name}: expected the bits of the unsliced run`)
      say(
        `${question.name}, ${name}: ${step.seconds.toFixed(2)} s, PyTorch ${their.seconds.toFixed(2)} s`,
      )
    }
    samples.push({ rival: their, ours })
  }
  rmSync(out, { force: true })
  await rival.close()
  network.close()
  // Other work on the machine only ever adds time, so the least of each counts; medians stand beside.
  const least = plans.map((_, i) => Math.min(...samples.map(({ ours }) => ours[i]!.seconds)))
  const theirs = Math.min(
    ...samples.map(({ rival }) => rival.seconds),
    ...tried.map(({ seconds }) => seconds),
  )
  return {
    name: question.name,
    packSeconds: network.packSeconds,
    /** Against PyTorch's result, of the same weights. */
    difference,
    pytorch: {
      way,
      tried,
      seconds: theirs,
      samples: samples.map(({ rival }) => rival.seconds),
      activationBytes: Math.max(...samples.map(({ rival }) => rival.activationBytes)),
    },
    ours: plans.map(({ name, plan }, i) => ({
      name,
      arenaBytes: plan.arenaBytes,
      commands: plan.programs.main!.commands,
      activationBytes: Math.max(...samples.map(({ ours }) => ours[i]!.activationBytes)),
      seconds: least[i]!,
      samples: samples.map(({ ours }) => ours[i]!.seconds),
      ofPytorch: least[i]! / theirs,
      ofFastest: least[i]! / Math.min(...least),
      /** Of PyTorch's time in the same round. */
      medianOfPytorch: median(samples.map(({ ours, rival }) => ours[i]!.seconds / rival.seconds)),
    })),
  }
}

type Answer = Awaited<ReturnType<typeof answer>>

function tableOf({ pytorch, ours }: Answer): string {
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(0)
  return formatTable([
    ['', 'seconds', 'of PyTorch', 'median', 'of our fastest', 'MB beyond weights', 'of PyTorch'],
    [
      `PyTorch, ${pytorch.way}`,
      pytorch.seconds.toFixed(2),
      '1',
      '1',
      '',
      megabytes(pytorch.activationBytes),
      '1',
    ],
    ...ours.map(plan => [
      `ours, ${plan.name}`,
      plan.seconds.toFixed(2),
      plan.ofPytorch.toFixed(2),
      plan.medianOfPytorch.toFixed(2),
      plan.ofFastest.toFixed(2),
      megabytes(plan.activationBytes),
      (plan.activationBytes / pytorch.activationBytes).toFixed(3),
    ]),
  ])
}

const python = rivalPython(
  ['torch', 'numpy', 'safetensors', 'diffusers', 'transformers'],
  values.venv,
)
const wanted = values.only.split(',')
const { model, selected } = native().cpu()
const heading = `${model}, ${selected}, ${threads} threads, ${compute}, least of ${rounds} rounds in turn; median: of the ratio within a round`
for (const question of questions) {
  if (!wanted.includes(question.name)) continue
  const one = await answer(question)
  const apart = `largest difference from PyTorch ${one.difference.toExponential(1)} of the output's standard deviation; weights packed in ${one.packSeconds.toFixed(1)} s`
  const text = `${titles[one.name]}\n\n${tableOf(one)}\n\n${apart}\n`
  console.log(`${heading}\n\n${text}`)
  if (!values.out) continue
  const path = `${values.out}-${question.name}`
  const document = { ...provenance(), isa: selected, threads, rounds, ...one }
  writeFileSync(`${path}.json`, `${JSON.stringify(document, null, 1)}\n`)
  writeFileSync(
    `${path}.md`,
    `# A whole step beside PyTorch\n\n${heading}\n\n\`\`\`\n${text}\`\`\`\n`,
  )
}
