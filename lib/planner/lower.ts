import type { Node } from '../program/graph.js'
import { CommandWriter, dtypeCode, slotArena, slotHost, type View } from './commands.js'
import { emit } from './emit.js'
import { runningNodes, slicedNodes } from './group.js'
import { boundTensors, type Lowerable, Places } from './places.js'
import { SlicedOp } from './sliced-op.js'
import type { StreamedOperand } from './streaming.js'
import type { WeightLayout } from './weights.js'

export interface Lowered {
  readonly words: Int32Array
  readonly commands: number
  /** Names of the program's inputs and outputs in the order of the bound slots. */
  readonly bound: readonly string[]
  /** First word of each command. */
  readonly starts: readonly number[]
}

/**
 * Lowers a planned program to its command stream: for each group, slice and op one command with every offset resolved, and what brings
 * streamed weights before them.
 * @param base byte offset of the program's memory in the arena (after the stage's state)
 */
export function lower(plan: Lowerable, layout: WeightLayout, base: number): Lowered {
  const writer = new CommandWriter()
  const places = new Places(plan, layout, base)
  const arrivals = new Arrivals(writer, places)
  let time = 0
  for (const group of plan.groups) {
    const slicing = plan.slicings[group.id]!
    const begun = new Set<number>()
    for (const sliced of slicedNodes(group, slicing)) {
      if (!begun.has(sliced.index)) {
        begun.add(sliced.index)
        arrivals.before(sliced.node, time + sliced.index)
      }
      emit(writer, new SlicedOp(sliced, places))
    }
    time += group.nodes.length * (slicing.bands ?? 1)
  }
  const words = writer.finish()
  return {
    words,
    commands: writer.starts.length,
    starts: writer.starts,
    bound: boundTensors(plan.program).map(({ name }) => name),
  }
}

/** Brings streamed weights to where they lie: on a GPU as soon as their memory is free, on a CPU just before their op. */
class Arrivals {
  private readonly waiting: { readonly operand: StreamedOperand; readonly start: number }[]
  private readonly tickets = new Map<StreamedOperand, number>()

  constructor(
    private readonly writer: CommandWriter,
    private readonly places: Places,
  ) {
    const { groups, slicings } = places.plan
    this.waiting = groups
      .flatMap(group => runningNodes(group, slicings[group.id]!))
      .flatMap(node => places.streaming.of(node))
      .map(operand => ({ operand, start: places.streamed(operand).start }))
      .sort((a, b) => a.start - b.start)
  }

  /** What must be said before an op runs for the first time, at its time. */
  before(node: Node, time: number): void {
    while (this.waiting[0] && this.waiting[0].start <= time)
      this.bring(this.waiting.shift()!.operand)
    const own = this.places.streaming.of(node).map(operand => this.tickets.get(operand)!)
    if (own.length > 0 && this.places.streaming.lead > 0)
      this.writer.join(node.id, 0, Math.max(...own))
  }

  private bring(operand: StreamedOperand): void {
    const { node, weight } = operand
    const ticket = this.tickets.size + 1
    this.tickets.set(operand, ticket)
    const halves = weight.bytes / 2
    const flat = (slot: number, offset: number): View => {
      return { slot, dtype: dtypeCode.f16, offset, strides: [0, 0, 0] }
    }
    const out = flat(slotArena, this.places.streamed(operand).offset)
    if (this.places.streaming.lead === 0) {
      this.writer.fetch(node.id, 0, { weight: weight.streamed!, halves, out })
      return
    }
    const source = flat(slotHost, weight.offset)
    this.writer.copy(node.id, 0, { ticket, extents: [1, 1, 1, halves], source, out })
  }
}
