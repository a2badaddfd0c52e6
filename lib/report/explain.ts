import { formatTable } from '../pipelines/pipeline-plan.js'
import { formatBytes } from '../units.js'
import type { Alternative } from './alternatives.js'
import type { ReportData, StageData } from './data.js'
import { describeOptions, exactly, formatShare } from './format.js'
import { type Holder, largestHolders, largestProgram, peakHolders } from './holders.js'
import { kinds } from './kinds.js'
import type { ProgramData } from './program-data.js'

/** A plan as a short text: what holds the peak of each stage, the largest tensors, and what would lower it. */
export function explainText(data: ReportData): string {
  const { peakBytes, budget, stages, alternatives } = data
  const worst = stages.reduce((a, b) => (b.peakBytes > a.peakBytes ? b : a))
  const allowed = budget === undefined ? 'no budget' : `budget ${exactly(budget)}`
  return [
    describeOptions(data.options),
    `predicted peak ${exactly(peakBytes)}, in stage ${worst.name}; ${allowed}`,
    ...stages.flatMap(stage => ['', ...explainStage(stage)]),
    '',
    'largest tensors',
    holderTable(largestOf(stages, 10)),
    ...(alternatives ? ['', ...explainAlternatives(alternatives, worst)] : []),
  ].join('\n')
}

function explainStage(stage: StageData): string[] {
  const { name, peakBytes, weightBytes, stateBytes, arenaBytes } = stage
  const program = largestProgram(stage)
  const lines = [
    `${name}: ${formatBytes(peakBytes)} = weights ${formatBytes(weightBytes)} + arena ${formatBytes(arenaBytes)} (state ${formatBytes(stateBytes)})`,
  ]
  if (!program || program.peak.op < 0) return lines
  const { step, op } = program.peak
  const gap = program.bytes - program.lowerBound
  const packing =
    gap <= 0
      ? 'the arena is at its lower bound'
      : `packing adds ${formatShare(gap, program.lowerBound)}`
  lines.push(
    `  held in step ${step + 1} of ${program.steps} of ${program.name}: ${program.ops.name[op]} (${program.ops.op[op]}), ${slicingAt(program)}; ${packing}`,
    indent(
      holderTable(
        peakHolders(program, 5).map(holder => ({ stage, program, holder })),
        program.lowerBound,
      ),
    ),
  )
  return lines
}

/** How the group at the peak is sliced. */
export function slicingAt({ groups, peak }: ProgramData): string {
  const index = groups.findIndex(
    ({ start, ops, passes }) => start <= peak.step && peak.step < start + ops * passes,
  )
  const group = groups[index]
  if (!group) return 'in no group'
  const op = (peak.step - group.start) % group.ops
  const inner = group.inner.find(({ first, last }) => first <= op && op <= last)
  const parts = [
    ...(group.slices > 1 ? [`${group.slices} slices of ${group.axis}`] : []),
    ...(inner ? [`${inner.slices} inner slices of ${inner.axis}`] : []),
  ]
  return `group ${index + 1} in ${parts.join(' and ') || 'one piece'}`
}

interface Row {
  stage: StageData
  program: ProgramData
  holder: Holder
}

function largestOf(stages: readonly StageData[], most: number): Row[] {
  return stages
    .flatMap(stage =>
      stage.programs.flatMap(program =>
        largestHolders(program, most).map(holder => ({ stage, program, holder })),
      ),
    )
    .sort((a, b) => b.holder.bytes - a.holder.bytes)
    .slice(0, most)
}

/** With `whole`, each one's share of it; without, the stage it is in. */
function holderTable(rows: readonly Row[], whole?: number): string {
  return formatTable([
    ['tensor', 'kind', 'shape', 'bytes', whole === undefined ? 'stage' : 'share', 'steps'],
    ...rows.map(({ stage, holder }) => [
      holder.count > 1 ? `${holder.name} (${holder.count} parts)` : holder.name,
      labelOf(holder.kind),
      holder.shape,
      formatBytes(holder.bytes),
      whole === undefined ? stage.name : formatShare(holder.bytes, whole),
      `${holder.start + 1} to ${holder.end}`,
    ]),
  ])
}

export function labelOf(kind: string): string {
  return kinds.find(({ id }) => id === kind)?.label ?? kind
}

function explainAlternatives(alternatives: readonly Alternative[], worst: StageData): string[] {
  const { weightBytes, peakBytes } = worst
  const weights = `weights are ${formatShare(weightBytes, peakBytes)} of the peak; no budget goes below them while they are resident`
  if (alternatives.length === 0)
    return ['what would lower the peak', `  nothing that was tried: ${weights}`]
  return [
    'what would lower the peak',
    indent(
      formatTable([
        ['change', 'peak', 'stages', 'most slices', 'predicted time', 'options'],
        ...alternatives.map(({ change, peakBytes, stages, time, options }) => [
          change,
          formatBytes(peakBytes),
          stages.map(stage => `${stage.name} ${formatBytes(stage.peakBytes)}`).join(', '),
          `${Math.max(...stages.map(stage => stage.mostSlices))}`,
          `x ${time.toFixed(2)}`,
          options,
        ]),
      ]),
    ),
    `  ${weights}`,
  ]
}

function indent(text: string): string {
  return text.replace(/^/gm, '  ')
}
