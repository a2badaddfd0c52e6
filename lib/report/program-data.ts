import { type Group, type Slicing, sliceCounts } from '../planner/group.js'
import type { ProgramPlan, StagePlan } from '../planner/plan.js'
import { aligned, type Buffer } from '../planner/storage.js'
import { opSpec } from '../program/op.js'
import { wholeRegion } from '../program/region.js'
import { formatShape } from '../program/tensor.js'

/** A group on the axis of steps. */
export interface GroupData {
  /** `frames`, `rows`, …; null: runs whole. */
  axis: string | null
  extent: number
  slices: number
  /** Of those slices, how many are points in time of their own; 1: all pass in the same steps. */
  passes: number
  /** Index of its first op, and how many. */
  firstOp: number
  ops: number
  /** First step; it takes ops × passes. */
  start: number
  /** Runs of ops that are sliced once more; `first` and `last` count from the group's first op. */
  inner: { first: number; last: number; axis: string; slices: number }[]
}

/** Columns of equal length, one entry an op, in the order in which they run. */
export interface OpColumns {
  name: string[]
  op: string[]
  /** Shape of the whole output. */
  shape: string[]
  /** How often it runs in one run of the program. */
  commands: number[]
  flops: number[]
}

/** Columns of equal length, one entry a buffer. `name`, `kind`, `shape`, `part` and `also` are indices into `strings`, -1 for none. */
export interface BufferColumns {
  /** What it was planned for. */
  name: number[]
  /** `whole`, `band`, `slice`, `inner`, `scratch`, `slab`. */
  kind: number[]
  /** dtype and shape of the whole tensor. */
  shape: number[]
  /** What of the tensor a band holds. */
  part: number[]
  /** Tensors that are written over it later. */
  also: number[]
  bytes: number[]
  /** Alive in steps start to end - 1. */
  start: number[]
  end: number[]
  /** From the arena's begin. */
  offset: number[]
}

/** A planned program. A step is one op, or one op of one pass in a group of bands. */
export interface ProgramData {
  name: string
  runs: number
  /** Where its memory begins in the arena: after the stage's state. */
  base: number
  bytes: number
  /** Most bytes alive in one step. */
  lowerBound: number
  commands: number
  flops: number
  bytesMoved: number
  /** Predicted, of one run. */
  seconds: number
  steps: number
  /** First step with the most bytes alive, its op, and the buffers alive there, largest first. */
  peak: { step: number; op: number; buffers: number[] }
  groups: GroupData[]
  ops: OpColumns
  buffers: BufferColumns
  strings: string[]
  /** Bytes alive in each step, sizes rounded up to 64. */
  live: number[]
}

/** One planned program as plain data. */
export function programData(plan: ProgramPlan, stage: StagePlan): ProgramData {
  const base = aligned(stage.stateBytes)
  const groups = groupData(plan)
  const last = groups[groups.length - 1]
  const steps = last ? last.start + last.ops * last.passes : 0
  const live = liveBytes(plan.buffers, steps)
  const step = live.reduce((most, bytes, i) => (bytes > live[most]! ? i : most), 0)
  const alive = plan.buffers
    .map((_, i) => i)
    .filter(i => plan.buffers[i]!.start <= step && step < plan.buffers[i]!.end)
    .sort((a, b) => plan.buffers[b]!.bytes - plan.buffers[a]!.bytes || a - b)
  return {
    name: plan.name,
    runs: plan.runs,
    base,
    bytes: plan.bytes,
    lowerBound: plan.lowerBound,
    commands: plan.commands,
    flops: plan.work.flops,
    bytesMoved: plan.work.bytes,
    seconds: plan.work.seconds,
    steps,
    peak: { step, op: opAt(groups, step), buffers: alive },
    groups,
    ops: opColumns(plan),
    ...bufferColumns(plan, base),
    live,
  }
}

/** Index of the op that runs in a step. */
export function opAt(groups: readonly GroupData[], step: number): number {
  const group = groups.find(
    ({ start, ops, passes }) => start <= step && step < start + ops * passes,
  )
  return group ? group.firstOp + ((step - group.start) % group.ops) : -1
}

