import { BudgetError } from '../errors.js'
import { sliceCounts } from './group.js'
import type { StagePlan } from './plan.js'

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

/** Budgets tried for a stage. */
const ladderSteps = 16

/**
 * The frontier of stages that run one after another. Stages are planned on a geometric ladder of budgets between their least and their
 * free peak; two neighbours differ by the same factor in the bytes that slicing can change. Deterministic.
 */
export function frontierOf(stages: readonly PlanUnder[], steps = ladderSteps): Frontier {
  const costs = new Set<string>()
  const fronts = stages.map(plan =>
    stageFrontier(under => {
      const planned = plan(under)
      costs.add(planned.cost)
      return planned
    }, steps),
  )
  const needed = Math.max(...fronts.map(points => points[0]!.peakBytes))
  const levels = new Set(fronts.flatMap(points => points.map(({ peakBytes }) => peakBytes)))
  const points = [...levels]
    .filter(level => level >= needed)
    .map((level): FrontierPoint => {
      const chosen = fronts.map(points => points.findLast(({ peakBytes }) => peakBytes <= level)!)
      return {
        peakBytes: Math.max(...chosen.map(({ peakBytes }) => peakBytes)),
        seconds: chosen.reduce((sum, { seconds }) => sum + seconds, 0),
        slices: Math.max(...chosen.map(({ slices }) => slices)),
        stages: chosen,
      }
    })
  return { points: undominated(points), cost: [...costs].join(', ') }
}

/** The frontier of one stage, least memory first. */
export function stageFrontier(plan: PlanUnder, steps = ladderSteps): StagePoint[] {
  const free = plan()
  const least = smallest(plan, free)
  const fixed = free.weights.bytes + free.stateBytes
  const [low, high] = [least.peakBytes - fixed, free.peakBytes - fixed]
  const points = [pointOf(least), pointOf(free)]
  let last = free
  for (let step = steps - 2; step > 0 && low > 0; step--) {
    const budget = Math.floor(fixed + low * (high / low) ** (step / (steps - 1)))
    // The fastest plan of a larger budget that fits a smaller one is the fastest there too.
    if (last.peakBytes <= budget) continue
    last = plan(budget)
    points.push(pointOf(last))
  }
  return undominated(points)
}

/** The plan with the least memory. */
function smallest(plan: PlanUnder, free: StagePlan): StagePlan {
  try {
    return plan(0)
  } catch (error) {
    if (!(error instanceof BudgetError)) throw error
    return error.needed < free.peakBytes ? plan(error.needed) : free
  }
}

function pointOf(plan: StagePlan): StagePoint {
  const programs = Object.values(plan.programs)
  const slices = programs.flatMap(({ groups, slicings }) =>
    groups.flatMap(group => sliceCounts(group, slicings[group.id]!)),
  )
  return {
    stage: plan.name,
    peakBytes: plan.peakBytes,
    seconds: programs.reduce((sum, { work, runs }) => sum + work.seconds * runs, 0),
    slices: slices.reduce((most, count) => Math.max(most, count), 1),
    commands: programs.reduce((sum, { commands }) => sum + commands, 0),
  }
}

/** Those that no other beats in both bytes and time, least bytes first. */
export function undominated<T extends { readonly peakBytes: number; readonly seconds: number }>(
  points: readonly T[],
): T[] {
  const sorted = [...points].sort((a, b) => a.peakBytes - b.peakBytes || a.seconds - b.seconds)
  let fastest = Number.POSITIVE_INFINITY
  return sorted.filter(({ seconds }) => {
    if (seconds >= fastest) return false
    fastest = seconds
    return true
  })
}
