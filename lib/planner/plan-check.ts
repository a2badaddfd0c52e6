import type { Node } from '../program/graph.js'
import { sameShape, type Tensor } from '../program/tensor.js'
import { panelWidth } from './commands.js'
import { type Group, halosOf, readsAligned, type Slicing } from './group.js'
import { Lifetimes } from './lifetimes.js'
import type { ProgramPlan } from './plan.js'
import { alignment } from './storage.js'
import type { Streaming } from './streaming.js'

/**
 * Checks a plan that came from a file, apart from how the planner makes one: groups that can be sliced so, memory for everything that is
 * read and written for as long as it is needed, and no two buffers at one place at one time.
 * @returns what is wrong first; undefined for a sound plan
 */
export function faultOf(plan: ProgramPlan, streaming: Streaming): string | undefined {
  return (
    groupFault(plan) ??
    bufferFault(plan) ??
    placeFault(plan) ??
    new Lifetimes(plan, streaming).fault()
  )
}

const isCount = (value: unknown, most: number): boolean =>
  Number.isSafeInteger(value) && (value as number) >= 1 && (value as number) <= most

/** Nodes in an order in which each tensor is written before it is read, in groups whose slices read what they have. */
function groupFault(plan: ProgramPlan): string | undefined {
  const { program, groups, slicings } = plan
  const order = groups.flatMap(({ nodes }) => nodes)
  if (order.length !== program.nodes.length || new Set(order).size !== order.length)
    return 'each op in one group'
  if (slicings.length !== groups.length) return 'a slicing for each group'
  const ready = new Set<Tensor>([...Object.values(program.inputs), ...program.weights])
  for (const [id, group] of groups.entries()) {
    const fault =
      group.id === id
        ? (slicingFault(group, slicings[id]!) ?? copyFault(plan, group, ready))
        : 'its own number'
    if (fault) return `group ${id} with ${fault}`
    const inside = new Set<Tensor>()
    const looped = slicings[id]!.bands !== undefined || slicings[id]!.chunk < group.extent
    for (const [index, node] of group.nodes.entries()) {
      const inner = group.inner.findIndex(({ first, last }) => first <= index && index <= last)
      const innerTensors = innerOutputs(group, inner, index)
      for (const [input, { tensor }] of node.inputs.entries()) {
        if (!ready.has(tensor)) return `${node.name} after what it reads, ${tensor.name}`
        const aligned = !inside.has(tensor) || readsAligned(node, input, group.axis!)
        if (looped && !aligned && !isHalo(plan, group, tensor))
          return `${node.name} to read only its own slice of ${tensor.name}`
        const run = group.inner[inner]
        if (run && innerTensors.has(tensor) && !readsAligned(node, input, run.axis, run.granule))
          return `${node.name} to read only its own inner slice of ${tensor.name}`
      }
      ready.add(node.output)
      inside.add(node.output)
    }
  }
  return undefined
}

/** Whether a band makes a tensor anew with the rows that others read around it: one that nothing else reads, from what lies outside. */
function isHalo(plan: ProgramPlan, group: Group, tensor: Tensor): boolean {
  const index = group.nodes.findIndex(({ output }) => output === tensor)
  const made = new Set(group.nodes.map(({ output }) => output))
  const own = group.nodes[index]!.inputs.some(input => made.has(input.tensor))
  return (
    plan.slicings[group.id]!.bands !== undefined &&
    group.halos?.includes(index) === true &&
    !(readOutside(plan, group, tensor) || own)
  )
}

/** Whether a tensor is read by more than the ops of a group. */
function readOutside({ program }: ProgramPlan, group: Group | undefined, tensor: Tensor): boolean {
  const elsewhere = program.nodes.some(
    node => !group?.nodes.includes(node) && node.inputs.some(input => input.tensor === tensor),
  )
  return elsewhere || Object.values(program.outputs).includes(tensor)
}

/**
 * Copies are read in their group alone, and what they are copies of is there before it, so that bands can be kept: whole, or where only
 * copies are read of it, in just these bands.
 */
