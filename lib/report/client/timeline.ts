import type { StageData } from '../data.js'
import type { ProgramData } from '../program-data.js'

/** What the axis of steps measures: every step alike, by the commands it runs, or by its arithmetic. */
export type Scale = 'steps' | 'commands' | 'flops'

/** A rectangle of the arena map: alive in steps start to end - 1, at bytes offset to offset + bytes. */
export interface Block {
  name: string
  kind: string
  shape: string
  part: string
  also: string
  bytes: number
  start: number
  end: number
  offset: number
}

/** A program with what drawing needs, derived once. */
export interface Timeline {
  stage: StageData
  program: ProgramData
  steps: number
  /** Index of op and group by step. */
  ops: Int32Array
  groups: Int32Array
  /** State first, then the program's buffers. */
  blocks: Block[]
  /** Bytes alive by kind and step. */
  stacks: { kind: string; bytes: Float64Array }[]
  /** Where each step begins, by scale; one more entry: the end. */
  marks: Record<Scale, Float64Array>
}

export function timelineOf(stage: StageData, program: ProgramData, kinds: string[]): Timeline {
  const { steps, groups, ops } = program
  const opOf = new Int32Array(steps)
  const groupOf = new Int32Array(steps)
  const weights = {
    steps: new Float64Array(steps),
    commands: new Float64Array(steps),
    flops: new Float64Array(steps),
  }
  groups.forEach((group, g) => {
    for (let i = 0; i < group.ops * group.passes; i++) {
      const step = group.start + i
      const op = group.firstOp + (i % group.ops)
      opOf[step] = op
      groupOf[step] = g
      weights.steps[step] = 1
      weights.commands[step] = ops.commands[op]! / group.passes
      weights.flops[step] = ops.flops[op]! / group.passes
    }
  })
  const blocks = blocksOf(stage, program)
  return {
    stage,
    program,
    steps,
    ops: opOf,
    groups: groupOf,
    blocks,
    stacks: kinds.map(kind => ({ kind, bytes: stackOf(blocks, kind, kinds, steps) })),
    marks: {
      steps: marksOf(weights.steps),
      commands: marksOf(weights.commands),
      flops: marksOf(weights.flops),
    },
  }
}

function blocksOf(stage: StageData, { buffers, strings, steps }: ProgramData): Block[] {
  const text = (index: number) => (index < 0 ? '' : strings[index]!)
  const state = stage.state.map(({ name, shape, dtype, bytes, offset }) => ({
    name,
    kind: 'state',
    shape: `${dtype}[${shape.join(', ')}]`,
    part: '',
    also: '',
    bytes,
    start: 0,
    end: steps,
    offset,
  }))
  const own = buffers.name.map((name, i) => ({
    name: text(name),
    kind: text(buffers.kind[i]!),
    shape: text(buffers.shape[i]!),
    part: text(buffers.part[i]!),
    also: text(buffers.also[i]!),
    bytes: buffers.bytes[i]!,
    start: buffers.start[i]!,
    end: buffers.end[i]!,
    offset: buffers.offset[i]!,
  }))
  return [...state, ...own]
}

/** Kinds that the page does not know are shown as `other`, the last. */
export function kindOf(kind: string, kinds: string[]): string {
  return kinds.includes(kind) ? kind : kinds[kinds.length - 1]!
}

function stackOf(blocks: Block[], kind: string, kinds: string[], steps: number): Float64Array {
  const bytes = new Float64Array(steps + 1)
  for (const block of blocks) {
    if (kindOf(block.kind, kinds) !== kind) continue
    const size = Math.ceil(block.bytes / 64) * 64
    bytes[block.start]! += size
    bytes[block.end]! -= size
  }
  for (let step = 1; step <= steps; step++) bytes[step]! += bytes[step - 1]!
  return bytes
}

/** Prefix sums; a step without weight still takes a little, so that it can be pointed at. */
function marksOf(weights: Float64Array): Float64Array {
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  const least = Math.max(total, 1) / Math.max(weights.length, 1) / 50
  const marks = new Float64Array(weights.length + 1)
  weights.forEach((weight, step) => {
    marks[step + 1] = marks[step]! + Math.max(weight, least)
  })
  return marks
}

/** Blocks alive in a step, lowest offset first. */
export function aliveAt(timeline: Timeline, step: number): Block[] {
  return timeline.blocks
    .filter(block => block.start <= step && step < block.end)
    .sort((a, b) => a.offset - b.offset)
}

/** The step at a mark: the last one that begins at or before it. */
export function stepAt(marks: Float64Array, mark: number): number {
  let low = 0
  let high = marks.length - 2
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (marks[middle]! <= mark) low = middle
    else high = middle - 1
  }
  return Math.max(0, low)
}

/** `16 × frames, then 8 × rows`, or `whole`. */
export function slicingText(group: ProgramData['groups'][number]): string {
  const outer = group.slices > 1 ? [`${group.slices} slices of ${group.axis}`] : []
  const inner = group.inner.map(({ slices, axis }) => `${slices} inner slices of ${axis}`)
  return [...outer, ...new Set(inner)].join(', ') || 'runs whole'
}
