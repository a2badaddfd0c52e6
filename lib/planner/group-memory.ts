import { opSpec, type Target } from '../program/op.js'
import { type Tensor, tensorBytes } from '../program/tensor.js'
import { type AxisRange, type Group, restrict, type Slicing, unsliced } from './group.js'
import { aligned, hides, type Storage } from './storage.js'

/** What a group holds while it runs: its largest step outside of inner groups, and the largest of each inner group. */
export interface GroupPeaks {
  readonly bytes: number
  /** Step of the group at which that is. */
  readonly step: number
  readonly outside: number
  readonly inner: readonly number[]
}

/**
 * The memory of one group as a function of its slicing, for a search that asks often. Counts what `groupBuffers` lists, without
 * making the list.
 */
export class GroupMemory {
  private readonly steps: number
  /** By buffer: first step, one past the last, and whether it crosses slices (whole), lives in a slice, or in inner group i: 2 + i. */
  private readonly from: Int32Array
  private readonly to: Int32Array
  private readonly home: Int32Array
  private readonly bytes: Float64Array
  /** Extents along the group's axis and the inner one of what `bytes` counts; 0 where it has no such axis. */
  private readonly outerOf: Float64Array
  private readonly innerOf: Float64Array
  /** 1: lies in the memory of another, where the group is sliced. */
  private readonly hidden: Uint8Array
  private readonly live: Float64Array

  constructor(
    storage: Storage,
    readonly group: Group,
    private readonly scratch: ScratchTable,
  ) {
    const begin = storage.starts[group.id]!
    this.steps = group.nodes.length
    const entries = storage.shared.filter(
      ({ first, last }) => last >= begin && first < begin + this.steps,
    )
    const count = entries.length
    this.from = new Int32Array(count)
    this.to = new Int32Array(count)
    this.home = new Int32Array(count)
    this.bytes = new Float64Array(count)
    this.outerOf = new Float64Array(count)
    this.innerOf = new Float64Array(count)
    this.hidden = new Uint8Array(count)
    this.live = new Float64Array(this.steps + 1)
    entries.forEach((entry, i) => {
      const { tensors, home, first, last } = entry
      const { shape } = tensors[0]!
      this.from[i] = Math.max(first - begin, 0)
      this.to[i] = Math.min(last + 1 - begin, this.steps)
      this.bytes[i] = tensorBytes(tensors[0]!)
      // Of two that lie over each other, the larger counts where slices make both live all through the group.
      if (entry.tied && entries.includes(entry.tied) && hides(entry.tied, entry)) this.hidden[i] = 1
      if (!home.group) return
      this.home[i] = home.inner === undefined ? 1 : 2 + home.inner
      this.outerOf[i] = (group.axis === undefined ? 0 : shape[group.axis]) ?? 0
      this.innerOf[i] = (home.inner === undefined ? 0 : shape[group.inner[home.inner]!.axis]) ?? 0
    })
  }

  /** Bytes alive in the largest steps under a slicing. */
  peaks(slicing: Slicing): GroupPeaks {
    const { group, live, steps } = this
    live.fill(0)
    const chunk = Math.min(slicing.chunk, group.extent)
    const sliced = slicing.chunk < group.extent
    for (let i = 0; i < this.bytes.length; i++) {
      const home = this.home[i]!
      let from = this.from[i]!
      let to = this.to[i]!
      let bytes = this.bytes[i]!
      if (home === 0) {
        if (sliced) {
          if (this.hidden[i] === 1) continue
          from = 0
          to = steps
        }
      } else {
        if (this.outerOf[i]! > 0) bytes = (bytes / this.outerOf[i]!) * chunk
        if (this.innerOf[i]! > 0)
          bytes = (bytes / this.innerOf[i]!) * Math.min(slicing.inner[home - 2]!, this.innerOf[i]!)
      }
      if (home !== 0 || !sliced) {
        // With several inner slices, the first already writes and the last still reads what crosses their loop.
        for (let at = 0; at < group.inner.length; at++) {
          const { first, last, extent } = group.inner[at]!
          if (home === 2 + at || slicing.inner[at]! >= extent || from > last || to <= first)
            continue
          from = Math.min(from, first)
          to = Math.max(to, last + 1)
        }
      }
      const held = aligned(bytes)
      live[from]! += held
      live[to]! -= held
    }
    return this.largest(slicing)
  }

  private largest(slicing: Slicing): GroupPeaks {
    const { group } = this
    const inner = new Array<number>(group.inner.length).fill(0)
    let [running, outside, bytes, step, at] = [0, 0, 0, 0, 0]
    for (let i = 0; i < this.steps; i++) {
      running += this.live[i]!
      while (at < group.inner.length && group.inner[at]!.last < i) at++
      const inside = at < group.inner.length && group.inner[at]!.first <= i
      const total = running + this.scratch.bytes(group, slicing, i, inside ? at : -1)
      if (inside) inner[at] = Math.max(inner[at]!, total)
      else outside = Math.max(outside, total)
      if (total > bytes) [bytes, step] = [total, i]
    }
    return { bytes, step, outside, inner }
  }

  /** Fewest bytes of any slicing (whole, or as fine as it goes), and the step of the group that needs them. */
  least(): { bytes: number; step: number } {
    const whole = this.peaks(unsliced(this.group))
    const around = this.peaks({ chunk: 1, inner: unsliced(this.group).inner })
    if (this.group.inner.length === 0) return around.bytes < whole.bytes ? around : whole
    const finest = this.group.inner.map(({ granule }) => granule)
    const inside = this.peaks({ chunk: 1, inner: finest })
    const best = inside.inner.map((bytes, i) => Math.min(bytes, around.inner[i]!))
    const bytes = Math.max(inside.outside, ...best)
    return bytes < whole.bytes ? { bytes, step: inside.step } : whole
  }
}

/** Scratch of nodes (by their outputs) by the size of their slice: a search asks for the same again and again. */
export class ScratchTable {
  private readonly known = new Map<Tensor, Map<number, number>>()

  constructor(private readonly target: Target) {}

  /** Aligned scratch bytes of a node's largest command, all threads together; `at`: its inner group, or -1. */
  bytes(group: Group, slicing: Slicing, index: number, at: number): number {
    const node = group.nodes[index]!
    const spec = opSpec(node.op)
    if (!spec.scratch) return 0
    const inner = group.inner[at]
    const outerSize = group.axis === undefined ? 0 : Math.min(group.extent, slicing.chunk)
    const innerSize = inner ? Math.min(inner.extent, slicing.inner[at]!) : 0
    let sizes = this.known.get(node.output)
    if (!sizes) {
      sizes = new Map()
      this.known.set(node.output, sizes)
    }
    const key =
      ((group.axis ?? -1) + 1 + 5 * outerSize) * 2 ** 26 + ((inner?.axis ?? -1) + 1 + 5 * innerSize)
    const found = sizes.get(key)
    if (found !== undefined) return found
    const ranges: AxisRange[] = []
    if (group.axis !== undefined) ranges.push({ axis: group.axis, range: [0, outerSize] })
    if (inner) ranges.push({ axis: inner.axis, range: [0, innerSize] })
    const region = restrict(node.output, ranges)
    const { bytesPerThread } = spec.scratch(node, node.output, region, this.target)
    const bytes = aligned(bytesPerThread * this.target.threads)
    sizes.set(key, bytes)
    return bytes
  }
}
