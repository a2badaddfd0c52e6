import { AbortError, MemoryError, OptionError } from '../errors.js'
import { lower } from '../planner/lower.js'
import type { StagePlan } from '../planner/plan.js'
import { aligned } from '../planner/storage.js'
import type { PackedWeight } from '../planner/weights.js'
import { tensorBytes } from '../program/tensor.js'
import { formatBytes } from '../units.js'
import type { NativeBlock, NativeJob, NativeStream, NativeWeights, PackJob } from './addon-types.js'
import { native, toSluiceError } from './native.js'
import { PackList, type WeightSource } from './weights.js'

export interface StageOptions {
  readonly device: string
  readonly weights: WeightSource
  readonly signal?: AbortSignal
  /** Poison the whole arena, not only its end, so that every byte's use is seen. For tests. */
  readonly poison?: boolean
  /** Weights packed so far, of how many. */
  readonly onPack?: (done: number, total: number) => void
}

/** Bytes that a stage really used, read back from poisoned memory. */
export interface MeasuredPeak {
  arenaBytes: number
  weightBytes: number
  peakBytes: number
}

const poisonByte = 0xa5
/** How much below the predicted end of a block is poisoned: a smaller use than this below the prediction shows exactly. */
const poisonWindow = 1 << 20

/** What a program's inputs and outputs are bound to at one run: state names, where they differ from the program's own names. */
export interface Bindings {
  readonly inputs?: Readonly<Record<string, string>>
  readonly outputs?: Readonly<Record<string, string>>
}

/** A planned stage with memory behind it: weights packed, programs loaded, state readable and writable. */
export class Stage implements AsyncDisposable {
  private readonly streams = new Map<string, { stream: NativeStream; bound: readonly string[] }>()
  private closed = false
  private constructor(
    readonly plan: StagePlan,
    private readonly options: StageOptions,
    private readonly memory: Memory,
  ) {}

  /**
   * Takes memory, packs the weights off the event loop and loads the command streams.
   * @throws CheckpointError before any byte is read when a weight is missing; MemoryError; AbortError. Nothing is left allocated.
   */
  static async open(plan: StagePlan, options: StageOptions): Promise<Stage> {
    throwIfAborted(options.signal)
    const memory = await openMemory(plan, options)
    try {
      const stage = new Stage(plan, options, memory)
      stage.load()
      return stage
    } catch (error) {
      releaseMemory(memory)
      throw toSluiceError(error)
    }
  }

  /** Copies values into a state tensor. @throws OptionError when the name or the byte length is wrong. */
  write(name: string, values: ArrayBufferView): void {
    this.requireOpen()
    const { offset, bytes } = this.stateOf(name)
    if (values.byteLength !== bytes)
      throw new OptionError(`${name}: expected ${bytes} bytes, got ${values.byteLength}`)
    this.memory.arena.write(offset, values)
  }

  /** A copy of a float32 state tensor, or of one of `parts` equal parts of it along its first axis. */
  read(name: string, part = 0, parts = 1): Float32Array {
    this.requireOpen()
    const { offset, bytes } = this.stateOf(name)
    const values = new Float32Array(bytes / 4 / parts)
    this.memory.arena.read(offset + part * values.byteLength, values)
    return values
  }

  /**
   * Runs one program off the event loop.
   * @param onProgress commands done, of how many
   * @throws AbortError when the signal fires: within one command.
   */
  async run(
    program: string,
    bindings: Bindings = {},
    onProgress?: (done: number, total: number) => void,
  ): Promise<void> {
    throwIfAborted(this.options.signal)
    this.requireOpen()
    const { stream, bound } = this.streams.get(program)!
    const offsets = bound.map(name => {
      const own = name.startsWith('out:') ? name.slice(4) : name
      const state =
        (name.startsWith('out:') ? bindings.outputs?.[own] : bindings.inputs?.[own]) ?? own
      return this.stateOf(state).offset
    })
    const progress = onProgress && ((done: number) => onProgress(done, stream.commands))
    const { arena, weights, host, fetched } = this.memory
    const job = stream.run(
      arena,
      weights ?? null,
      Float64Array.from(offsets),
      this.plan.target.threads,
      progress,
      { host, fetched },
    )
    await finish(job, this.options.signal)
  }

  /** Reads the high-water mark back and gives the memory to the system. Idempotent. */
  close(): MeasuredPeak {
    if (this.closed) throw new OptionError('stage: expected to be closed once, got a second close')
    this.closed = true
    const measure = (block: NativeBlock | undefined, predicted: number): number =>
      block
        ? block.lastDifferent(
            this.options.poison ? 0 : Math.max(0, predicted - poisonWindow),
            poisonByte,
          )
        : 0
    const arenaBytes = measure(this.memory.arena, this.plan.arenaBytes)
    const weightBytes = measure(this.memory.weights, this.plan.weights.bytes)
    this.release()
    return { arenaBytes, weightBytes, peakBytes: arenaBytes + weightBytes }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.release()
  }

