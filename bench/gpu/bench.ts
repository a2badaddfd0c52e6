/**
 * Measures what a GPU does, beside PyTorch and diffusers on the same GPU in the same call: kernels beside cuBLAS, cuDNN and SDPA; one pass
 * through a UNet and whole videos of true size with seeded weights, in as much memory as they like and in little.
 *   node dist/bench/gpu/bench.js [--only SECTION|ITEM,…] [--minutes 8] [--again] [--list] [--small] [--out FOLDER] [--copy FOLDER]
 * Environment: SLUICE_RIVAL_PYTHON (a Python with torch and diffusers; python3), SLUICE_BENCH_PLACE (a folder for checkpoints of some
 * gigabytes; the system's temporary one). --small: what an emulated GPU and PyTorch on a CPU do, so that every line has run.
 */
import { mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from '../../tests/support/recorded.js'
import type { ModelName } from './checkpoint.js'
import { execute, told } from './child.js'
import { describe, found, isEmulated } from './device.js'
import { modelFolder } from './items/model-folder.js'
import {
  type KernelCase,
  type KernelKind,
  kernelCases,
  kernelKinds,
  smallKernelCases,
  workOf,
} from './kernel-cases.js'
import type { NetworkRequest, RivalResult, StepResult, VideoResult } from './network-request.js'
import { type Outcome, ResultFile } from './record.js'
import { askRival, type Rival } from './rival.js'
import { callArguments, called, chosen, type Item, runItems } from './runner.js'

const { values, options } = argumentsOrExit()
const { small } = values
const place = process.env.SLUICE_BENCH_PLACE ?? join(tmpdir(), 'sluice-gpu')
const rival: Rival = { device: small ? 'cpu' : 'cuda', small }

function argumentsOrExit() {
  try {
    return callArguments()
  } catch (error) {
    console.error(`gpu:bench: ${(error as Error).message}`)
    process.exit(2)
  }
}

const program = async (
  name: string,
  args: readonly string[],
  seconds: number,
  env: Readonly<Record<string, string>> = {},
): Promise<Outcome> =>
  told(
    await execute(process.execPath, [join(root, `dist/bench/gpu/items/${name}.js`), ...args], {
      seconds,
      env,
    }),
  )

// --- Kernels --------------------------------------------------------------------------------------

interface KernelRivals {
  readonly missing?: string
  readonly copy?: number
  readonly results?: readonly { name: string; milliseconds: number | null; what: string }[]
}

type TimedCase = KernelCase & { milliseconds: number }

const hasProducts = (kind: KernelKind): boolean => kind === 'gemm' || kind === 'conv'

function kernelsItem(kind: KernelKind): Item {
  return {
    name: `kernels/${kind}`,
    run: async seconds => {
      const args = [kind, ...(small ? ['--small'] : [])]
      const ours = await program('kernels', args, seconds)
      if (!ours.passed) return ours
      const timed = ours.values as TimedCase[]
      // The same without the kernels of compute capability 9.0, where that changes anything.
      const older = hasProducts(kind)
        ? await program('kernels', args, seconds, { SLUICE_CUDA_WGMMA: '0' })
        : undefined
      const without = older?.passed ? (older.values as TimedCase[]) : []
      const cases = (small ? smallKernelCases : kernelCases).filter(c => c.kind === kind)
      const theirs = await askRival<KernelRivals>('gpu_kernels', { cases }, rival, seconds)
      const rows = timed.map((c, i) => kernelRow(c, theirs, i, without[i]))
      const met = rows.filter(({ ratio, goal }) => ratio !== undefined && ratio >= goal).length
      const lines = rows.map(row => row.text)
      const head = theirs.missing ? `no rival: ${theirs.missing}` : `${met} of ${rows.length} goals`
      return { passed: true, detail: `${head}; ${lines.join('; ')}`, values: { rows, theirs } }
    },
  }
}

/** A case's numbers: how our speed stands to the rival's, or to a copy's bandwidth for what moves bytes alone. */
function kernelRow(c: TimedCase, theirs: KernelRivals, i: number, without?: TimedCase) {
  const { flops, bytes } = workOf(c)
  const byBytes = c.kind === 'norm' || c.kind === 'temporal'
  const rate = (byBytes ? bytes : flops) / (c.milliseconds / 1e3)
  const rivals = theirs.results?.[i]
  const rivalRatio = rivals?.milliseconds ? rivals.milliseconds / c.milliseconds : undefined
  const copyRatio = byBytes && theirs.copy ? rate / theirs.copy : undefined
  const ratio = byBytes ? copyRatio : rivalRatio
  const speed = byBytes ? `${(rate / 1e9).toFixed(0)} GB/s` : `${(rate / 1e12).toFixed(1)} TFLOP/s`
  const beside = [
    rivalRatio !== undefined && `${rivalRatio.toFixed(2)} x ${rivals!.what}`,
    copyRatio !== undefined && `${copyRatio.toFixed(2)} x copy`,
    without && `${without.milliseconds.toFixed(4)} ms without wgmma`,
  ].filter(Boolean)
  return {
    ...c,
    rate,
    ratio,
    rivalRatio,
    ...(without ? { withoutWgmma: without.milliseconds } : {}),
    text: `${c.name}: ${c.milliseconds.toFixed(4)} ms, ${speed}${beside.length ? `, ${beside.join(', ')}` : ''}`,
  }
}

// --- Networks -------------------------------------------------------------------------------------

interface NetworkCase {
  readonly model: ModelName
  readonly frames: number
  readonly height: number
  readonly width: number
  /** Most bytes with weights resident, and with weights streamed: the goals of the project. */
  readonly budgets: readonly string[]
}

const networkCases: readonly NetworkCase[] = small
  ? [
      { model: 'animatediff', frames: 2, height: 32, width: 32, budgets: ['16 MiB'] },
      { model: 'svd', frames: 2, height: 32, width: 32, budgets: ['24 MiB'] },
    ]
  : (['animatediff', 'svd', 'svd-xt'] as const).flatMap(model =>
      [
        [512, 512],
        [576, 1024],
      ].map(([height, width]) => ({
        model,
        frames: { animatediff: 16, svd: 14, 'svd-xt': 25 }[model],
        height: height!,
        width: width!,
        budgets: model === 'animatediff' ? ['3.2 GB', '1 GB'] : ['3.8 GB', '1 GB'],
      })),
    )

const caseName = ({ model, height, width }: NetworkCase): string => `${model} ${height}x${width}`

async function requestOf(c: NetworkCase, steps: number): Promise<NetworkRequest> {
  const exchange = join(place, 'exchange', caseName(c).replaceAll(' ', '-'))
  mkdirSync(exchange, { recursive: true })
  const folder = await modelFolder(c.model, small, place)
  const { budgets: _, ...rest } = c
  return { ...rest, folder, exchange, steps, decodeChunk: 2 }
}

const gigabytes = (bytes: number | null | undefined): string =>
  typeof bytes === 'number' ? `${(bytes / 1e9).toFixed(2)} GB` : 'bytes not known'

/** One way to run ours, and what came of it. */
interface Way {
  readonly name: string
  readonly budget?: string
  readonly env?: Readonly<Record<string, string>>
}

/** Ours without a budget, within the budgets, and in the first of them without slices beside each other. */
const waysOf = (what: 'step' | 'video', budgets: readonly string[]): Way[] => [
  { name: 'budget none' },
  ...budgets.map(budget => ({ name: `budget ${budget}`, budget })),
  ...(what === 'step'
    ? budgets.slice(0, 1).map(budget => ({
        name: `budget ${budget}, one stream`,
        budget,
        env: { SLUICE_CUDA_OVERLAP: '0' },
      }))
    : []),
]

/** A budget that cannot hold is a result too. */
async function ours<T>(
  what: 'step' | 'video',
  request: NetworkRequest,
  budgets: readonly string[],
  seconds: number,
): Promise<{ first: Outcome; all: { way: Way; outcome: Outcome; result?: T }[] }> {
  const all: { way: Way; outcome: Outcome; result?: T }[] = []
  const end = performance.now() + seconds * 1000
  for (const way of waysOf(what, budgets)) {
    const rest = (end - performance.now()) / 1000
    const args = [JSON.stringify(request), ...(way.budget ? [way.budget] : [])]
    const outcome = await program(what, args, Math.max(1, rest), way.env)
    all.push({ way, outcome, result: outcome.values as T | undefined })
  }
  return { first: all[0]!.outcome, all }
}

function networkItem(what: 'step' | 'video', c: NetworkCase): Item {
  return {
    name: `${what}s/${caseName(c)}`,
    run: async seconds => {
      const request = await requestOf(
        c,
        small ? (what === 'step' ? 1 : 3) : what === 'step' ? 5 : 25,
      )
      const end = performance.now() + seconds * 1000
      const half = seconds / 2
      const { first, all } = await ours<StepResult & VideoResult>(what, request, c.budgets, half)
      const rest = Math.max(1, (end - performance.now()) / 1000)
      const asked = { what, ...request, seconds: rest * 0.8 }
      const theirs = await askRival<RivalResult>('gpu_networks', asked, rival, rest)
      const unit = what === 'step' ? 'milliseconds' : 'secondsPerStep'
      const fastest = all[0]!.result?.[unit]
      const lines = all.map(({ way, outcome, result }) =>
        result
          ? `${way.name}: ${result[unit].toPrecision(4)} ${unit}, ${gigabytes(result.peakBytes)} planned, ${gigabytes(result.deviceBytes)} of the device`
          : `${way.name}: ${outcome.detail}`,
      )
      for (const [name, variant] of Object.entries(theirs.variants ?? {})) {
        const time = variant[unit]
        const ratio = fastest && time ? `, ours ${(fastest / time).toFixed(2)} of it` : ''
        const apart =
          variant.difference === undefined ? '' : `, ${variant.difference.toExponential(1)} apart`
        lines.push(
          variant.failed
            ? `diffusers ${name}: ${variant.failed}`
            : `diffusers ${name}: ${time?.toPrecision(4)} ${unit}${ratio}, ${gigabytes(variant.allocated)} allocated, ${gigabytes(variant.reserved)} reserved${apart}`,
        )
      }
      if (theirs.missing) lines.push(`no rival: ${theirs.missing}`)
      const apart = Object.values(theirs.variants ?? {}).flatMap(v => v.difference ?? [])
      // In float16 on both sides; a network that was put together wrongly is off by about 1.
      const close = apart.every(difference => difference < 0.1)
      return {
        passed: first.passed && close,
        detail: lines.join('; '),
        values: { request: { ...c, steps: request.steps }, ours: all, theirs },
      }
    },
  }
}

// --------------------------------------------------------------------------------------------------

const items: Item[] = [
  ...kernelKinds.map(kernelsItem),
  ...networkCases.map(c => networkItem('step', c)),
  ...networkCases.map(c => networkItem('video', c)),
]

async function main(): Promise<number> {
  if (values.list) {
    for (const { name } of chosen(items, options.only)) console.log(name)
    return 0
  }
  const device = found()
  const folder = values.out ?? join(root, isEmulated(device) ? 'out/gpu' : 'bench/results')
  const slug = device.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')
  const file = ResultFile.open(join(folder, `gpu-bench-${slug}`), 'GPU bench')
  const code = await runItems(items, file, describe(device, values.small), options, 60)
  if (values.copy) file.copyTo(values.copy)
  return code
}

process.exitCode = await called('gpu:bench', main)
