import { openCheckpoint, requirePipeline } from '../io/checkpoint.js'
import { AnimateDiff, type PlanOptions } from './animatediff.js'
import { embeddedModel } from './embedded.js'
import { type LoadOptions, loadNames } from './pipeline.js'
import type { PipelinePlan } from './pipeline-plan.js'
import { type ImagePlanOptions, StableVideoDiffusion } from './stable-video-diffusion.js'

export type AnyPipeline = AnimateDiff | StableVideoDiffusion

/**
 * Opens a checkpoint with the pipeline that its model_index.json names; the embedded one without a path.
 * @throws CheckpointError when no pipeline runs it; OptionError
 */
export async function loadPipeline(
  path: string = embeddedModel(),
  options: LoadOptions = {},
): Promise<AnyPipeline> {
  const checkpoint = openCheckpoint(path, { variant: options.variant })
  requirePipeline(checkpoint, [...AnimateDiff.classes, ...StableVideoDiffusion.classes])
  return StableVideoDiffusion.classes.includes(checkpoint.pipeline)
    ? StableVideoDiffusion.load(path, options)
    : AnimateDiff.load(path, options)
}

/**
 * The plan of a generation without a pipeline: peak bytes of every stage from configurations alone.
 * @param path a checkpoint's folder; the embedded one without
 * @throws BudgetError, CheckpointError, OptionError
 */
export async function plan(
  path?: string,
  options: LoadOptions & PlanOptions & ImagePlanOptions = {},
): Promise<PipelinePlan> {
  const loading = Object.entries(options).filter(([name]) =>
    (loadNames as readonly string[]).includes(name),
  )
  return (await loadPipeline(path, Object.fromEntries(loading))).plan(options)
}
