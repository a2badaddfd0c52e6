import { type Packing, packBuffers } from './arena.js'
import { type Group, type Slicing, unsliced } from './group.js'
import type { Partitioner } from './partition.js'
import { allBuffers, type Buffer, groupBuffers, peakOf, type Storage } from './storage.js'

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
export function candidates(storage: Storage, group: Group): Candidate[] {
  const list: Candidate[] = []
  const consider = (slicing: Slicing): number => {
    const { bytes, step } = peakOf(groupBuffers(storage, group, slicing))
    if (!list.length || bytes < list[list.length - 1]!.bytes * leastGain)
      list.push({ slicing, bytes })
    return step - storage.starts[group.id]!
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

/**
 * The fewest slices with which the arena stays within `allowed` bytes; the least memory possible where it cannot.
 * For a fixed order, a group's peak is its own affair: (bytes alive across it) + (its slices), so each group takes its first candidate
 * that fits. Where packing leaves gaps, the target is lowered by the excess and the choice made again.
 */
export function fitBudget(storage: Storage, allowed: number): Fit {
  const choices = storage.groups.map(group => candidates(storage, group))
  const within = (target: number): Slicing[] =>
    choices.map(
      list => (list.find(candidate => candidate.bytes <= target) ?? list[list.length - 1]!).slicing,
    )
  let target = allowed
  for (let round = 0; round < mostRounds && target > 0; round++) {
    const fit = arrange(storage, within(target))
    const excess = fit.packing.bytes - allowed
    if (excess <= 0) return fit
    target -= excess
  }
  // The least: the group that needs most sets the pace, the others need not be finer than that.
  const floor = Math.max(0, ...choices.map(list => list[list.length - 1]!.bytes))
  const coarse = arrange(storage, within(floor))
  if (coarse.packing.bytes <= coarse.lowerBound * packedWell) return coarse
  const fine = arrange(storage, within(0))
  return fine.packing.bytes < coarse.packing.bytes ? fine : coarse
}

/** Packing this close to the lower bound is as good as at it. */
const packedWell = 1.002

/** How often the target is lowered for packing's gaps before the least memory is taken. */
const mostRounds = 12

/** Slicings by group with the arena that holds them, and the groups they belong to. */
export interface PartitionFit {
  readonly storage: Storage
  readonly fit: Fit
}

/**
 * Boundaries between groups searched as well: the fastest partition whose arena stays within `allowed` bytes, the least memory
 * possible where none does. Where packing leaves gaps, the limit is lowered by the excess and the partition made again.
 */
export function fitPartition(
  partitioner: Partitioner,
  storageOf: (groups: readonly Group[]) => Storage,
  allowed: number,
): PartitionFit {
  const arranged = (limit: number): PartitionFit | undefined => {
    const partition = partitioner.fastest(limit)
    if (!partition) return undefined
    const storage = storageOf(partition.groups)
    return { storage, fit: arrange(storage, [...partition.slicings]) }
  }
  let limit = allowed
  for (let round = 0; round < mostRounds && limit > 0; round++) {
    const found = arranged(limit)
    if (!found) break
    const excess = found.fit.packing.bytes - allowed
    if (excess <= 0) return found
    limit -= excess
  }
  return arranged(partitioner.leastBytes())!
}

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
  const choices = storage.groups.map(group => candidates(storage, group))
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

function arrange(storage: Storage, slicings: Slicing[]): Fit {
  const buffers = allBuffers(storage, slicings)
  const peak = peakOf(buffers)
  return {
    slicings,
    buffers,
    packing: packBuffers(buffers, peak.bytes),
    lowerBound: peak.bytes,
    time: peak.step,
  }
}
