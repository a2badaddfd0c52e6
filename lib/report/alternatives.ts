import { SluiceError } from '../errors.js'
import type { ShapeOptions } from '../pipelines/options.js'
import type { PipelinePlan } from '../pipelines/pipeline-plan.js'

/** Another choice of budget or size, planned in full. */
export interface Alternative {
  /** `budget`, `frames`, `size`. */
  kind: 'budget' | 'frames' | 'size'
  /** What changes: `8 frames instead of 16`. */
  change: string
  /** As it is asked for on the command line. */
  options: string
  peakBytes: number
  /** Predicted time over that of the plan it is compared with. */
  time: number
  stages: { name: string; peakBytes: number; mostSlices: number; commands: number }[]
}

/** How alternatives are planned. */
export interface Planner {
  /** @throws BudgetError, OptionError */
  plan(change: ShapeOptions, budget: number | undefined): PipelinePlan | Promise<PipelinePlan>
  /** Least budget that fits the plan's own size. */
  smallestBudget(): number
}

/**
 * What would lower a plan's peak, by planning it: the least budget that fits and one half-way, fewer frames, a smaller picture. Only what
 * lowers the peak is kept.
 */
export async function alternativesOf(plan: PipelinePlan, planner: Planner): Promise<Alternative[]> {
  const { frames, width, height } = plan.options as Record<'frames' | 'width' | 'height', number>
  const found: Alternative[] = []
  const consider = async (
    kind: Alternative['kind'],
    change: string,
    options: string,
    sizes: ShapeOptions,
    budget: number | undefined,
  ) => {
    const other = await planned(planner, sizes, budget)
    if (other && other.peakBytes < plan.peakBytes)
      found.push({ kind, change, options, ...compare(other, plan) })
  }
  const least = planner.smallestBudget()
  const middle = Math.round((least + plan.peakBytes) / 2)
  for (const [budget, what] of [
    [middle, 'half-way to the least budget'],
    [least, 'the least budget that fits'],
  ] as const)
    if (budget < plan.peakBytes) await consider('budget', what, `--budget ${budget}`, {}, budget)
  // Sizes are compared without a budget of their own: what the same planner does with less to hold.
  const half = Math.ceil(frames / 2)
  if (half < frames)
    await consider(
      'frames',
      `${half} frames instead of ${frames}`,
      `--frames ${half}`,
      { frames: half },
      plan.budget,
    )
  const [w, h] = [smaller(width), smaller(height)]
  if (w < width || h < height)
    await consider(
      'size',
      `${w} x ${h} instead of ${width} x ${height}`,
      `--width ${w} --height ${h}`,
      { width: w, height: h },
      plan.budget,
    )
  return found
}

/** About three quarters of a side, a multiple of 64 where it can be one: U-Nets halve latents three times. */
function smaller(side: number): number {
  return side <= 64 ? side / 2 : Math.max(64, Math.floor((side * 3) / 4 / 64) * 64)
}

async function planned(
  planner: Planner,
  sizes: ShapeOptions,
  budget: number | undefined,
): Promise<PipelinePlan | undefined> {
  try {
    return await planner.plan(sizes, budget)
  } catch (error) {
    if (error instanceof SluiceError) return undefined
    throw error
  }
}

function compare(
  other: PipelinePlan,
  plan: PipelinePlan,
): Pick<Alternative, 'peakBytes' | 'time' | 'stages'> {
  const seconds = (of: PipelinePlan) => of.summary().reduce((sum, stage) => sum + stage.seconds, 0)
  return {
    peakBytes: other.peakBytes,
    time: seconds(other) / seconds(plan),
    stages: other.summary().map(({ stage, peakBytes, mostSlices, commands }) => ({
      name: stage,
      peakBytes,
      mostSlices,
      commands,
    })),
  }
}