function copyFault(
  plan: ProgramPlan,
  group: Group,
  ready: ReadonlySet<Tensor>,
): string | undefined {
  const { nodes, again = [], once = [], halos = [] } = group
  const { kept, bands } = plan.slicings[group.id]!
  const listed = ({ again: made = [], once: some = [] }: Group) =>
    Array.isArray(made) && Array.isArray(some)
  if (!plan.groups.every(listed)) return 'lists of what it makes again'
  const indices = [...again.map(({ index }) => index), ...once]
  const own = (index: unknown) => Number.isInteger(index) && nodes[index as number]
  if (new Set(indices).size !== indices.length || !indices.every(own))
    return 'numbers of its own ops as made again'
  if (kept !== undefined) {
    const count = kept === 0 || isCount(kept, bands ?? 0)
    if (!count || again.length + once.length === 0) return `0 to ${bands ?? 0} bands kept`
  }
  const copies = new Set(
    plan.groups.flatMap(other => other.again?.map(copy => other.nodes[copy.index]?.output) ?? []),
  )
  for (const { index, of } of again) {
    const { output, name } = nodes[index]!
    if (copies.has(of)) return `${name} as a copy of what is none`
    if (!ready.has(of) || of.dtype !== output.dtype || !sameShape(of.shape, output.shape))
      return `what ${name} makes again, made before`
    if (readOutside(plan, group, output)) return `${name} read in it alone`
    const first = plan.groups.find(({ nodes: made, once: some = [] }) =>
      some.some(at => made[at]!.output === of),
    )
    if (!first) continue
    const there = plan.slicings[first.id]!
    const same = there.bands === bands && (there.kept ?? 0) === (kept ?? 0)
    if (there.bands !== undefined && (kept ?? 0) > 0 && !(same && first.extent === group.extent))
      return `the bands of ${of.name}`
    if (halos.includes(index)) return `${name} read in its own rows alone`
  }
  for (const index of once)
    if (readOutside(plan, undefined, nodes[index]!.output))
      return `copies of ${nodes[index]!.output.name} read instead of it`
  return undefined
}

/** Tensors that an inner group has written before one of its ops. */
function innerOutputs(group: Group, inner: number, before: number): Set<Tensor> {
  const found = new Set<Tensor>()
  if (inner >= 0)
    for (let i = group.inner[inner]!.first; i < before; i++) found.add(group.nodes[i]!.output)
  return found
}

function slicingFault(group: Group, slicing: Slicing): string | undefined {
  const { axis, extent, nodes, inner } = group
  const along = (node: Node, a: number, length: number) => node.output.shape[a] === length
  if (axis === undefined ? extent !== 1 : !nodes.every(node => along(node, axis, extent)))
    return 'the extent of its ops'
  if (!isCount(slicing.chunk, extent)) return `slices of 1 to ${extent}`
  if (slicing.bands !== undefined && !(isCount(slicing.bands, extent) && axis === 1))
    return `1 to ${extent} bands of rows`
  if (group.halos !== undefined) {
    const halos = axis === 1 ? halosOf(nodes, axis) : []
    if (slicing.bands === undefined && slicing.chunk < extent)
      return 'bands around what it makes again'
    if (!Array.isArray(group.halos) || `${group.halos}` !== `${halos}`)
      return `rows around ops ${halos}`
  }
  if (!Array.isArray(slicing.inner) || slicing.inner.length !== inner.length)
    return 'slices for each inner group'
  let end = 0
  for (const [i, { first, last, axis: own, extent: length, granule }] of inner.entries()) {
    const inOrder = Number.isInteger(first) && first >= end && last >= first && last < nodes.length
    if (!inOrder || !Number.isInteger(last)) return 'inner groups one after another'
    if (own === axis || !nodes.slice(first, last + 1).every(node => along(node, own, length)))
      return 'the extent of its inner ops'
    const whole = own === 3 ? isCount(granule, length) && granule % panelWidth === 0 : granule === 1
    if (!whole || length % granule !== 0) return 'whole panels of weights in an inner slice'
    if (!isCount(slicing.inner[i], length) || slicing.inner[i]! % granule !== 0)
      return `inner slices of ${granule} to ${length}`
    end = last + 1
  }
  return undefined
}

/**
 * Buffers that say of themselves what their kind does and no more, so that all who look one up find the same: tensors have neither a node nor
 * an operand; scratch and slabs are their node's own, one for each slice of a group of bands.
 */
