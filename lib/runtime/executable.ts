import { OptionError } from '../errors.js'
import { checkKinds, checkNames } from '../option-names.js'
import { type StagePlan, StagePlanner } from '../planner/plan.js'
import type { StreamingChoice } from '../planner/streaming.js'
import type { Program } from '../program/graph.js'
import { elementCount } from '../program/tensor.js'
import { parseBytes } from '../units.js'
import { costModel } from './calibration.js'
import { type Compute, checkActivations, defaultActivations, resolveDevice } from './device.js'
import { type MeasuredPeak, Stage } from './stage.js'
import { dtypeOf, type WeightSource, weightsFromValues } from './weights.js'

export interface CompileOptions {
  /** `auto`, `cpu`, `cuda:0`. */
  device?: string
  /** Most bytes of arena and weights: `'64 MiB'` or a number. */
  budget?: number | string
  threads?: number
  /** Products of convolutions and matrices in float32, or in bfloat16 with sums in float32, where the processor has AVX512_BF16 or AMX. Default: `f32`. */
  compute?: Compute
  /** Weights by key: values, or a source such as a checkpoint. */
  weights?: Readonly<Record<string, Float32Array>> | WeightSource
  /** How activations are stored between operators; the CPU runs `f32` alone. Default: `f32` on the CPU, `f16` on a GPU. */
  dtype?: 'f32' | 'f16' | 'bf16'
  /** Slices of every group, instead of what the budget asks. */
  slices?: number
  /** Most operations that may be spent on making tensors again, as a share of the program's: 0 to 1. Default: 0.02, 0.35 of a program of one or two frames that fits in no other way. */
  recompute?: number
  /** Whether weights may come when an op needs them, instead of standing in memory. Default: `auto`, where the budget needs it. */
  streaming?: StreamingChoice
  /** Whether features may wait in the host's memory, where nothing else fits; beside a GPU alone. Default: true. */
  spill?: boolean
  signal?: AbortSignal
  /** Poison the whole arena so that `close()` measures every byte. */
  poison?: boolean
}

const compileNames = [
  'device',
  'budget',
  'threads',
  'compute',
  'weights',
  'dtype',
  'slices',
  'recompute',
  'streaming',
  'spill',
  'signal',
  'poison',
] as const satisfies readonly (keyof CompileOptions)[]

/** A compiled program: planned, its memory taken, its weights packed. */
export class Executable implements AsyncDisposable {
  /** The run that is under way, or the last. */
  private last: Promise<unknown> = Promise.resolve()
  private running = 0

  constructor(
    readonly plan: StagePlan,
    private readonly program: Program,
    private readonly stage: Stage,
  ) {}

  /**
   * Runs the program once, off the event loop.
   * @param inputs values by input name, row-major in the traced shape
   * @returns outputs by name, float32
   * @throws OptionError for a missing, unknown or wrongly sized input; AbortError.
   */
  async run(
    inputs: Readonly<Record<string, Float32Array | Int32Array>>,
    onProgress?: (done: number, total: number) => void,
  ): Promise<Record<string, Float32Array>> {
    this.checkInputs(inputs)
    // One arena: a call waits for the one before, whatever came of it.
    const turn = this.last.then(
      () => this.runNow(inputs, onProgress),
      () => this.runNow(inputs, onProgress),
    )
    this.last = turn
    this.running++
    return await turn.finally(() => {
      this.running--
    })
  }

  private async runNow(
    inputs: Readonly<Record<string, Float32Array | Int32Array>>,
    onProgress?: (done: number, total: number) => void,
  ): Promise<Record<string, Float32Array>> {
    for (const [name, values] of Object.entries(inputs)) this.stage.write(inputState(name), values)
    await this.stage.run('main', bindingsOf(this.program), onProgress)
    return Object.fromEntries(
      Object.keys(this.program.outputs).map(name => [name, this.stage.read(outputState(name))]),
    )
  }

