import { bandedBuffers, bandsOf, partKey } from './bands.js'
import type { Group, Slicing } from './group.js'
import { type Buffer, groupBuffers, type Storage } from './storage.js'

/** A buffer with only the part of its lifetime that falls into a group, from the group's beginning on. */
type Part = Omit<Buffer, 'id'>

/**
 * The buffers of a program under one slicing after another. What a group uses follows from its own slicing and from how many bands the
 * groups have with which it shares tensors, and is remembered by these.
 */
export class Buffers {
  private readonly known = new Map<string, readonly Part[]>()
  /** Of each group, those that touch a tensor it touches. */
  private readonly near: readonly (readonly number[])[]

  constructor(private readonly storage: Storage) {
    const near = storage.groups.map(() => new Set<number>())
    for (const { home, groups } of storage.shared)
      if (!home.group) for (const a of groups) for (const b of groups) near[a]!.add(b)
    this.near = near.map(groups => [...groups])
  }

  /** Every buffer, whole tensors and bands joined over groups. Time counts ops; a group of bands takes as many times as it has ops and bands. */
  under(slicings: readonly Slicing[]): Buffer[] {
    const lasting = new Map<number, Mutable>()
    const rest: Mutable[] = []
    let time = 0
    for (const group of this.storage.groups) {
      for (const part of this.partsOf(group, slicings)) {
        const [start, end] = [part.start + time, part.end + time]
        if (part.kind !== 'whole' && part.kind !== 'band') {
          rest.push({ ...part, start, end, id: 0 })
          continue
        }
        const key = partKey(part.tensors[0]!, part.band?.range[0] ?? 0)
        const known = lasting.get(key)
        if (known) {
          known.start = Math.min(known.start, start)
          known.end = Math.max(known.end, end)
          if (part.tied) known.tied = part.tied
        } else lasting.set(key, { ...part, start, end, id: 0 })
      }
      time += group.nodes.length * (slicings[group.id]!.bands ?? 1)
    }
    const all = [...lasting.values(), ...rest]
    for (const [id, buffer] of all.entries()) buffer.id = id
    return all
  }

  private partsOf(group: Group, slicings: readonly Slicing[]): readonly Part[] {
    const { chunk, inner, bands = 0, kept = 0 } = slicings[group.id]!
    const around = this.near[group.id]!.map(id => slicings[id]!.bands ?? 0)
    const key = `${group.id} ${chunk} ${bands} ${kept} ${inner} ${around}`
    let parts = this.known.get(key)
    if (!parts) {
      parts = bands > 0 ? bandedBuffers(this.storage, slicings, group) : this.whole(group, slicings)
      this.known.set(key, parts)
    }
    return parts
  }

  private whole(group: Group, slicings: readonly Slicing[]): Part[] {
    const { storage } = this
    const start = storage.starts[group.id]!
    // Bands that live across this group are told by the groups before and after it.
    return groupBuffers(storage, group, slicings[group.id]!)
      .filter(
        ({ kind, tensors }) =>
          kind !== 'whole' || !bandsOf(storage.owner.get(tensors[0]!)!, slicings),
      )
      .map(part => ({ ...part, start: part.start - start, end: part.end - start }))
  }
}

type Mutable = { -readonly [K in keyof Buffer]: Buffer[K] }

/** Every buffer of a program for the given slicings. */
export function allBuffers(storage: Storage, slicings: readonly Slicing[]): Buffer[] {
  return new Buffers(storage).under(slicings)
}
