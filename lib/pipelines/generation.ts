import { CheckpointError, OptionError } from '../errors.js'
import { gaussian } from '../io/random.js'
import { Stage, type StageOptions } from '../runtime/stage.js'
import type { RunOptions } from './options.js'
import type { PipelinePlan } from './pipeline-plan.js'
import type { Progress } from './progress.js'

/** A stage after it ran: bytes as planned and as read back from its memory. */
export interface StageReport {
  stage: string
  predictedBytes: number
  measuredBytes: number
  seconds: number
}

/** One generation: the plan it follows, the seed it draws from, and what its stages took. */
export class Generation {
  readonly report: StageReport[] = []
  /** Denoising steps so far that ran the whole network. */
  fullSteps: readonly number[] = []
  readonly seed: number

  constructor(
    readonly plan: PipelinePlan,
    private readonly open: Omit<StageOptions, 'onPack'>,
    seed: number | undefined,
    readonly onProgress: ((progress: Progress) => void) | undefined,
    readonly onFeature?: RunOptions['onFeature'],
  ) {
    this.seed = seed ?? Math.floor(Math.random() * 2 ** 32)
  }

  /** Opens a stage; whoever does so closes it. Loading is reported as progress. @throws MemoryError, AbortError, CheckpointError */
  openStage(name: string): Promise<Stage> {
    return Stage.open(this.plan.stage(name), {
      ...this.open,
      onPack: (done, total) => this.onProgress?.({ stage: name, phase: 'load', done, total }),
    })
  }

  /** Opens a stage, works in it, closes it and reports; on failure everything is given back. */
  async inStage<T>(name: string, work: (stage: Stage) => Promise<T>): Promise<T> {
    const start = performance.now()
    await using stage = await this.openStage(name)
    const result = await work(stage)
    this.closeStage(stage, start)
    return result
  }

  /** Closes a stage and reports it, in place of what an earlier run of it reported. @param start of the work, in milliseconds */
  closeStage(stage: Stage, start: number): void {
    const entry = {
      stage: stage.plan.name,
      predictedBytes: stage.plan.peakBytes,
      measuredBytes: stage.close().peakBytes,
      seconds: (performance.now() - start) / 1000,
    }
    const known = this.report.findIndex(({ stage: name }) => name === entry.stage)
    if (known < 0) this.report.push(entry)
    else this.report[known] = entry
  }

  /** Progress of one of several equal runs in a stage. */
  progress(stage: string, run: number, runs: number): (done: number, total: number) => void {
    return (done, total) =>
      this.onProgress?.({
        stage,
        phase: 'run',
        done: run * total + done,
        total: runs * total,
      })
  }
}

/**
 * Noise in diffusers' order: what was given, else drawn, so that a seed means the same noise in files and in memory.
 * @param name of the option that gives it
 * @param shape in diffusers' order
 * @param stream of the seed; 0 is the start of the denoising
 * @throws OptionError for another number of values, or ones that are not finite
 */
export function noiseOf(
  name: string,
  shape: readonly number[],
  given: Float32Array | undefined,
  seed: number,
  stream = 0,
): Float32Array {
  const count = shape.reduce((a, b) => a * b, 1)
  if (!given) return gaussian(seed, count, stream)
  if (given.length !== count) {
    throw new OptionError(
      `${name}: expected [${shape.join(', ')}], got ${given.length} values; give noise of the video's size and frames`,
    )
  }
  if (!given.every(Number.isFinite))
    throw new OptionError(`${name}: expected finite values, got NaN or infinity; give other noise`)
  return given
}

/** @throws CheckpointError for values that are not finite, naming the checkpoint */
export function checkLatents(latents: Float32Array, where: string): void {
  if (latents.every(Number.isFinite)) return
  throw new CheckpointError(
    `${where}: expected finite latents, got NaN or infinity; check the weights and scheduler_config.json`,
    where,
  )
}