function bufferFault({ buffers, groups, slicings }: ProgramPlan): string | undefined {
  const inBands = new Map<Node | Tensor, boolean>()
  for (const { id, nodes } of groups)
    for (const node of nodes)
      for (const key of [node, node.output]) inBands.set(key, slicings[id]!.bands !== undefined)
  const owned = new Set<string>()
  for (const { name, kind, tensors, band, node, input, slice, tied } of buffers) {
    const fields = { band, node, input, slice, tied }
    const only = (...names: (keyof typeof fields)[]) =>
      Object.entries(fields).every(
        ([field, value]) => value === undefined || names.includes(field as keyof typeof fields),
      )
    const rows =
      band === undefined ||
      (band.axis === 1 &&
        band.range.length === 2 &&
        band.range.every(row => Number.isSafeInteger(row)) &&
        band.range[0] >= 0 &&
        band.range[0] < band.range[1] &&
        tensors.every(({ shape }) => band.range[1] <= shape[1]!))
    const counted = [input, slice].every(
      value => value === undefined || (Number.isSafeInteger(value) && value >= 0),
    )
    const held = {
      whole: () => only('tied'),
      band: () => only('band') && band !== undefined,
      slice: () =>
        only(...(slice === undefined ? [] : (['band', 'slice'] as const))) &&
        (slice === undefined || tensors.every(tensor => inBands.get(tensor))),
      inner: () => only(),
      scratch: () => only('node', 'slice') && (slice !== undefined) === inBands.get(node!),
      slab: () => only('node', 'slice', 'input') && slice !== undefined && input !== undefined,
    }[kind]
    const ofNode = kind === 'scratch' || kind === 'slab'
    if (typeof name !== 'string' || !held?.() || !rows || !counted)
      return `${name} to be what a buffer of its kind is`
    if (ofNode !== (tensors.length === 0) || (ofNode && !inBands.has(node!)))
      return `${name} for a tensor or an op`
    const keys = ofNode
      ? [`op ${node!.id} ${input} ${slice}`]
      : tensors.filter(() => kind === 'slice').map(({ id }) => `tensor ${id} ${slice}`)
    if (keys.some(key => owned.has(key))) return `${name} once`
    for (const key of keys) owned.add(key)
  }
  return undefined
}

/** Aligned offsets inside the program's bytes, and no two buffers that are alive together at one place. */
function placeFault({ buffers, offsets, bytes }: ProgramPlan): string | undefined {
  if (offsets.length !== buffers.length) return 'an offset for each buffer'
  for (const [i, { name, bytes: size, start, end }] of buffers.entries()) {
    const offset = offsets[i]!
    const whole = [offset, size, start, end].every(value => Number.isSafeInteger(value))
    if (!whole || size < 0 || start < 0 || end <= start) return `${name} with bytes and a lifetime`
    if (offset < 0 || offset % alignment !== 0) return `${name} at a multiple of ${alignment}`
    if (offset + size > bytes) return `${name} to end within ${bytes} bytes`
  }
  const byStart = buffers.map((_, i) => i).sort((a, b) => buffers[a]!.start - buffers[b]!.start)
  let alive: number[] = []
  for (const index of byStart) {
    const { start, bytes: size, name } = buffers[index]!
    const offset = offsets[index]!
    alive = alive.filter(other => buffers[other]!.end > start)
    const clash = alive.find(
      other => offsets[other]! < offset + size && offset < offsets[other]! + buffers[other]!.bytes,
    )
    if (clash !== undefined && size > 0)
      return `${name} and ${buffers[clash]!.name} apart, which are alive together`
    alive.push(index)
  }
  return undefined
}

/** State tensors of a stage: aligned, inside its bytes, and apart. */
export function stateFault(
  state: Readonly<Record<string, { offset: number; bytes: number }>>,
  stateBytes: number,
): string | undefined {
  const entries = Object.entries(state).sort(([, a], [, b]) => a.offset - b.offset)
  let end = 0
  for (const [name, { offset, bytes }] of entries) {
    if (!Number.isSafeInteger(offset) || offset < end || offset % alignment !== 0)
      return `state ${name} at a multiple of ${alignment}, apart from the others`
    end = offset + bytes
    if (end > stateBytes) return `state ${name} within ${stateBytes} bytes`
  }
  return undefined
}
