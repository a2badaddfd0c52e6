import { formatBytes } from '../../units.js'
import { aliveAt, type Block, slicingText, type Timeline } from './timeline.js'

const whole = (value: number): string => value.toLocaleString('en-US')

/** Name, kind, shape, bytes, place, lifetime, group. */
export function describeBlock(
  block: Block,
  timeline: Timeline,
  labels: Record<string, string>,
): string[] {
  const { program, groups, steps } = timeline
  const [first, last] = [groups[block.start]!, groups[Math.max(block.start, block.end - 1)]!]
  const where =
    first === last
      ? `in group ${first + 1} of ${program.groups.length}, ${slicingText(program.groups[first]!)}`
      : `from group ${first + 1} to group ${last + 1} of ${program.groups.length}`
  return [
    block.name,
    [labels[block.kind] ?? block.kind, block.part].filter(text => text).join(', '),
    ...(block.shape ? [`of ${block.shape}`] : []),
    `${whole(block.bytes)} bytes (${formatBytes(block.bytes)})`,
    `offset ${whole(block.offset)} to ${whole(block.offset + block.bytes)}`,
    `alive in steps ${block.start + 1} to ${block.end} of ${steps}`,
    block.kind === 'state' ? 'from the first run to the last' : where,
    ...(block.also ? [`then ${block.also}, in place`] : []),
  ]
}

export function describeStep(timeline: Timeline, step: number, pane: string): string[] | undefined {
  if (step < 0) return undefined
  const { program, ops, groups, stage } = timeline
  const [op, g] = [ops[step]!, groups[step]!]
  const group = program.groups[g]!
  if (pane === 'groups') {
    const name = (i: number) => program.ops.name[group.firstOp + i]!
    return [
      `group ${g + 1} of ${program.groups.length}`,
      slicingText(group),
      `${group.ops} operators`,
      name(0),
      ...(group.ops > 2 ? ['…'] : []),
      ...(group.ops > 1 ? [name(group.ops - 1)] : []),
    ]
  }
  const alive = aliveAt(timeline, step).filter(({ kind }) => kind !== 'state')
  alive.sort((a, b) => b.bytes - a.bytes)
  return [
    `${program.ops.name[op]}`,
    `${program.ops.op[op]} → ${program.ops.shape[op]}`,
    `${formatBytes(program.live[step]!)} alive, with state ${formatBytes(program.live[step]! + stage.stateBytes)}`,
    ...alive.slice(0, 3).map(({ name, bytes }) => `${formatBytes(bytes)}  ${name}`),
    ...(alive.length > 3 ? [`and ${alive.length - 3} more`] : []),
  ]
}

/** One line: step, op, group, bytes alive. */
export function sayStep(timeline: Timeline, step: number): string {
  const { program, stage, steps, ops, groups } = timeline
  const [op, group] = [ops[step]!, groups[step]!]
  const alive = aliveAt(timeline, step).length - stage.state.length
  const commands = program.ops.commands[op]!
  const parts = [
    `step ${step + 1} of ${steps}: ${program.ops.name[op]} (${program.ops.op[op]})`,
    `group ${group + 1}, ${slicingText(program.groups[group]!)}`,
    `${whole(commands)} ${commands === 1 ? 'command' : 'commands'}`,
    `${formatBytes(program.live[step]!)} alive in ${alive} buffers`,
  ]
  return parts.join(' · ')
}