  private checkInputs(inputs: Readonly<Record<string, Float32Array | Int32Array>>): void {
    if (typeof inputs !== 'object' || inputs === null) {
      throw new OptionError(`inputs: expected values by name, got ${typeof inputs}`)
    }
    for (const name of Object.keys(inputs)) {
      if (!this.program.inputs[name])
        throw new OptionError(
          `input: expected one of ${Object.keys(this.program.inputs).join(', ')}, got ${name}`,
        )
    }
    for (const [name, tensor] of Object.entries(this.program.inputs)) {
      const values = inputs[name]
      const count = elementCount(tensor.shape)
      const kind = tensor.dtype === 'i32' ? Int32Array : Float32Array
      if (!(values instanceof kind) || values.length !== count) {
        throw new OptionError(
          `input ${name}: expected ${kind.name} of ${count} values, got ${values ? `${values.constructor.name} of ${values.length}` : 'nothing'}`,
        )
      }
    }
  }

  /**
   * Gives the memory back and says how much was used.
   * @throws OptionError while a run is under way, and after it was closed
   */
  close(): MeasuredPeak {
    if (this.running > 0)
      throw new OptionError(
        `${this.program.name}: close() expected no run under way, got ${this.running}; await them, or abort them by \`signal\``,
      )
    return this.stage.close()
  }

  /** Waits for runs that are under way, then gives the memory back. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.last.catch(() => {})
    await this.stage[Symbol.asyncDispose]()
  }
}

const inputState = (name: string): string => `in:${name}`
const outputState = (name: string): string => `out:${name}`

function bindingsOf(program: Program) {
  const names = (record: object, state: (name: string) => string) =>
    Object.fromEntries(Object.keys(record).map(name => [name, state(name)]))
  return { inputs: names(program.inputs, inputState), outputs: names(program.outputs, outputState) }
}

/**
 * Plans a program of one's own for a device and budget. Reads no weight values.
 * @throws BudgetError, ProgramError, DeviceError, OptionError
 */
export function planProgramOf(program: Program, options: CompileOptions = {}): StagePlan {
  const { budget } = options
  return programPlanner(program, options).plan(
    budget === undefined ? undefined : parseBytes(budget),
  )
}

/** Plans a program for several budgets, each sooner than the first. @throws as planProgramOf */
export function programPlanner(
  program: Program,
  options: Omit<CompileOptions, 'budget'> = {},
): StagePlanner {
  checkNames(options, compileNames)
  checkKinds(options)
  const { target } = resolveDevice(options.device, options.threads, options.compute)
  const source = sourceOf(options)
  const state = Object.fromEntries([
    ...Object.entries(program.inputs).map(
      ([name, { shape, dtype }]) => [inputState(name), { shape, dtype }] as const,
    ),
    ...Object.entries(program.outputs).map(
      ([name, { shape, dtype }]) => [outputState(name), { shape, dtype }] as const,
    ),
  ])
  return new StagePlanner(
    { name: program.name, state, programs: { main: program } },
    {
      target,
      weightDtype: key => dtypeOf(source, key),
      slices: options.slices,
      activations: options.dtype ?? defaultActivations(target),
      ...(options.recompute !== undefined && { recompute: options.recompute }),
      streaming: options.streaming,
      spill: options.spill,
      cost: costModel(target),
    },
  )
}

function sourceOf(options: CompileOptions): WeightSource {
  const weights = options.weights ?? {}
  return typeof (weights as WeightSource).find === 'function'
    ? (weights as WeightSource)
    : weightsFromValues(weights as Record<string, Float32Array>)
}

/** Plans a program, takes its memory and packs its weights. @throws as planProgramOf, and CheckpointError, MemoryError, AbortError */
export async function compile(program: Program, options: CompileOptions = {}): Promise<Executable> {
  return await openProgram(planProgramOf(program, options), program, options)
}

/** Takes the memory of a program that was planned with these options. @throws CheckpointError, MemoryError, AbortError */
export async function openProgram(
  plan: StagePlan,
  program: Program,
  options: Omit<CompileOptions, 'budget'>,
): Promise<Executable> {
  const { threads, compute } = plan.target
  const { device } = resolveDevice(options.device, threads, compute)
  checkActivations(device, plan.activations)
  const stage = await Stage.open(plan, {
    device,
    weights: sourceOf(options),
    signal: options.signal,
    poison: options.poison,
  })
  return new Executable(plan, program, stage)
}

/** Compiles, runs once, and gives the memory back. */
export async function run(
  program: Program,
  inputs: Readonly<Record<string, Float32Array | Int32Array>>,
  options: CompileOptions = {},
): Promise<Record<string, Float32Array>> {
  await using executable = await compile(program, options)
  return await executable.run(inputs)
}
