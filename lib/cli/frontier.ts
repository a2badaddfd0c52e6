import { writeFile } from 'node:fs/promises'
import { extname } from 'node:path'
import { OptionError } from '../errors.js'
import { replaceFile } from '../io/atomic.js'
import type { PlanOptions } from '../pipelines/animatediff.js'
import type { AnyPipeline } from '../pipelines/load.js'
import { formatTable } from '../pipelines/pipeline-plan.js'
import type { ImagePlanOptions } from '../pipelines/stable-video-diffusion.js'
import type { Frontier } from '../planner/frontier.js'
import type { DType } from '../program/tensor.js'
import { frontierChart } from '../report/frontier.js'
import { formatBytes } from '../units.js'
import { formatSeconds, grouped } from './format.js'
import { withFolders } from './outputs.js'

export interface FrontierArguments {
  json?: boolean
  quiet?: boolean
  budget?: number
  smallest?: boolean
  fastest?: boolean
  frontier?: boolean
  chart?: string
}

/** @throws OptionError for two wishes that exclude each other. */
export function checkWishes(args: FrontierArguments): void {
  const wishes = [
    ['--budget', args.budget !== undefined],
    ['--smallest', args.smallest],
    ['--fastest', args.fastest],
    ['--frontier', args.frontier],
  ] as const
  const given = wishes.filter(([, wished]) => wished).map(([name]) => name)
  if (given.length > 1)
    throw new OptionError(`plan: expected one of ${given.join(', ')}, got ${given.length}`)
  if (args.chart !== undefined && !args.frontier)
    throw new OptionError('--chart: expected --frontier with it, got none; add --frontier')
  if (args.chart !== undefined && extname(args.chart).toLowerCase() !== '.svg')
    throw new OptionError(`--chart: expected a file .svg, got ${args.chart}`)
}

/** `sluice plan --frontier`: a table, JSON, and a chart. */
export async function showFrontier(
  pipeline: AnyPipeline,
  options: PlanOptions & ImagePlanOptions,
  weights: DType | undefined,
  { json, quiet, chart }: FrontierArguments,
): Promise<void> {
  const frontier = pipeline.frontier(options, weights)
  if (chart !== undefined) {
    const svg = frontierChart(frontier, 'What a budget costs')
    await withFolders([chart], () => replaceFile(chart, at => writeFile(at, svg)))
  }
  if (json) {
    console.log(JSON.stringify(frontier, null, 2))
  } else if (!quiet) {
    console.log(describeFrontier(frontier))
    if (chart !== undefined) console.log(`\nwrote ${chart}`)
  }
}

function describeFrontier({ points, cost }: Frontier): string {
  const fastest = points[points.length - 1]!.seconds
  const stages = points[0]!.stages.map(({ stage }) => stage)
  const rows = points.map(point => [
    formatBytes(point.peakBytes),
    grouped(point.peakBytes),
    formatSeconds(point.seconds),
    `${(point.seconds / fastest).toFixed(3)} x`,
    point.slices === 1 ? 'none' : `up to ${point.slices}`,
    ...point.stages.map(({ peakBytes }) => formatBytes(peakBytes)),
  ])
  const head = ['peak', 'bytes', 'time', 'of fastest', 'slices', ...stages]
  return `${formatTable([head, ...rows])}\n\ntimes predicted, ${cost}`
}
