import { BudgetError } from '../errors.js'
import type { StagePlan, StageSpec } from '../planner/plan.js'
import type { Staged } from './pipeline.js'

/** What to plan, in the order in which it is tried. */
export function* widestFirst(staged: Staged): Generator<Staged> {
  for (let next: Staged | undefined = staged; next; next = next.narrower) yield next
}

/**
 * The first that fits: rehash as asked, in a narrower storage, or without it.
 * @param plan @throws BudgetError
 * @throws BudgetError of the last
 */
export function planWidest(
  staged: Staged,
  plan: (stage: StageSpec) => StagePlan,
): { staged: Staged; plans: StagePlan[] } {
  try {
    return { staged, plans: planAll(staged.stages, plan) }
  } catch (error) {
    if (!(error instanceof BudgetError) || !staged.narrower) throw error
    return planWidest(staged.narrower, plan)
  }
}

/** Plans every stage; a refusal is that of the stage that needs most, so that its number suffices for all. @throws BudgetError */
function planAll(stages: readonly StageSpec[], plan: (stage: StageSpec) => StagePlan): StagePlan[] {
  let worst: BudgetError | undefined
  const plans: StagePlan[] = []
  for (const stage of stages) {
    try {
      plans.push(plan(stage))
    } catch (error) {
      if (!(error instanceof BudgetError)) throw error
      if (!worst || error.needed > worst.needed) worst = error
    }
  }
  if (worst) throw worst
  return plans
}
