import type { Frame } from '../io/image.js'
import { openFrames, writeLatents } from '../io/latents.js'
import { openVideo, type VideoOptions, type VideoWriter } from '../io/video.js'
import type { Generation, StageReport } from './generation.js'
import { channelsFirst } from './layout.js'
import type { PipelinePlan } from './pipeline-plan.js'

interface Latents {
  /** Final latents, channels last. */
  readonly latents: Float32Array
  /** [frames, rows, cols, channels] */
  readonly shape: readonly number[]
  readonly scalingFactor: number
}

/** Generated latents; frames are decoded one by one, as often as asked. */
export class Video {
  /** The seed that was used. */
  readonly seed: number
  readonly plan: PipelinePlan
  /** Stages so far, predicted and measured; decoding is added when it ends. */
  readonly report: StageReport[]

  constructor(
    private readonly generation: Generation,
    private readonly source: Latents,
  ) {
    this.seed = generation.seed
    this.plan = generation.plan
    this.report = generation.report
  }

  /** Final latents in diffusers' layout, [1, channels, frames, rows, cols]. */
  get latents(): { shape: number[]; data: Float32Array } {
    const [frames, rows, cols, channels] = this.source.shape as [number, number, number, number]
    return {
      shape: [1, channels, frames, rows, cols],
      data: channelsFirst(this.source.latents, channels),
    }
  }

  get frameCount(): number {
    return this.source.shape[0]!
  }

  /**
   * Decodes frame by frame: memory does not grow with their number. Leaving the loop early gives all memory back.
   * @throws AbortError, MemoryError, CheckpointError
   */
  async *frames(): AsyncGenerator<Frame> {
    const { latents, scalingFactor } = this.source
    const start = performance.now()
    await using stage = await this.generation.openStage('decode')
    const size = latents.length / this.frameCount
    const [, height, width, channels] = stage.plan.state.image!.shape as [
      number,
      number,
      number,
      number,
    ]
    for (let i = 0; i < this.frameCount; i++) {
      stage.write(
        'latents',
        latents.subarray(i * size, (i + 1) * size).map(value => value / scalingFactor),
      )
      await stage.run('decoder', {}, this.generation.progress('decode', i, this.frameCount))
      yield { width, height, data: channelsFirst(stage.read('image'), channels) }
    }
    this.generation.closeStage(stage, start)
  }

  /**
   * Decodes into files, each named by its extension (see openVideo); `tensors` is a safetensors file with the frames as float32
   * [frames, 3, height, width] under `video`. Files appear complete or not at all.
   * @throws FileError, OptionError
   */
  async save(
    path: string | undefined,
    options: VideoOptions & { tensors?: string } = {},
  ): Promise<void> {
    const [, height, width] = this.plan.stage('decode').state.image!.shape as [
      number,
      number,
      number,
    ]
    const writers: VideoWriter[] = []
    try {
      if (path !== undefined) writers.push(await openVideo(path, options))
      if (options.tensors !== undefined)
        writers.push(await openFrames(options.tensors, { frames: this.frameCount, width, height }))
      for await (const frame of this.frames()) {
        for (const writer of writers) await writer.write(frame)
      }
      for (const writer of writers) await writer.close()
    } catch (error) {
      for (const writer of writers) await writer.abort()
      throw error
    }
  }

  /** Writes the final latents as float32 under `latents`. @throws FileError */
  async saveLatents(path: string): Promise<void> {
    const { data, shape } = this.latents
    await writeLatents(path, data, shape)
  }
}
