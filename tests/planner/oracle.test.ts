import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { BudgetError } from '../../lib/errors.js'
import { CommandCosts, roofline } from '../../lib/planner/cost.js'
import { type ProgramPlan, planStage, prepareStage } from '../../lib/planner/plan.js'
import type { Program } from '../../lib/program/graph.js'
import { checkPlan } from '../support/memory-model.js'
import { PlanOracle } from '../support/oracle.js'
import { smallProgram } from '../support/small-program.js'

const target = { backend: 'cpu', threads: 2 }
const options = {
  target,
  weightDtype: () => 'f16' as const,
  cost: roofline(target),
  streaming: 'never' as const,
}
const spec = (program: Program) => ({ name: 'small', state: {}, programs: { main: program } })

function oracleOf(program: Program): { oracle: PlanOracle; prepared: Program; weights: number } {
  const { prepared, weights } = prepareStage(spec(program), options)
  const costs = new CommandCosts(options.cost, options.weightDtype)
  const main = prepared[0]!.program
  return { oracle: new PlanOracle(main, target, costs), prepared: main, weights: weights.bytes }
}

/** Shares of the way from the least memory of any plan to the memory of the unsliced one. */
const shares = [0, 0.1, 0.3, 0.5, 1]

test('no plan that fits is faster than the one that the search finds, in 200 small programs', () => {
  const slower: string[] = []
  let compared = 0
  for (let seed = 0; seed < 200; seed++) {
    const program = smallProgram(seed)
    const { oracle, weights } = oracleOf(program)
    const least = oracle.leastLive()
    const most = oracle.unsliced().bytes
    for (const share of shares) {
      const allowed = Math.floor(least + share * (most - least))
      const best = oracle.best(allowed)
      if (!best) continue
      compared++
      const plan = planWithin(program, allowed + weights)
      const where = `small program ${seed}, ${allowed} bytes`
      if (!plan) slower.push(`${where}: refused, best ${best.seconds}`)
      else if (plan.work.seconds > best.seconds * (1 + 1e-9))
        slower.push(`${where}: ${plan.work.seconds / best.seconds} of the best`)
    }
  }
  assert.ok(compared >= 900, `${compared} budgets compared`)
  assert.is(slower.length, 0, `${slower.length} of ${compared}: ${slower.slice(0, 3).join('; ')}`)
})

test('the plans of brute force are sound, and slice and cut as the budget asks', () => {
  let sliced = 0
  let cut = 0
  for (let seed = 0; seed < 30; seed++) {
    const { oracle, prepared } = oracleOf(smallProgram(seed))
    const least = oracle.leastLive()
    const allowed = Math.floor(least + 0.2 * (oracle.unsliced().bytes - least))
    const best = oracle.best(allowed)
    if (!best) continue
    // The memory model goes element by element: the smaller programs do.
    if (prepared.nodes.every(({ output }) => output.shape.reduce((a, b) => a * b) < 10_000))
      assert.equal(checkPlan({ ...best, program: prepared, target } as unknown as ProgramPlan), [])
    if (best.slicings.some(({ chunk }, i) => chunk < best.groups[i]!.extent)) sliced++
    if (best.groups.length > 1 && best.groups.length < prepared.nodes.length) cut++
  }
  assert.ok(sliced > 20 && cut > 20, `${sliced} sliced, ${cut} cut`)
})

function planWithin(program: Program, budget: number): ProgramPlan | undefined {
  try {
    return planStage(spec(program), { ...options, budget }).programs.main
  } catch (error) {
    if (error instanceof BudgetError) return undefined
    throw error
  }
}

test.run()
