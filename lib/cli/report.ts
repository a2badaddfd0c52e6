import type { AnyPipeline } from '../pipelines/load.js'
import type { PipelinePlan } from '../pipelines/pipeline-plan.js'
import type { DType } from '../program/tensor.js'
import { type Alternative, alternativesOf } from '../report/alternatives.js'
import type { ReportInput } from '../report/data.js'
import { writeReport } from '../report/write.js'
import type { PipelineArguments, planOptions } from './options.js'
import { withFolders } from './outputs.js'
import { packageVersion } from './package-info.js'

/** What the command line says about a report. */
export function reportInput(
  args: PipelineArguments,
  input: Omit<ReportInput, 'model' | 'sluice'>,
): ReportInput {
  return { ...input, model: args.model ?? 'moving-shapes (embedded)', sluice: packageVersion() }
}

/** Writes the memory timeline, and the folders on the way to it. @throws FileError */
export async function saveReport(
  path: string,
  args: PipelineArguments,
  input: Omit<ReportInput, 'model' | 'sluice'>,
): Promise<void> {
  await withFolders([path], () => writeReport(path, reportInput(args, input)))
}

/** Plans what would lower the peak of a plan. */
export function planAlternatives(
  plan: PipelinePlan,
  pipeline: AnyPipeline,
  options: ReturnType<typeof planOptions>,
  weights: DType | undefined,
): Promise<Alternative[]> {
  return alternativesOf(plan, {
    smallestBudget: () => pipeline.smallestBudget(options, weights),
    plan: (change, budget) => pipeline.plan({ ...options, ...change, budget }, weights),
  })
}