  /** @throws OptionError after close: memory that was given back is another's. */
  private requireOpen(): void {
    if (this.closed)
      throw new OptionError(
        `${this.plan.name}: expected to be open, got closed; close after the last run has ended`,
      )
  }

  private release(): void {
    this.closed = true
    releaseMemory(this.memory)
  }

  private load(): void {
    const { plan } = this
    for (const [name, program] of Object.entries(plan.programs)) {
      const lowered = lower(program, plan.weights, aligned(plan.stateBytes))
      const tensors = [
        ...Object.values(program.program.inputs),
        ...Object.values(program.program.outputs),
      ]
      const slots = [
        plan.arenaBytes,
        plan.weights.bytes,
        plan.hostBytes,
        ...tensors.map(tensorBytes),
      ]
      this.streams.set(name, {
        stream: native().loadStream(this.options.device, lowered.words, Float64Array.from(slots)),
        bound: lowered.bound,
      })
    }
  }

  private stateOf(name: string): { offset: number; bytes: number } {
    const state = this.plan.state[name]
    if (!state)
      throw new OptionError(
        `${this.plan.name}: expected a state tensor (${Object.keys(this.plan.state).join(', ')}), got ${name}`,
      )
    return state
  }
}

/** What a stage holds. */
interface Memory {
  readonly arena: NativeBlock
  readonly weights?: NativeBlock
  /** Beside a GPU: streamed weights, packed. */
  readonly host?: NativeBlock
  /** On the CPU: streamed weights in their files. */
  readonly fetched?: NativeWeights
}

function releaseMemory({ arena, weights, host, fetched }: Partial<Memory>): void {
  arena?.release()
  weights?.release()
  host?.release()
  fetched?.close()
}

/** Takes the memory of a plan and packs its weights. @throws as Stage.open; nothing is left then */
async function openMemory(plan: StagePlan, options: StageOptions): Promise<Memory> {
  const addon = native()
  const lists: PackList[] = []
  const listOf = (weights: readonly PackedWeight[]) => {
    const list = new PackList(addon, weights, options.weights)
    lists.push(list)
    return list.jobs
  }
  const memory: { -readonly [K in keyof Memory]?: Memory[K] } = {}
  try {
    const { weights } = plan
    const [resident, streamed] = [listOf(weights.weights), listOf(weights.streamed)]
    memory.arena = createBlock(options.device, plan.arenaBytes, options.poison)
    const onHost = plan.hostBytes > 0 ? streamed : []
    const total = resident.length + onHost.length
    const pack = (block: NativeBlock, jobs: PackJob[], before: number) =>
      finish(
        addon.pack(block, jobs, plan.target.threads, done =>
          options.onPack?.(before + done, total),
        ),
        options.signal,
      )
    if (weights.bytes > 0) {
      memory.weights = createBlock(options.device, weights.bytes, options.poison)
      await pack(memory.weights, resident, 0)
    }
    if (plan.hostBytes > 0) {
      memory.host = addon.createBlock(options.device, plan.hostBytes, true)
      await pack(memory.host, onHost, resident.length)
    } else if (streamed.length > 0) {
      memory.fetched = addon.openWeights(streamed)
    }
    return { arena: memory.arena, ...memory }
  } catch (error) {
    releaseMemory(memory)
    throw toSluiceError(error)
  } finally {
    for (const list of lists) list.close()
  }
}

function createBlock(device: string, bytes: number, poison: boolean | undefined): NativeBlock {
  let block: NativeBlock
  try {
    block = native().createBlock(device, bytes)
  } catch (error) {
    const cause = toSluiceError(error)
    if (!(cause instanceof MemoryError)) throw cause
    throw new MemoryError(
      `${device}: expected ${formatBytes(bytes)} of memory as the plan says, got none; close other programs or lower the budget`,
      { cause },
    )
  }
  const from = poison ? 0 : Math.max(0, bytes - poisonWindow)
  block.fill(from, block.tileBytes - from, poisonByte)
  return block
}

/** Waits for a native job; the signal aborts it between commands. */
async function finish<T>(job: NativeJob<T>, signal: AbortSignal | undefined): Promise<T> {
  const abort = () => job.abort()
  signal?.addEventListener('abort', abort, { once: true })
  try {
    return await job.done
  } catch (error) {
    throw toSluiceError(error)
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted)
    throw new AbortError('run: expected to go on, got cancelled by its signal', {
      cause: signal.reason,
    })
}
