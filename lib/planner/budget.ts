import { type Packing, type Placeable, packBuffers } from './arena.js'
import { type Group, type Slicing, unsliced } from './group.js'
import { GroupMemory, ScratchTable } from './group-memory.js'
import { allBuffers, type Buffer, peakOf, type Storage } from './storage.js'

/** A choice for a group: its slicing, and the most bytes alive while it runs. */
export interface Candidate {
  slicing: Slicing
  bytes: number
}

/** A slicing for every group with the arena that holds them. */
export interface Fit {
  slicings: Slicing[]
  buffers: Buffer[]
  packing: Packing
  /** Most bytes alive at one step: no arena can be smaller. */
  lowerBound: number
  /** Time of the peak. */
  time: number
}

/**
 * Slicings from whole to finest; only those that need less memory than all before. Slices are halved first; when one remains of the
 * group's axis, the inner group at the peak is halved.
 */
function candidates(memory: GroupMemory): Candidate[] {
  const { group } = memory
  const list: Candidate[] = []
  const consider = (slicing: Slicing): number => {
    const { bytes, step } = memory.peaks(slicing)
    if (!list.length || bytes < list[list.length - 1]!.bytes * leastGain)
      list.push({ slicing, bytes })
    return step
  }
  let slicing = unsliced(group)
  let peak = consider(slicing)
  while (slicing.chunk > 1) {
    slicing = { ...slicing, chunk: Math.ceil(slicing.chunk / 2) }
    peak = consider(slicing)
  }
  for (;;) {
    const at = group.inner.findIndex(({ first, last }) => first <= peak && peak <= last)
    if (at < 0 || slicing.inner[at]! === 1) return list
    slicing = {
      ...slicing,
      inner: slicing.inner.map((chunk, i) => (i === at ? Math.ceil(chunk / 2) : chunk)),
    }
    peak = consider(slicing)
  }
}

/** A finer slicing that saves less than this share of a group's bytes is not worth its commands. */
const leastGain = 1 - 1 / 256

/** Chosen slice counts for every group that can be sliced, instead of a search. */
export function fitSlices(storage: Storage, slices: number): Fit {
  return arrange(
    storage,
    storage.groups.map(group => ({
      chunk: Math.ceil(group.extent / slices),
      inner: group.inner.map(({ extent }) => Math.ceil(extent / slices)),
    })),
  )
}

/**
 * Bands where slices are not enough: the groups that do not fit, and all that touch the tensors they touch, run part by part along
 * rows, in as many parts as it takes; the other groups stay as fine as `allowed` asks. Last, everything as small as it goes.
 */
export function fitBands(storage: Storage, allowed: number): Fit | undefined {
  const scratch = new ScratchTable(storage.target)
  const choices = storage.groups.map(group => candidates(new GroupMemory(storage, group, scratch)))
  const least = (id: number) => choices[id]![choices[id]!.length - 1]!
  /** Groups along the axis of bands that touch a tensor which a group over the limit touches. */
  const around = (limit: number): Set<number> => {
    const found = new Set<number>()
    for (const entry of storage.shared) {
      if (entry.home.group || ![...entry.groups].some(id => least(id).bytes > limit)) continue
      for (const id of entry.groups) if (storage.groups[id]!.axis === bandAxis) found.add(id)
    }
    return found
  }
  let best: Fit | undefined
  for (const limit of [allowed, 0]) {
    const inBands = around(limit)
    for (let bands = 8; bands <= mostBands; bands *= 2) {
      const slicings = storage.groups.map((group, id): Slicing => {
        if (inBands.has(id) && group.extent >= bands) return { ...unsliced(group), bands }
        return (choices[id]!.find(candidate => candidate.bytes <= limit) ?? least(id)).slicing
      })
      const fit = arrange(storage, slicings)
      if (!best || fit.packing.bytes < best.packing.bytes) best = fit
      if (best.packing.bytes <= allowed) return best
    }
  }
  return best
}

const bandAxis = 1
const mostBands = 128

/** The arena for given slicings. */
export function arrange(storage: Storage, slicings: Slicing[]): Fit {
  const buffers = allBuffers(storage, slicings)
  const peak = peakOf(buffers)
  return {
    slicings,
    buffers,
    packing: packBuffers(placeables(buffers), peak.bytes),
    lowerBound: peak.bytes,
    time: peak.step,
  }
}

/** What packing needs of buffers. */
export function placeables(buffers: readonly Buffer[]): Placeable[] {
  const at = new Map(
    buffers.filter(({ kind }) => kind === 'whole').map(({ id, tensors }) => [tensors[0]!, id]),
  )
  return buffers.map(({ bytes, start, end, tied }) => {
    const to = tied && at.get(tied.to)
    return { bytes, start, end, ...(to !== undefined && { tied: { to, end: tied!.end } }) }
  })
}