function groupData({ groups, slicings }: ProgramPlan): GroupData[] {
  let firstOp = 0
  let start = 0
  return groups.map(group => {
    const slicing = slicings[group.id]!
    const passes = slicing.bands ?? 1
    const data = {
      axis: group.axis === undefined ? null : axisName(group, group.axis),
      extent: group.extent,
      slices: slicing.bands ?? Math.ceil(group.extent / slicing.chunk),
      passes,
      firstOp,
      ops: group.nodes.length,
      start,
      inner: innerData(group, slicing),
    }
    firstOp += data.ops
    start += data.ops * passes
    return data
  })
}

function innerData(group: Group, slicing: Slicing): GroupData['inner'] {
  return group.inner.flatMap(({ first, last, axis, extent }, i) => {
    const slices = Math.ceil(extent / (slicing.inner[i] ?? extent))
    return slices > 1 ? [{ first, last, axis: axisName(group, axis), slices }] : []
  })
}

/** Features are [frame, row, column, channel], sequences [token, channel]. */
function axisName(group: Group, axis: number): string {
  const names = group.nodes[0]!.output.shape.length < 3 ? sequenceAxes : featureAxes
  return names[axis] ?? `axis ${axis}`
}

const featureAxes = ['frames', 'rows', 'columns', 'channels']
const sequenceAxes = ['tokens', 'channels']

function opColumns({ groups, slicings }: ProgramPlan): OpColumns {
  const nodes = groups.flatMap(group => group.nodes)
  return {
    name: nodes.map(node => node.name),
    op: nodes.map(node => node.op),
    shape: nodes.map(({ output }) => `${output.dtype}${formatShape(output.shape)}`),
    commands: groups.flatMap(group => sliceCounts(group, slicings[group.id]!)),
    flops: nodes.map(
      node => opSpec(node.op).cost(node, node.output, wholeRegion(node.output.shape)).flops,
    ),
  }
}

function bufferColumns(
  { buffers, offsets }: ProgramPlan,
  base: number,
): Pick<ProgramData, 'buffers' | 'strings'> {
  const strings: string[] = []
  const known = new Map<string, number>()
  const index = (text: string | undefined): number => {
    if (text === undefined) return -1
    const at = known.get(text)
    if (at !== undefined) return at
    known.set(text, strings.length)
    return strings.push(text) - 1
  }
  const columns: BufferColumns = {
    name: buffers.map(({ name }) => index(name)),
    kind: buffers.map(({ kind }) => index(kind)),
    shape: buffers.map(({ tensors: [first] }) =>
      index(first && `${first.dtype}${formatShape(first.shape)}`),
    ),
    part: buffers.map(buffer => index(partOf(buffer))),
    also: buffers.map(({ tensors }) =>
      index(tensors.length > 1 ? namesOf(tensors.slice(1)) : undefined),
    ),
    bytes: buffers.map(({ bytes }) => bytes),
    start: buffers.map(({ start }) => start),
    end: buffers.map(({ end }) => end),
    offset: offsets.map(offset => base + offset),
  }
  return { buffers: columns, strings }
}

function partOf({ band, slice, tensors }: Buffer): string | undefined {
  if (band) {
    const names = (tensors[0]?.shape.length ?? 4) < 3 ? sequenceAxes : featureAxes
    return `${names[band.axis] ?? `axis ${band.axis}`} ${band.range[0]} to ${band.range[1] - 1}`
  }
  return slice === undefined ? undefined : `slice ${slice + 1}`
}

/** The first few names; in place, a feature may pass through dozens. */
function namesOf(tensors: readonly { name: string }[]): string {
  const names = tensors.slice(0, 4).map(({ name }) => name)
  const more = tensors.length - names.length
  return names.join(', ') + (more > 0 ? ` and ${more} more` : '')
}

function liveBytes(buffers: readonly Buffer[], steps: number): number[] {
  const change = new Array<number>(steps + 1).fill(0)
  for (const { bytes, start, end } of buffers) {
    change[start]! += aligned(bytes)
    change[end]! -= aligned(bytes)
  }
  let live = 0
  return change.slice(0, steps).map(bytes => (live += bytes))
}
