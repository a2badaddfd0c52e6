import type { Frame } from '../io/image.js'
import { openFrames, writeLatents } from '../io/latents.js'
import { openVideo, type VideoOptions, type VideoWriter } from '../io/video.js'
import type { Generation, StageReport } from './generation.js'
import { channelsFirst, type LatentExtents, type LatentOrder } from './layout.js'
import type { PipelinePlan } from './pipeline-plan.js'

interface Latents {
  /** Final latents, channels last. */
  readonly latents: Float32Array
  readonly extents: LatentExtents
  /** Their order in diffusers. */
  readonly order: LatentOrder
  readonly scalingFactor: number
  /** Frames a second, where the pipeline knows. */
  readonly fps?: number
}

/** Generated latents; frames are decoded as they are asked for, as often as asked. */
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

  /** Denoising steps that ran the whole network: all of them without rehash. */
  get fullSteps(): readonly number[] {
    return this.generation.fullSteps
  }

  /** Final latents in diffusers' layout: [1, channels, frames, rows, cols], for images [1, frames, channels, rows, cols]. */
  get latents(): { shape: number[]; data: Float32Array } {
    const { latents, extents, order } = this.source
    return { shape: order.shape(extents), data: order.write(latents, extents) }
  }

  get frameCount(): number {
    return this.source.extents[0]
  }

  /**
   * Decodes as many frames at a time as the plan says and gives them one by one: copies do not grow with their number. Leaving the loop
   * early gives all memory back.
   * @throws AbortError, MemoryError, CheckpointError
   */
  async *frames(): AsyncGenerator<Frame> {
    const { latents, scalingFactor } = this.source
    const start = performance.now()
    await using stage = await this.generation.openStage('decode')
    const [chunk, height, width, channels] = stage.plan.state.image!.shape as unknown as Extents
    const size = latents.length / this.frameCount
    const runs = Math.ceil(this.frameCount / chunk)
    for (let run = 0; run < runs; run++) {
      const first = run * chunk
      const count = Math.min(chunk, this.frameCount - first)
      const input = new Float32Array(chunk * size)
      input.set(latents.subarray(first * size, (first + count) * size))
      stage.write(
        'latents',
        input.map(value => value / scalingFactor),
      )
      await stage.run(
        count === chunk ? 'decoder' : 'rest',
        {},
        this.generation.progress('decode', run, runs),
      )
      for (let i = 0; i < count; i++)
        yield { width, height, data: channelsFirst(stage.read('image', i, chunk), channels) }
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
    { tensors, ...options }: VideoOptions & { tensors?: string } = {},
  ): Promise<void> {
    const [, height, width] = this.plan.stage('decode').state.image!.shape as unknown as Extents
    const fps = options.fps ?? this.source.fps
    const writers: VideoWriter[] = []
    try {
      if (path !== undefined) writers.push(await openVideo(path, { ...options, fps }))
      if (tensors !== undefined)
        writers.push(await openFrames(tensors, { frames: this.frameCount, width, height }))
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

type Extents = readonly [frames: number, height: number, width: number, channels: number]
