import { sliceCounts } from './group.js'
import { leastBudget } from './least-budget.js'
import { type StagePlan, secondsOf } from './plan.js'

/** What one plan of a stage costs. */
export interface StagePoint {
  readonly stage: string
  readonly peakBytes: number
  /** Predicted seconds of all runs. */
  readonly seconds: number
  /** Most slices of a group; 1: nothing is sliced. */
  readonly slices: number
  /** Commands of one run of each program. */
  readonly commands: number
}

/** One budget for all stages: each takes its fastest plan that fits. */
export interface FrontierPoint {
  readonly peakBytes: number
  readonly seconds: number
  readonly slices: number
  readonly stages: readonly StagePoint[]
}

/** Peaks with their predicted times, from the least memory to the fastest: more memory is always faster. */
export interface Frontier {
  readonly points: readonly FrontierPoint[]
  /** The cost model that the times come from. */
  readonly cost: string
}

/** Plans a stage under a budget, or under none. @throws BudgetError */
export type PlanUnder = (budget?: number) => StagePlan

/** Budgets tried between the least and the free peak, geometrically. */
const ladderSteps = 12
/** Budgets tried where all weights of the largest stage are resident, each with less room for the rest by half a power of two. */
const residentSteps = 5

/**
 * The frontier of stages that run one after another in one budget: each point is what planning under its peak gives, every stage with all
 * the memory that the largest needs. Deterministic.
 */
export function frontierOf(stages: readonly PlanUnder[], steps = ladderSteps): Frontier {
  const costs = new Set<string>()
  const under = (plan: PlanUnder, budget?: number) => {
    const planned = plan(budget)
    costs.add(planned.cost)
    return planned
  }
  const free = stages.map(plan => under(plan))
  const needed = Math.max(
    ...stages.map((plan, i) => Math.min(leastBudget(plan), free[i]!.peakBytes)),
  )
  let plans = free
  const points = levelsOf(free, needed, steps).map((level): FrontierPoint => {
    // The fastest plan of a larger budget that fits a smaller one is the fastest there too.
    plans = plans.map((plan, i) => (plan.peakBytes <= level ? plan : under(stages[i]!, level)))
    const chosen = plans.map(pointOf)
    return {
      peakBytes: Math.max(...chosen.map(({ peakBytes }) => peakBytes)),
      seconds: chosen.reduce((sum, { seconds }) => sum + seconds, 0),
      slices: Math.max(...chosen.map(({ slices }) => slices)),
      stages: chosen,
    }
  })
  return { points: undominated(points), cost: [...costs].join(', ') }
}

/** Budgets to try, largest first: from what all stages take freely down to what the neediest must have. */
function levelsOf(free: readonly StagePlan[], needed: number, steps: number): number[] {
  const widest = free.reduce((a, b) => (b.peakBytes > a.peakBytes ? b : a))
  const high = widest.peakBytes
  const fixed = widest.weights.bytes + widest.stateBytes
  const levels = [
    ...Array.from({ length: steps }, (_, step) => high * (needed / high) ** (step / (steps - 1))),
    ...Array.from({ length: residentSteps }, (_, step) => fixed + (high - fixed) / 2 ** (step / 2)),
    ...free.map(({ peakBytes }) => peakBytes),
  ]
  const whole = levels.map(Math.floor).filter(level => level > needed)
  return [...new Set([...whole, needed])].sort((a, b) => b - a)
}

function pointOf(plan: StagePlan): StagePoint {
  const programs = Object.values(plan.programs)
  const slices = programs.flatMap(({ groups, slicings }) =>
    groups.flatMap(group => sliceCounts(group, slicings[group.id]!)),
  )
  return {
    stage: plan.name,
    peakBytes: plan.peakBytes,
    seconds: secondsOf(plan),
    slices: slices.reduce((most, count) => Math.max(most, count), 1),
    commands: programs.reduce((sum, { commands }) => sum + commands, 0),
  }
}

/** Those that no other beats in bytes and, but for what nobody would wait for, in time; least bytes first. */
export function undominated<T extends { readonly peakBytes: number; readonly seconds: number }>(
  points: readonly T[],
): T[] {
  const sorted = [...points].sort((a, b) => a.peakBytes - b.peakBytes || a.seconds - b.seconds)
  let fastest = Number.POSITIVE_INFINITY
  return sorted.filter(({ seconds }) => {
    if (seconds >= fastest * noticeable) return false
    fastest = seconds
    return true
  })
}

/** Of two times, the shorter one counts as shorter from this share of the other on. */
const noticeable = 1 - 1e-6
