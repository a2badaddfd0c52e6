/** What a comparison of networks asks of both sides. */
import type { ModelName } from './checkpoint.js'

export interface NetworkRequest {
  readonly model: ModelName
  /** The checkpoint. */
  readonly folder: string
  /** Where one side leaves inputs and outputs for the other. */
  readonly exchange: string
  readonly frames: number
  readonly height: number
  readonly width: number
  /** Denoising steps of a video; measured passes of a step. */
  readonly steps: number
  /** Frames decoded at once, of SVD. */
  readonly decodeChunk: number
}

/** What our side says of one pass through the UNet. */
export interface StepResult {
  readonly milliseconds: number
  readonly peakBytes: number
  readonly measuredBytes: number
  readonly deviceBytes: number
}

/** What our side says of a video. */
export interface VideoResult {
  readonly seconds: number
  readonly secondsPerStep: number
  readonly stages: readonly {
    stage: string
    predictedBytes: number
    measuredBytes: number
    seconds: number
  }[]
  readonly peakBytes: number
  readonly deviceBytes: number
}

/** What the rival says: numbers by variant, or why there are none. */
export interface RivalResult {
  readonly missing?: string
  readonly variants?: Readonly<
    Record<
      string,
      {
        readonly failed?: string
        readonly milliseconds?: number
        readonly seconds?: number
        readonly secondsPerStep?: number
        readonly allocated?: number
        readonly reserved?: number
        /** Root mean square of the difference of our output, over the spread of the rival's. */
        readonly difference?: number
      }
    >
  >
}
