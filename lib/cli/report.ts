import type { PipelinePlan } from '../pipelines/pipeline-plan.js'
import type { DType } from '../program/tensor.js'
import { type Alternative, alternativesOf } from '../report/alternatives.js'
import type { ReportInput } from '../report/data.js'
import { writeReport } from '../report/write.js'
import { openPipeline, type PipelineArguments, planOptions } from './options.js'
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
export async function planAlternatives(
  plan: PipelinePlan,
  args: PipelineArguments,
  weights: DType | undefined,
): Promise<Alternative[]> {
  const pipeline = await openPipeline(args)
  const options = planOptions(args, pipeline)
  return alternativesOf(plan, {
    smallestBudget: () => pipeline.smallestBudget(options, weights),
    plan: async (change, budget) =>
      (await openPipeline(args, budget)).plan({ ...options, ...change }, weights),
  })
}
