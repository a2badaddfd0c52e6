import type { StageReport } from '../pipelines/generation.js'
import type { PipelinePlan } from '../pipelines/pipeline-plan.js'
import type { StagePlan } from '../planner/plan.js'
import type { Alternative } from './alternatives.js'
import { type ProgramData, programData } from './program-data.js'

/** A tensor that a stage keeps, at its offset from the arena's begin. */
export interface StateData {
  name: string
  shape: readonly number[]
  dtype: string
  bytes: number
  offset: number
}

export interface StageData {
  name: string
  /** Predicted: arena and weights. */
  peakBytes: number
  /** Read back from memory; absent where the stage did not run. */
  measuredBytes?: number
  /** Measured wall time, weights packed included. */
  seconds?: number
  /** Of all runs, by the cost model. */
  predictedSeconds: number
  weightBytes: number
  arenaBytes: number
  stateBytes: number
  /** Copies that JavaScript keeps beside the arena. */
  hostBytes: number
  state: StateData[]
  /** Largest first. */
  programs: ProgramData[]
}

/** Everything that the page shows, as plain data; the page carries it as JSON. */
export interface ReportData {
  format: 'sluice-report'
  version: 1
  /** Version of Sluice. */
  sluice: string
  model: string
  prompt?: string
  /** File of the image that the video begins with. */
  image?: string
  seed?: number
  /** Shape, steps, device, threads. */
  options: Readonly<Record<string, number | string | undefined>>
  budget?: number
  /** Where predicted times come from. */
  cost: string
  /** The largest stage's. */
  peakBytes: number
  stages: StageData[]
  /** What would lower the peak, where it was asked for. */
  alternatives?: Alternative[]
}

export interface ReportInput {
  readonly plan: PipelinePlan
  /** Name or path of the checkpoint. */
  readonly model: string
  readonly sluice: string
  readonly prompt?: string
  readonly image?: string
  readonly seed?: number
  /** Stages that ran. */
  readonly measured?: readonly StageReport[]
  readonly alternatives?: Alternative[]
}

/** A plan, and what a run of it measured, as plain data. */
export function reportData(input: ReportInput): ReportData {
  const { plan, model, sluice, prompt, image, seed, measured = [], alternatives } = input
  const summaries = plan.summary()
  return {
    format: 'sluice-report',
    version: 1,
    sluice,
    model,
    prompt,
    image,
    seed,
    options: plan.options,
    budget: plan.budget,
    cost: plan.cost,
    peakBytes: plan.peakBytes,
    stages: plan.stages.map((stage, i) => {
      const ran = measured.find(entry => entry.stage === stage.name)
      return {
        name: stage.name,
        peakBytes: stage.peakBytes,
        measuredBytes: ran?.measuredBytes,
        seconds: ran?.seconds,
        predictedSeconds: summaries[i]!.seconds,
        weightBytes: stage.weights.bytes,
        arenaBytes: stage.arenaBytes,
        stateBytes: stage.stateBytes,
        hostBytes: summaries[i]!.hostBytes,
        state: stateData(stage),
        programs: Object.values(stage.programs)
          .map(program => programData(program, stage))
          .sort((a, b) => b.bytes - a.bytes),
      }
    }),
    alternatives,
  }
}

function stateData(stage: StagePlan): StateData[] {
  return Object.entries(stage.state).map(([name, { shape, dtype, bytes, offset }]) => ({
    name,
    shape,
    dtype,
    bytes,
    offset,
  }))
}
