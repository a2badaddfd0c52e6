/** The whole surface of the native addon: the only file, with native.ts, that knows the shape of the `.node`. */

/** How a weight is laid out in the packed block. Sizes: `packedBytes` in lib/planner/weights.ts; both sides must agree. */
export const PackForm = {
  /** As stored, rows of the checkpoint's dtype (embedding tables). */
  raw: 0,
  /** Widened to float32, one value after another (biases, norm weights, position tables). */
  vector: 1,
  /** [outputs, taps.., inputs] to [ceil(outputs/16)][K][16] of the stored dtype, K = tap * inputs + input, zero-padded. */
  panel: 2,
  /** As panel, for [2n, inputs]: panel 2i = rows 16i.., panel 2i+1 = rows n+16i.. (GEGLU: value, gate). */
  panelPairs: 3,
  /** float32, for [2n]: the order of panelPairs, padded to 2*ceil16(n) with zeros. */
  vectorPairs: 4,
  /** float32, [outputs, inputs, 3, 3] to [ceil(outputs/16)][K][16], K = (phase * 4 + tap) * inputs + input: ConvCommand in src/core/commands.h. */
  panelPhases: 5,
} as const
export type PackForm = (typeof PackForm)[keyof typeof PackForm]

/** One weight to pack. `outputs`, `inputs`, `taps`: a matrix or convolution [outputs, inputs, taps]; vectors: outputs = length, 1, 1. */
export interface PackJob {
  /** A mapped file, or values in memory (copied before the call returns). */
  file: NativeFile | ArrayBufferView
  /** Byte offset of the tensor's data in the file or view. */
  sourceOffset: number
  sourceBytes: number
  /** 0 f32, 1 f16, 2 bf16 (DTypeCode): the stored dtype, kept by raw and panel forms. */
  dtype: number
  form: PackForm
  outputs: number
  inputs: number
  taps: number
  /** Byte offset in the destination block. */
  destination: number
}

/** A read-only memory map of a file. */
export interface NativeFile {
  readonly bytes: number
  close(): void
}

/**
 * Memory of a device, zeroed, backed by tiles of the shared pool; given back to the system by `release` (idempotent),
 * or when the run that still uses it has ended.
 */
export interface NativeBlock {
  /** Bytes asked for. */
  readonly bytes: number
  /** Bytes of the tiles behind it. */
  readonly tileBytes: number
  /** Inside `bytes`, as `read`. */
  write(offset: number, data: ArrayBufferView): void
  read(offset: number, data: ArrayBufferView): void
  /** Inside `tileBytes`. */
  fill(offset: number, bytes: number, value: number): void
  /** One past the last byte in [from, tileBytes) that differs from `value`; `from` when all are equal. */
  lastDifferent(from: number, value: number): number
  release(): void
}

export interface NativeRunResult {
  commands: number
  /** One past the highest arena byte that an executed command claimed (operands and scratch). */
  arenaHighWater: number
  /** By the device's own clock, where it has one. */
  nanoseconds: number
}

/** Work off the event loop. `done` settles when it has stopped, also after an abort (rejects with code 'aborted'). */
export interface NativeJob<T> {
  readonly done: Promise<T>
  /** Sets the flag that is read between commands (or weights). */
  abort(): void
}

/** Weights that runs pack one by one, when they need them. Files stay mapped until `close`, or until the last run that uses them has ended. */
export interface NativeWeights {
  close(): void
}

/** What a stream reaches beside its own memory. */
export interface Outside {
  /** The host slot: made with `createBlock(device, bytes, true)`. */
  host?: NativeBlock
  /** What fetch commands pack. */
  fetched?: NativeWeights
}

/** A checked command stream. Holds a copy of the words. */
export interface NativeStream {
  readonly commands: number
  /**
   * Runs off the event loop on a driver thread and the shared thread pool. An arena takes one run at a time.
   * An error thrown by `onProgress` aborts the run and rejects `done`.
   * @param bindings for slot 3 + i: byte offset in the arena.
   * @param onProgress called on the event loop with the number of commands done, at most every 20 ms, and at the end.
   */
  run(
    arena: NativeBlock,
    weights: NativeBlock | null,
    bindings: Float64Array,
    threads: number,
    onProgress?: (done: number) => void,
    outside?: Outside,
  ): NativeJob<NativeRunResult>
}

export interface NativeDevice {
  /** `cpu`, `cuda:0`. */
  id: string
  name: string
  detail: string
  memoryBytes: number
  freeBytes: number
  tileBytes: number
  /** Whether it computes whole blocks of channels by wgmma (compute capability 9.0), so that plans are made for that. */
  wgmma: boolean
}

export interface PoolStats {
  /** Bytes of tiles in use now, over all devices. */
  bytes: number
  /** Most since the process began. */
  peakBytes: number
  blocks: number
}

/**
 * Every function throws an Error with a string property `code`: 'out-of-memory' | 'bad-command' | 'bad-data' | 'device-lost' |
 * 'aborted' | 'io' (then with `path`) | 'argument'.
 */
export interface Addon {
  readonly version: string
  readonly commandVersion: number
  readonly backendVersion: number
  devices(): NativeDevice[]
  /** Why a backend offers no device, by backend name; empty when it does. */
  missing(): Record<string, string>
  /** Instruction sets: what the processor has, the one in use (SLUICE_ISA forces one of them, or `amx-emulated`), and the threads its cgroup quota grants. */
  /** @returns bf16: whether convolutions may compute with products of bfloat16 */
  cpu(): { available: string[]; selected: string; threads: number; model: string; bf16: boolean }
  pool(): PoolStats
  /** @param host memory of the host that the device's copies reach; not counted by `pool` unless the device is the CPU. */
  createBlock(device: string, bytes: number, host?: boolean): NativeBlock
  openFile(path: string): NativeFile
  /** Checks jobs and keeps their files; `destination` is not used. */
  openWeights(jobs: PackJob[]): NativeWeights
  /**
   * Packs weights into a block, off the event loop, `threads` wide. Resolves with the bytes written.
   * @param onProgress jobs done so far.
   */
  pack(
    block: NativeBlock,
    jobs: PackJob[],
    threads: number,
    onProgress?: (done: number) => void,
  ): NativeJob<number>
  /** `slotBytes`: of the arena, the weights, the host's memory, then each bound slot. Checks every command: version, opcode, length, and that each operand stays inside its slot. Error names command, node and operand. */
  loadStream(device: string, words: Int32Array, slotBytes: Float64Array): NativeStream
  /** Multiply-adds in registers alone on so many threads: the ceiling of products. For benchmarks. */
  multiplyAdds(
    threads: number,
    rounds: number,
  ): NativeJob<{ operations: number; nanoseconds: number }>
}
