import { createHash, type Hash } from 'node:crypto'
import { sliceCounts } from '../planner/group.js'
import { leastBudget } from '../planner/least-budget.js'
import type { StagePlan } from '../planner/plan.js'
import type { Program } from '../program/index.js'
import { type CompileOptions, openProgram, programPlanner } from '../runtime/executable.js'
import type { WeightSource } from '../runtime/weights.js'
import { compare, type Difference } from './compare.js'

export interface VerifyOptions
  extends Pick<CompileOptions, 'device' | 'threads' | 'slices' | 'signal' | 'dtype' | 'compute'> {
  /** Most bytes at any time. */
  budget?: number
  /** Run each program within the least budget that its plan finds. */
  smallest?: boolean
}

/** A program that ran: peaks as planned and as read back from poisoned memory. */
export interface ProgramPeak {
  readonly program: string
  /** Most slices of a group. */
  readonly slices: number
  readonly budget?: number
  readonly predictedBytes: number
  readonly measuredBytes: number
}

type Inputs = Readonly<Record<string, Float32Array | Int32Array>>
type Call = (inputs: Inputs) => Promise<Record<string, Float32Array>>

/** Runs a case's programs and keeps what came of them. */
export class VerifySession {
  readonly outputs: Difference[] = []
  readonly programs: ProgramPeak[] = []
  private readonly hash: Hash = createHash('sha256')

  constructor(
    private readonly weights: WeightSource,
    private readonly options: VerifyOptions,
  ) {}

  /** Compiles a program, hands out its run, and gives its memory back. @throws as compile */
  async program(program: Program, work: (call: Call) => Promise<void>): Promise<void> {
    const { smallest, budget: given, ...rest } = this.options
    const options: CompileOptions = { ...rest, weights: this.weights, poison: true }
    const planner = programPlanner(program, options)
    const budget = smallest ? leastBudget(bytes => planner.plan(bytes)) : given
    const plan = planner.plan(budget)
    await using executable = await openProgram(plan, program, options)
    await work(inputs => executable.run(inputs))
    const { peakBytes } = executable.close()
    this.programs.push({
      program: program.name,
      slices: mostSlices(plan),
      budget,
      predictedBytes: plan.peakBytes,
      measuredBytes: peakBytes,
    })
  }

  /** Compares values, in the layout of the recording, with an expected output. */
  compare(output: string, actual: Float32Array, expected: Float32Array): void {
    this.hash.update(actual)
    this.outputs.push(compare(output, actual, expected))
  }

  /** SHA-256 of all outputs so far: equal for runs that agree bit for bit. */
  digest(): string {
    return this.hash.copy().digest('hex')
  }
}

function mostSlices(plan: StagePlan): number {
  const counts = Object.values(plan.programs).flatMap(({ groups, slicings }) =>
    groups.flatMap(group => sliceCounts(group, slicings[group.id]!)),
  )
  return Math.max(1, ...counts)
}
