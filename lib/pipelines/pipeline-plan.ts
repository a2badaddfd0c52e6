import { writeFile } from 'node:fs/promises'
import { replaceFile } from '../io/atomic.js'
import { sliceCounts } from '../planner/group.js'
import { type StagePlan, secondsOf } from '../planner/plan.js'
import { encodeStage, sealDocument } from '../planner/plan-file.js'
import { formatBytes } from '../units.js'
import type { PipelineDocument } from './plan-document.js'
import type { RehashSummary } from './rehash-summary.js'

/** A stage as tables and JSON show it. */
export interface StageSummary {
  stage: string
  peakBytes: number
  /** Weights that stand in memory, and those that come with their ops, at each run anew. */
  weightBytes: number
  streamedBytes: number
  arenaBytes: number
  stateBytes: number
  /** Least arena that any offsets could reach with these slices. */
  lowerBoundBytes: number
  /** Bytes kept beside: JavaScript's copies (text states, latents, a frame), and what a GPU streams from and spills to. */
  hostBytes: number
  groups: number
  /** Groups that run in slices, and the most slices of one. */
  slicedGroups: number
  mostSlices: number
  commands: number
  runs: number
  /** Floating-point operations of all runs. */
  flops: number
  /** Predicted time of all runs, in seconds, by the cost model that the plan names. */
  seconds: number
  peakOp: string
  peakTensor: string
}

/** What a run will take, known before a weight is read. */
export class PipelinePlan {
  constructor(
    readonly stages: readonly StagePlan[],
    readonly options: Readonly<Record<string, number | string | boolean | undefined>>,
    private readonly hostBytes: Readonly<Record<string, number>>,
    readonly budget?: number,
    readonly rehash?: RehashSummary,
  ) {}

  /** The largest stage: stages run one after another and give their memory back. */
  get peakBytes(): number {
    return Math.max(...this.stages.map(stage => stage.peakBytes))
  }

  /** Predicted seconds of all runs of all stages, without loading and packing of weights. */
  get seconds(): number {
    return this.summary().reduce((sum, { seconds }) => sum + seconds, 0)
  }

  /** Where the times come from: the built-in roofline, or a table of `sluice calibrate`. */
  get cost(): string {
    return [...new Set(this.stages.map(({ cost }) => cost))].join(', ')
  }

  stage(name: string): StagePlan {
    return this.stages.find(stage => stage.name === name)!
  }

  summary(): StageSummary[] {
    return this.stages.map(stage => {
      const programs = Object.values(stage.programs)
      const largest = programs.reduce((a, b) => (b.bytes > a.bytes ? b : a))
      const counts = programs.flatMap(program =>
        program.groups.map(group => Math.max(...sliceCounts(group, program.slicings[group.id]!))),
      )
      const total = (value: (program: (typeof programs)[number]) => number) =>
        programs.reduce((sum, p) => sum + value(p), 0)
      return {
        stage: stage.name,
        peakBytes: stage.peakBytes,
        weightBytes: stage.weights.bytes,
        streamedBytes: stage.weights.streamedBytes,
        arenaBytes: stage.arenaBytes,
        stateBytes: stage.stateBytes,
        lowerBoundBytes: stage.stateBytes + largest.lowerBound,
        hostBytes: (this.hostBytes[stage.name] ?? 0) + stage.hostBytes,
        groups: counts.length,
        slicedGroups: counts.filter(count => count > 1).length,
        mostSlices: Math.max(...counts),
        commands: total(p => p.commands),
        runs: Math.max(...programs.map(p => p.runs)),
        flops: total(p => p.work.flops * p.runs),
        seconds: secondsOf(stage),
        peakOp: largest.peak.op,
        peakTensor: largest.peak.tensor,
      }
    })
  }

  /**
   * The whole plan as data, from which it runs again: a summary of each stage, its programs' ops, groups and slices, and every buffer with
   * its offset; see lib/planner/plan-file.ts.
   */
  toJSON(): PipelineDocument {
    const summaries = this.summary()
    return sealDocument({
      peakBytes: this.peakBytes,
      budget: this.budget,
      options: this.options,
      ...(this.rehash && { rehash: this.rehash }),
      cost: this.cost,
      stages: this.stages.map((stage, i) => ({ ...summaries[i]!, ...encodeStage(stage) })),
    })
  }

  /** Writes the plan, whole or not at all. @throws FileError */
  async save(path: string): Promise<void> {
    await replaceFile(path, temporary => writeFile(temporary, `${JSON.stringify(this)}\n`))
  }

  /** A table for terminals, one line a stage. */
  table(): string {
    const { rehash } = this
    const head = ['stage', 'peak', 'weights', 'arena', 'host', 'slices', 'commands', 'peak in']
    if (rehash) head.splice(4, 0, 'cache')
    const summary = this.summary()
    const streams = summary.some(({ streamedBytes }) => streamedBytes > 0)
    if (streams) head.splice(3, 0, 'streamed')
    const rows = summary.map(s => {
      const cached = rehash && s.stage === 'denoise' ? formatBytes(rehash.cacheBytes) : '-'
      return [
        s.stage,
        formatBytes(s.peakBytes),
        formatBytes(s.weightBytes),
        ...(streams ? [formatBytes(s.streamedBytes)] : []),
        formatBytes(s.arenaBytes),
        ...(rehash ? [cached] : []),
        formatBytes(s.hostBytes),
        s.mostSlices === 1 ? 'none' : `up to ${s.mostSlices}`,
        this.commandsOf(s),
        s.peakOp,
      ]
    })
    return formatTable([head, ...rows])
  }

  /** Commands of a run and how often it is, apart for the steps that rehash skips. */
  private commandsOf({ stage, commands, runs }: StageSummary): string {
    const { skipped } = this.stage(stage).programs
    if (!skipped) return `${commands} x ${runs}`
    return `${commands - skipped.commands} x ${runs} + ${skipped.commands} x ${skipped.runs}`
  }
}

/** Columns padded to their widest cell; the first row is the head. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map(row => row[column]!.length)))
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join('  ')
      .trimEnd()
  return [
    line(rows[0]!),
    widths.map(width => '-'.repeat(width)).join('  '),
    ...rows.slice(1).map(line),
  ].join('\n')
}
