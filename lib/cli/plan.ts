import { OptionError } from '../errors.js'
import type { PipelinePlan } from '../pipelines/pipeline-plan.js'
import { describeRehash } from '../pipelines/rehash-summary.js'
import { reportData } from '../report/data.js'
import { explainText } from '../report/explain.js'
import { exactBytes, formatSeconds } from './format.js'
import { checkWishes, type FrontierArguments, showFrontier } from './frontier.js'
import { checkInputs } from './inputs.js'
import { dtypeOf, openPipeline, type PipelineArguments, planOptions } from './options.js'
import { checkOutputs, withFolders } from './outputs.js'
import { planAlternatives, reportInput, saveReport } from './report.js'

interface PlanArguments extends PipelineArguments, FrontierArguments {
  budget?: number
  quiet?: boolean
  /** File to write the plan to. */
  save?: string
  explain?: boolean
  weights?: string
}

/** `sluice plan`: what a generation takes. */
export async function plan(prompt: string | undefined, args: PlanArguments): Promise<void> {
  const { report } = args
  checkWishes(args)
  const ofOne = [
    ['--explain', args.explain],
    ['--report', report !== undefined],
    ['--save', args.save !== undefined],
  ] as const
  const [wished] = ofOne.find(([, given]) => given) ?? []
  if (args.frontier && wished)
    throw new OptionError(
      `--frontier: expected no ${wished}, which is of one plan, got both; leave one out`,
    )
  const weights = dtypeOf('--weights', args.weights)
  await checkOutputs({ plan: args.save, report, chart: args.chart })
  const pipeline = await openPipeline(args)
  checkInputs(pipeline, prompt, args)
  const options = planOptions(args, pipeline)
  if (args.frontier) return showFrontier(pipeline, options, weights, args)
  const budget = args.smallest
    ? pipeline.smallestBudget(options, weights)
    : args.fastest
      ? pipeline.fastestBudget(options, weights)
      : args.budget
  const planned = pipeline.plan({ ...options, budget }, weights)
  const { save } = args
  if (save !== undefined) await withFolders([save], () => planned.save(save))
  const alternatives = args.explain
    ? await planAlternatives(planned, pipeline, options, weights)
    : undefined
  if (report !== undefined) await saveReport(report, args, { plan: planned, alternatives })
  if (args.json) {
    const data = planned.toJSON() as object
    console.log(JSON.stringify(alternatives ? { plan: data, alternatives } : data))
    return
  }
  if (args.quiet) return
  const text = args.explain
    ? explainText(reportData(reportInput(args, { plan: planned, alternatives })))
    : describePlan(planned)
  console.log(report === undefined ? text : `${text}\n\nwrote ${report}`)
}

/** The table of stages and what it adds up to. */
export function describePlan(plan: PipelinePlan): string {
  const { frames, height, width, steps, device, threads } = plan.options
  const worst = plan.summary().reduce((a, b) => (b.peakBytes > a.peakBytes ? b : a))
  const budget = plan.budget === undefined ? 'no budget' : `budget ${exactBytes(plan.budget)}`
  return [
    `${frames} frames of ${width} x ${height}, ${steps} steps, on ${device} with ${threads} threads`,
    '',
    plan.table(),
    '',
    `predicted peak ${exactBytes(plan.peakBytes)}, in stage ${worst.stage}; ${budget}`,
    `predicted time ${formatSeconds(plan.seconds)}; ${plan.cost}`,
    ...(plan.rehash ? [describeRehash(plan.rehash)] : []),
  ].join('\n')
}
