import type { Node } from '../program/graph.js'
import { opSpec } from '../program/op.js'
import { type Region, regionShape, wholeRegion } from '../program/region.js'
import { dtypeBytes, elementCount, type Tensor, tensorBytes } from '../program/tensor.js'
import {
  type AxisRange,
  bandRange,
  type Group,
  restrict,
  type Slicing,
  slicedNodes,
} from './group.js'
import type { Buffer, SharedTensor, Storage } from './storage.js'

/**
 * Bands: a whole tensor that only groups along one axis touch need not live as a whole. Where those groups run part by part, each part
 * in its own time, the band of a tensor that a part writes lives until the last part that reads it, and its memory goes to the next
 * tensor's bands. Of a residual block at full resolution, input and outputs then never stand side by side.
 */

/** Number of bands of a tensor's storage; undefined: it is one piece. */
export function bandsOf(entry: SharedTensor, slicings: readonly Slicing[]): number | undefined {
  if (entry.home.group || entry.tensors[0]!.shape.length !== 4) return undefined
  let common: number | undefined
  let first = true
  for (const group of entry.groups) {
    const { bands } = slicings[group]!
    if (!first && bands !== common) return undefined
    common = bands
    first = false
  }
  return common
}

/**
 * The bands of a tensor that a region touches. Band i of b over e rows is [floor(i e / b), floor((i + 1) e / b)): it begins before row
 * `stop` where i < stop b / e, and ends behind row `start` where i + 1 >= (start + 1) b / e.
 */
export function bandsTouched(
  tensor: Tensor,
  axis: number,
  bands: number,
  region: Region,
): AxisRange[] {
  const extent = tensor.shape[axis]!
  const [start, stop] = region[axis]!
  const first = Math.max(0, Math.ceil(((start + 1) * bands) / extent) - 1)
  const last = Math.min(bands, Math.ceil((stop * bands) / extent)) - 1
  const touched: AxisRange[] = []
  for (let i = first; i <= last; i++) touched.push({ axis, range: bandRange(extent, bands, i) })
  return touched
}

function bytesOf(tensor: Tensor, region: Region): number {
  return elementCount(regionShape(region)) * dtypeBytes[tensor.dtype]
}

/** A tensor's slice, or its band that begins at a row, as a key. */
export function partKey({ id }: Tensor, part: number): number {
  return id * mostParts + part
}

/** More slices or rows than a tensor has. */
const mostParts = 2 ** 24

/** A buffer, as far as a group has used it. */
type Share = Omit<Buffer, 'id' | 'end'> & { end: number }

/** The buffers that a group of bands touches, in times from its first one on; of whole tensors and bands only the group's own share. */
export function bandedBuffers(
  storage: Storage,
  slicings: readonly Slicing[],
  group: Group,
): Omit<Buffer, 'id'>[] {
  const slicing = slicings[group.id]!
  const axis = group.axis!
  const found: Share[] = []
  const lasting = new Map<number, Share>()
  const streamed = new Map<number, Pick<Buffer, 'tensors' | 'name' | 'bytes'>>()
  const add = (share: Omit<Share, 'start' | 'end'>, at: number): Share => {
    const added = { ...share, start: at, end: at + 1 }
    found.push(added)
    return added
  }
  /** Of one owner: a sub-feature of a slice, a band, or all of it. */
  const alive = (
    owner: Tensor,
    part: number,
    at: number,
    make: () => Omit<Share, 'start' | 'end'>,
  ) => {
    const key = partKey(owner, part)
    const known = lasting.get(key)
    if (known) known.end = at + 1
    else lasting.set(key, add(make(), at))
  }
  const counts = new Map<SharedTensor, number | undefined>()
  const countOf = (entry: SharedTensor): number | undefined => {
    if (!counts.has(entry)) counts.set(entry, bandsOf(entry, slicings))
    return counts.get(entry)
  }
  const { length } = group.nodes
  for (const { node, index, outer, ranges, slice } of slicedNodes(group, slicing)) {
    const at = slice * length + index
    const wanted = restrict(node.output, ranges)
    const use = (tensor: Tensor, region: Region, input?: number) => {
      const entry = storage.owner.get(tensor)
      if (!entry) return
      const owner = entry.tensors[0]!
      const common = { tensors: entry.tensors, name: owner.name }
      const bands = countOf(entry)
      if (entry.home.group) {
        alive(owner, slice, at, () => ({
          ...common,
          kind: 'slice',
          slice,
          bytes: bytesOf(owner, restrict(owner, ranges)),
          ...(ranges !== outer && { band: ranges[0]! }),
        }))
      } else if (bands === undefined) {
        alive(owner, 0, at, () => ({
          ...common,
          kind: 'whole',
          bytes: bytesOf(owner, wholeRegion(owner.shape)),
        }))
      } else {
        const touched = bandsTouched(tensor, axis, bands, region)
        for (const band of touched) {
          alive(owner, band.range[0], at, () => ({
            ...common,
            kind: 'band',
            band,
            bytes: bytesOf(owner, restrict(owner, [band])),
          }))
        }
        if (touched.length > 1) {
          const slab = {
            kind: 'slab' as const,
            tensors: [],
            name: `rows of ${tensor.name}`,
            node: group.nodes[index]!,
            input,
            slice,
            bytes: bytesOf(tensor, region),
          }
          add(slab, at)
        }
      }
    }
    opSpec(node.op)
      .regions(node, node.output, wanted)
      .forEach((region, input) => use(node.inputs[input]!.tensor, region, input))
    use(node.output, wanted)
    const scratch = scratchOf(node, wanted, storage)
    for (const { tensor } of storage.streaming?.of(node) ?? [])
      streamed.set(tensor.id, { tensors: [tensor], name: tensor.name, bytes: tensorBytes(tensor) })
    if (scratch > 0) {
      const name = `scratch of ${node.name}`
      const owner = group.nodes[index]!
      add({ tensors: [], name, kind: 'scratch', node: owner, slice, bytes: scratch }, at)
    }
  }
  // Weights serve every band.
  const all = { kind: 'whole', start: 0, end: slicing.bands! * length } as const
  return [...found, ...[...streamed.values()].map(part => ({ ...part, ...all }))]
}

function scratchOf(node: Node, wanted: Region, storage: Storage): number {
  const { target } = storage
  return (
    (opSpec(node.op).scratch?.(node, node.output, wanted, target).bytesPerThread ?? 0) *
    target.threads
  )
}
