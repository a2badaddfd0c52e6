import { type AxisRange, restrict, runningNodes, slicedNodes } from '../../lib/planner/group.js'
import type { ProgramPlan } from '../../lib/planner/plan.js'
import type { Buffer } from '../../lib/planner/storage.js'
import type { Streaming } from '../../lib/planner/streaming.js'
import type { Node } from '../../lib/program/graph.js'
import { opSpec } from '../../lib/program/op.js'
import type { Region } from '../../lib/program/region.js'
import { dtypeBytes, elementCount, type Tensor } from '../../lib/program/tensor.js'

/**
 * Runs a plan on a memory of names instead of numbers: each pair of bytes remembers which element of which tensor was written there
 * last. Written apart from the planner's own notions of lifetime and overlap; it knows only what commands read and write.
 * Streamed weights come where their buffers begin, and must be whole each time that their op runs.
 * Returns what is wrong, in words; empty when the plan is sound:
 * every read finds the element that it wants, every element is computed exactly once (copies that bands make again aside), scratch
 * touches nothing that is needed, and no command writes where it still reads, except over the very element that it replaces.
 */
export function checkPlan(plan: ProgramPlan, streaming?: Streaming): string[] {
  const faults: string[] = []
  const memory = new Float64Array(Math.ceil(plan.bytes / 2)).fill(-1)
  const bound = new Set<Tensor>([
    ...Object.values(plan.program.inputs),
    ...Object.values(plan.program.outputs),
    ...plan.program.nodes.flatMap(({ output }) => (output.host ? [output] : [])),
  ])
  const home = new Map<Tensor, { offset: number; buffer: Buffer }[]>()
  const scratch = new Map<Node, { offset: number; buffer: Buffer }[]>()
  const append = <K>(
    map: Map<K, { offset: number; buffer: Buffer }[]>,
    key: K,
    offset: number,
    buffer: Buffer,
  ) => map.set(key, [...(map.get(key) ?? []), { offset, buffer }])
  plan.buffers.forEach((buffer, i) => {
    const offset = plan.offsets[i]!
    if (offset + buffer.bytes > plan.bytes)
      faults.push(`${buffer.name} ends at ${offset + buffer.bytes} beyond ${plan.bytes}`)
    for (const tensor of buffer.tensors) append(home, tensor, offset, buffer)
    if (buffer.node) append(scratch, buffer.node, offset, buffer)
  })
  const arrived = new Set<object>()
  const names = new Map<Tensor, number>()
  let nextName = 0
  let step = 0
  const written = new Map<Tensor, Uint8Array>()
  const nameOf = (tensor: Tensor): number => {
    if (!names.has(tensor)) {
      names.set(tensor, nextName)
      nextName += elementCount(tensor.shape)
    }
    return names.get(tensor)!
  }

  const weights = plan.groups
    .flatMap(group => runningNodes(group, plan.slicings[group.id]!))
    .flatMap(node => streaming?.of(node) ?? [])
  const arriving = weights.map(({ tensor }, i) => {
    const [place] = home.get(tensor) ?? []
    if (!place) faults.push(`${tensor.name} is kept nowhere`)
    return { place, name: 1e12 + i, bytes: weights[i]!.weight.bytes }
  })
  let time = 0
  for (const group of plan.groups) {
    const { bands } = plan.slicings[group.id]!
    for (const sliced of slicedNodes(group, plan.slicings[group.id]!)) {
      const { node, index: op, outer, ranges, slice } = sliced
      const now = time + op
      for (const weight of arriving) {
        const { place, name, bytes } = weight
        if (!place || place.buffer.start > now || arrived.has(weight)) continue
        arrived.add(weight)
        if (place.buffer.bytes < bytes) faults.push(`a streamed weight of ${bytes} bytes has less`)
        memory.fill(name, place.offset / 2, (place.offset + bytes) / 2)
      }
      weights.forEach(({ node: reader, weight }, i) => {
        const { place, name } = arriving[i]!
        if (reader.output !== node.output || !place) return
        const [from, to] = [place.offset / 2, (place.offset + weight.bytes) / 2]
        if (memory.subarray(from, to).some(cell => cell !== name))
          faults.push(`${node.name}: its streamed weight ${weight.tensor.name} was overwritten`)
      })
      /** Memory cells of a region's elements: [element index, first cell, cells]. */
      const cells = function* (
        tensor: Tensor,
        region: Region,
      ): Generator<[number, number, number]> {
        const places = (home.get(tensor) ?? []).filter(
          ({ buffer }) => buffer.slice === undefined || buffer.slice === slice,
        )
        const width = dtypeBytes[tensor.dtype] / 2
        const stored = places.map(({ buffer }) => {
          const held: readonly AxisRange[] = buffer.band
            ? [buffer.band]
            : buffer.kind === 'inner'
              ? ranges
              : buffer.kind === 'slice'
                ? outer
                : []
          return restrict(tensor, held)
        })
        for (const index of indices(region)) {
          const at = stored.findIndex(part =>
            index.every((value, axis) => part[axis]![0] <= value && value < part[axis]![1]),
          )
          if (at < 0) {
            faults.push(`${tensor.name}: element ${index} is kept nowhere`)
            continue
          }
          let element = 0
          let position = 0
          index.forEach((value, axis) => {
            element = element * tensor.shape[axis]! + value
            position =
              position * (stored[at]![axis]![1] - stored[at]![axis]![0]) +
              (value - stored[at]![axis]![0])
          })
          yield [element, places[at]!.offset / 2 + position * width, width]
        }
      }
      const spec = opSpec(node.op)
      const wanted = restrict(node.output, ranges)
      const reads = spec.regions(node, node.output, wanted)
      const scratchName = -2 - step++
      for (const { offset, buffer } of scratch.get(group.nodes[op]!) ?? []) {
        if (buffer.slice === undefined || buffer.slice === slice)
          memory.fill(scratchName, offset / 2, (offset + buffer.bytes) / 2)
      }
      const reading = new Map<number, { tensor: Tensor; element: number; replaced: boolean }>()
      node.inputs.forEach(({ tensor, role }, i) => {
        if (tensor.kind === 'weight' || bound.has(tensor)) return
        const name = nameOf(tensor)
        let bad = 0
        for (const [element, cell, width] of cells(tensor, reads[i]!)) {
          for (let c = cell; c < cell + width; c++) {
            if (memory[c] !== name + element) bad++
            reading.set(c, { tensor, element, replaced: spec.inPlace?.includes(role) ?? false })
          }
        }
        if (bad)
          faults.push(
            `${node.name} (${node.op}) ${bad} cells of ${role} ${tensor.name} hold something else`,
          )
      })
      const counts = written.get(node.output) ?? new Uint8Array(elementCount(node.output.shape))
      written.set(node.output, counts)
      if (bound.has(node.output)) {
        for (const index of indices(wanted))
          counts[index.reduce((sum, at, axis) => sum * node.output.shape[axis]! + at, 0)]!++
        continue
      }
      const name = nameOf(node.output)
      for (const [element, cell, width] of cells(node.output, wanted)) {
        counts[element]!++
        for (let c = cell; c < cell + width; c++) {
          const reader = reading.get(c)
          if (reader && !(reader.replaced && reader.element === element))
            faults.push(`${node.name}: writes over ${reader.tensor.name}, which it still reads`)
          if (memory[c] === scratchName) faults.push(`${node.name}: its output lies in its scratch`)
          memory[c] = name + element
        }
      }
    }
    time += group.nodes.length * (bands ?? 1)
  }
  // Of what is made in some bands alone, a copy makes the rest; of other copies only what is read must be there.
  const copies = new Map<Tensor, Tensor>()
  for (const { nodes, again } of plan.groups)
    for (const { index, of } of again ?? []) copies.set(nodes[index]!.output, of)
  for (const { nodes, once } of plan.groups) {
    for (const index of once ?? []) {
      const { output } = nodes[index]!
      const counts = written.get(output) ?? new Uint8Array(elementCount(output.shape))
      written.set(output, counts)
      for (const [copy, of] of copies)
        if (of === output) written.get(copy)?.forEach((count, i) => (counts[i]! += count))
    }
  }
  for (const [tensor, counts] of written) {
    if (copies.has(tensor)) continue
    const wrong = counts.findIndex(count => count !== 1)
    if (wrong >= 0) faults.push(`${tensor.name}: element ${wrong} computed ${counts[wrong]} times`)
  }
  return [...new Set(faults)]
}

function* indices(region: Region): Generator<number[]> {
  const index = region.map(([start]) => start)
  if (region.some(([start, stop]) => stop <= start)) return
  for (;;) {
    yield index
    let axis = index.length - 1
    for (; axis >= 0; axis--) {
      if (++index[axis]! < region[axis]![1]) break
      index[axis] = region[axis]![0]
    }
    if (axis < 0) return
  }
}
