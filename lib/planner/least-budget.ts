import { BudgetError } from '../errors.js'

/** Bytes that a plan needs at the least: what it asks for when it is allowed nothing. */
export function leastBudget(plan: (budget: number) => unknown): number {
  try {
    plan(0)
  } catch (error) {
    if (error instanceof BudgetError) return error.needed
    throw error
  }
  return 0
}
