import type { Program } from '../program/graph.js'
import { type Packing, type Placeable, packBuffers } from './arena.js'
import { allBuffers } from './buffers.js'
import type { Slicing } from './group.js'
import { type Buffer, peakOf, type Storage } from './storage.js'

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

/** A program with its groups, slicings and arena. */
export interface Arrangement {
  readonly program: Program
  readonly storage: Storage
  readonly fit: Fit
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

/** The arena for given slicings. */
export function arrange(storage: Storage, slicings: Slicing[]): Fit {
  return pack(load(slicings, allBuffers(storage, slicings)))
}

/** What is alive when for given slicings; its arena is not packed yet. */
export type Load = Omit<Fit, 'packing'>

export function load(slicings: Slicing[], buffers: Buffer[]): Load {
  const peak = peakOf(buffers)
  return { slicings, buffers, lowerBound: peak.bytes, time: peak.step }
}

export function pack(of: Load): Fit {
  return { ...of, packing: packBuffers(placeables(of.buffers), of.lowerBound) }
}

/** The same packed at leisure, unless that was done well; what was tried is remembered. */
export function packAtLeisure(fit: Fit): Fit {
  if (wellPacked(fit)) return fit
  let better = leisurely.get(fit)
  if (!better) {
    const packing = packBuffers(placeables(fit.buffers), fit.lowerBound, thorough)
    better = packing.bytes < fit.packing.bytes ? { ...fit, packing } : fit
    leisurely.set(fit, better)
    leisurely.set(better, better)
  }
  return better
}

/** Packed as it stays: at leisure no more is tried. */
export function packOnce(of: Load): Fit {
  const fit = pack(of)
  leisurely.set(fit, fit)
  return fit
}

const leisurely = new WeakMap<Fit, Fit>()

/** Nodes of a search for an arena, at leisure. */
const thorough = 30_000

/** Whether an arena is as good as at its lower bound. */
export function wellPacked({ packing, lowerBound }: Fit): boolean {
  return packing.bytes <= lowerBound * packedWell
}

const packedWell = 1.004

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
