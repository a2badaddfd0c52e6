import { roofline } from '../planner/cost.js'
import { type CostGrid, type CostTable, costTableVersion } from '../planner/cost-table.js'
import { lower } from '../planner/lower.js'
import { planStage, type StagePlan } from '../planner/plan.js'
import { aligned } from '../planner/storage.js'
import { type Activation, type DType, type Program, tensorBytes } from '../program/index.js'
import type { Target } from '../program/op.js'
import { activationProgram, type MeasuredKind, measuredKinds } from './calibrate-kinds.js'
import { type Compute, resolveDevice } from './device.js'
import { native, toSluiceError } from './native.js'
import { throwIfAborted } from './stage.js'

export interface CalibrateOptions {
  readonly threads: number
  /** How products are computed. Default: `f32`. */
  readonly compute?: Compute
  readonly signal?: AbortSignal
  /** Kinds of commands to measure; default: all. */
  readonly kinds?: readonly MeasuredKind[]
  /** Grid points done, of how many. */
  readonly onProgress?: (done: number, total: number) => void
}

/** Seconds that one measured command may take; larger ones are extrapolated. */
const longestCommand = 0.05
const mostBytes = 128 * 2 ** 20
/** Seconds of one sample: many short commands, so that the clock and the start of a run do not count. */
const sampleSeconds = 1e-3
/** Samples are taken until so many seconds are spent: other work on the machine only ever adds time, so the least counts. */
const pointSeconds = 0.02
const leastSamples = 3
const mostSamples = 12
/** A byte that is a small number in every float type, so that pages are real and values finite. */
const fillByte = 0x3c

/**
 * Measures this machine through the runtime itself: programs of one op on a grid of extents, the dispatch, the peaks.
 * @throws AbortError, MemoryError
 */
export async function calibrate(options: CalibrateOptions): Promise<CostTable> {
  const { threads, compute, signal, onProgress, kinds = measuredKinds } = options
  const { target } = resolveDevice('cpu', threads, compute)
  const cpu = native().cpu()
  const time = (program: Program, op: string, weights: DType, estimate: number) =>
    timeCommand({ program, op, weights, target, estimate, signal })

  let dispatch = await time(activationProgram('none', 64), 'unary', 'f32', 2e-6)
  const copied = 2 ** 24
  const copy = await time(activationProgram('none', copied), 'unary', 'f32', 1e-2)
  const activations: Partial<Record<Activation, number>> = {}
  // A few elements for each thread's first cache.
  const elements = 8192 * threads
  const plain = await time(activationProgram('none', elements), 'unary', 'f32', 1e-5)
  for (const act of ['silu', 'gelu', 'quick_gelu', 'gelu_tanh', 'sigmoid'] as const) {
    const seconds = await time(activationProgram(act, elements), 'unary', 'f32', 1e-5)
    activations[act] = Math.max(0, seconds - plain) / elements
  }

  const grids: Record<string, CostGrid> = {}
  const total = kinds.reduce((sum, { axes }) => sum + points(axes).length, 0)
  let done = 0
  let peak = 1e10 * threads
  for (const kind of kinds) {
    const known = new Map<string, number>()
    for (const extents of points(kind.axes)) {
      const work = extents.reduce((product, extent) => product * extent, 1)
      const smaller = lastSmaller(kind, extents, known)
      const estimate = Math.max(2e-6, kind.flops > 0 ? (kind.flops * work) / peak : smaller)
      let seconds = smaller
      if (smaller === 0 || (estimate < longestCommand && bytesOf(kind, extents) < mostBytes)) {
        seconds = await time(kind.program(extents), kind.op, kind.weights, estimate)
        dispatch = Math.min(dispatch, seconds)
        peak = Math.max(peak, (kind.flops * work) / seconds)
      }
      known.set(extents.join(), seconds)
      onProgress?.(++done, total)
    }
    grids[kind.kind] = {
      axes: kind.axes,
      seconds: points(kind.axes).map(at => known.get(at.join())!),
    }
  }
  return {
    format: 'sluice-calibration',
    version: costTableVersion,
    cpu: cpu.model,
    isa: cpu.selected,
    threads,
    ...(target.compute && { compute: target.compute }),
    machine: {
      flopsPerSecond: peak,
      bytesPerSecond: (8 * copied) / copy,
      secondsPerCommand: dispatch,
    },
    activations,
    grids,
  }
}

