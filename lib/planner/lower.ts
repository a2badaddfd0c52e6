import { CommandWriter } from './commands.js'
import { emit } from './emit.js'
import { slicedNodes } from './group.js'
import { boundTensors, type Lowerable, Places } from './places.js'
import { SlicedOp } from './sliced-op.js'
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
 * Lowers a planned program to its command stream: for each group, slice and op one command with every offset resolved.
 * @param base byte offset of the program's memory in the arena (after the stage's state)
 */
export function lower(plan: Lowerable, layout: WeightLayout, base: number): Lowered {
  const writer = new CommandWriter()
  const places = new Places(plan, layout, base)
  for (const group of plan.groups) {
    for (const sliced of slicedNodes(group, plan.slicings[group.id]!))
      emit(writer, new SlicedOp(sliced, places))
  }
  const words = writer.finish()
  return {
    words,
    commands: writer.starts.length,
    starts: writer.starts,
    bound: boundTensors(plan.program).map(({ name }) => name),
  }
}
