/** Plans that reports are tested with. */
import { AnimateDiff, PipelinePlan } from '../../lib/index.js'
import { animateDiffStages } from '../../lib/pipelines/animatediff-stages.js'
import { leastBudget } from '../../lib/planner/least-budget.js'
import { planStage } from '../../lib/planner/plan.js'
import { fullSize } from '../support/checkpoints.js'

/** Weights stand in memory, so that denoising is the largest stage. */
const streaming = 'never'
const device = { device: 'cpu', threads: 2 }

export async function embeddedPlan(
  options: { budget?: number | string; slices?: number; frames?: number } = {},
): Promise<PipelinePlan> {
  const { budget, ...shape } = options
  return (await AnimateDiff.load(undefined, { ...device, budget })).plan({ ...shape, streaming })
}

let smallest: Promise<PipelinePlan> | undefined

/** The embedded model in the least memory; planned once. */
export function smallestPlan(): Promise<PipelinePlan> {
  smallest ??= AnimateDiff.load(undefined, device).then(pipeline =>
    embeddedPlan({ budget: pipeline.smallestBudget({ streaming }) }),
  )
  return smallest
}

/** Stable Diffusion 1.5 with AnimateDiff at 512 x 512, from configurations. */
export async function fullSizePlan(budget?: string): Promise<PipelinePlan> {
  const pipeline = await AnimateDiff.load(fullSize, { ...device, budget })
  return pipeline.plan({ width: 512, height: 512 })
}

/** The embedded decoder alone, in the least memory: here tensors may lie in bands. */
export async function smallestDecode(): Promise<PipelinePlan> {
  const { config } = await AnimateDiff.load(undefined, device)
  const shape = { frames: 4, height: 64, width: 64, steps: 2, guidance: 1 }
  const decode = animateDiffStages(config, shape, 24).stages.find(({ name }) => name === 'decode')!
  const options = { target: { backend: 'cpu', threads: 2 }, weightDtype: () => 'f32' as const }
  const budget = leastBudget(least => planStage(decode, { ...options, budget: least }))
  return new PipelinePlan([planStage(decode, { ...options, budget })], shape, {}, budget)
}