/** All points of a grid, the last axis fastest. */
function points(axes: MeasuredKind['axes']): number[][] {
  return axes.reduce<number[][]>(
    (before, axis) => before.flatMap(point => axis.map(extent => [...point, extent])),
    [[]],
  )
}

/** Seconds of a point scaled from the one before it along the last axis that has one; 0 at the first point. */
function lastSmaller(
  { axes }: MeasuredKind,
  extents: readonly number[],
  known: ReadonlyMap<string, number>,
): number {
  for (let i = axes.length - 1; i >= 0; i--) {
    const at = axes[i]!.indexOf(extents[i]!)
    if (at === 0) continue
    const before = axes[i]![at - 1]!
    const seconds = known.get(extents.map((extent, j) => (j === i ? before : extent)).join())!
    return (seconds * extents[i]!) / before
  }
  return 0
}

function bytesOf({ program }: MeasuredKind, extents: readonly number[]): number {
  const { inputs, outputs, weights } = program(extents)
  return [...Object.values(inputs), ...Object.values(outputs), ...weights].reduce(
    (sum, tensor) => sum + tensorBytes(tensor),
    0,
  )
}

interface Timed {
  readonly program: Program
  readonly op: string
  readonly weights: DType
  readonly target: Target
  /** Seconds to expect, for the number of commands in a sample. */
  readonly estimate: number
  readonly signal?: AbortSignal
}

/** Least seconds of the command of `op`, over a few samples of many of them in one stream. */
async function timeCommand(timed: Timed): Promise<number> {
  const { program, weights, target, signal } = timed
  throwIfAborted(signal)
  const tensors = Object.entries({ ...program.inputs, ...program.outputs })
  const state = Object.fromEntries(
    tensors.map(([name, { shape, dtype }]) => [name, { shape, dtype }]),
  )
  const plan = planStage(
    { name: 'calibrate', state, programs: { main: program } },
    { target, weightDtype: () => weights, slices: 1, cost: roofline(target) },
  )
  const addon = native()
  const arena = addon.createBlock('cpu', plan.arenaBytes)
  const block = plan.weights.bytes > 0 ? addon.createBlock('cpu', plan.weights.bytes) : null
  try {
    arena.fill(0, plan.arenaBytes, fillByte)
    block?.fill(0, plan.weights.bytes, fillByte)
    for (const { dtype, offset, bytes } of Object.values(plan.state))
      if (dtype === 'i32') arena.fill(offset, bytes, 0)
    const { words, commands } = repeated(plan, timed)
    const slots = [
      plan.arenaBytes,
      plan.weights.bytes,
      0,
      ...tensors.map(([, t]) => tensorBytes(t)),
    ]
    const stream = addon.loadStream('cpu', words, Float64Array.from(slots))
    const bindings = Float64Array.from(tensors, ([name]) => plan.state[name]!.offset)
    let least = Number.POSITIVE_INFINITY
    let spent = 0
    for (let sample = 0; sample < mostSamples; sample++) {
      if (sample >= leastSamples && spent > pointSeconds) break
      const { nanoseconds } = await stream.run(arena, block, bindings, target.threads).done
      least = Math.min(least, nanoseconds)
      spent += nanoseconds / 1e9
      throwIfAborted(signal)
    }
    return Math.max(least, 1) / 1e9 / commands
  } catch (error) {
    throw toSluiceError(error)
  } finally {
    arena.release()
    block?.release()
  }
}

/** The command of the timed op alone, as often as a sample takes. */
function repeated(
  plan: StagePlan,
  { op, estimate }: Timed,
): { words: Int32Array; commands: number } {
  const main = plan.programs.main!
  const lowered = lower(main, plan.weights, aligned(plan.stateBytes))
  const at = main.groups.flatMap(({ nodes }) => nodes).findIndex(node => node.op === op)
  const own = lowered.words.subarray(
    lowered.starts[at],
    lowered.starts[at + 1] ?? lowered.words.length,
  )
  const commands = Math.min(512, Math.max(1, Math.ceil(sampleSeconds / estimate)))
  const words = new Int32Array(commands * own.length)
  for (let i = 0; i < commands; i++) words.set(own, i * own.length)
  return { words, commands }
}
