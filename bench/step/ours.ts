import { readFileSync, writeFileSync } from 'node:fs'
import { BudgetError } from '../../lib/errors.js'
import { lower } from '../../lib/planner/lower.js'
import type { StagePlan } from '../../lib/planner/plan.js'
import { aligned } from '../../lib/planner/storage.js'
import { type Program, tensorBytes } from '../../lib/program/index.js'
import type { Compute } from '../../lib/runtime/device.js'
import { planProgramOf } from '../../lib/runtime/executable.js'
import { native } from '../../lib/runtime/native.js'
import { PackList, type WeightSource } from '../../lib/runtime/weights.js'

/** Bytes of memory that this process has now, and had at most since `forgetPeak`. */
function memory(): { now: number; peak: number } {
  const status = readFileSync('/proc/self/status', 'utf8')
  const of = (name: string) =>
    1024 * Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0)
  return { now: of('VmRSS'), peak: of('VmHWM') }
}

const forgetPeak = (): void => writeFileSync('/proc/self/clear_refs', '5')

export interface StepTime {
  readonly seconds: number
  /** Most memory during the step beyond what was held before it: weights and all else. */
  readonly activationBytes: number
  readonly output: Float32Array
}

/** A network with its weights packed once, run under one plan after another. */
export class Network {
  private constructor(
    private readonly program: Program,
    private readonly source: WeightSource,
    private readonly threads: number,
    private readonly compute: Compute,
    private readonly weights: ReturnType<ReturnType<typeof native>['createBlock']>,
    readonly packSeconds: number,
  ) {}

  static async open(
    program: Program,
    source: WeightSource,
    threads: number,
    compute: Compute,
  ): Promise<Network> {
    const { weights: layout } = planProgramOf(program, {
      device: 'cpu',
      threads,
      compute,
      weights: source,
      streaming: 'never',
    })
    const block = native().createBlock('cpu', layout.bytes)
    const list = new PackList(native(), layout.weights, source)
    const begin = performance.now()
    await native().pack(block, list.jobs, threads).done
    list.close()
    return new Network(program, source, threads, compute, block, (performance.now() - begin) / 1000)
  }

  /** @param arena most bytes beside the weights; undefined: as fast as can be; 0: the least that works */
  plan(arena?: number, slices?: number): StagePlan {
    const { program, threads, compute, source: weights } = this
    const options = {
      device: 'cpu',
      threads,
      compute,
      weights,
      slices,
      streaming: 'never' as const,
      spill: false,
    }
    if (arena === undefined) return planProgramOf(program, options)
    const plan = (budget: number) =>
      planProgramOf(program, { ...options, budget: Math.floor(budget) })
    try {
      return plan(this.weights.bytes + arena)
    } catch (error) {
      if (error instanceof BudgetError) return plan(error.needed)
      throw error
    }
  }

  /** Runs the program `times` times in an arena of its own. */
  async run(
    plan: StagePlan,
    inputs: Readonly<Record<string, Float32Array>>,
    times: number,
  ): Promise<StepTime> {
    const { program, threads } = this
    const tensors = [
      ...Object.keys(program.inputs).map(name => `in:${name}`),
      ...Object.keys(program.outputs).map(name => `out:${name}`),
    ]
    const sizes = [...Object.values(program.inputs), ...Object.values(program.outputs)]
    const { words } = lower(plan.programs.main!, plan.weights, aligned(plan.stateBytes))
    const slots = [plan.arenaBytes, plan.weights.bytes, 0, ...sizes.map(tensorBytes)]
    const stream = native().loadStream('cpu', words, Float64Array.from(slots))
    const bindings = Float64Array.from(tensors, name => plan.state[name]!.offset)
    const out = tensors.find(name => name.startsWith('out:'))!
    const output = new Float32Array(plan.state[out]!.bytes / 4)
    forgetPeak()
    const before = memory().now
    const arena = native().createBlock('cpu', plan.arenaBytes)
    try {
      const begin = performance.now()
      for (let i = 0; i < times; i++) {
        for (const [name, values] of Object.entries(inputs))
          arena.write(plan.state[`in:${name}`]!.offset, values)
        await stream.run(arena, this.weights, bindings, threads).done
        arena.read(plan.state[out]!.offset, output)
      }
      const seconds = (performance.now() - begin) / 1000
      return { seconds, activationBytes: memory().peak - before, output }
    } finally {
      arena.release()
    }
  }

  close(): void {
    this.weights.release()
  }
}
