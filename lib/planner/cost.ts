import { type Node, operand } from '../program/graph.js'
import { opSpec, type Target } from '../program/op.js'
import type { Region } from '../program/region.js'
import type { DType, Tensor } from '../program/tensor.js'
import { bandRange, type Group, restrict, type Slicing, slicedNodes } from './group.js'
import type { Streaming } from './streaming.js'
import { products, takesWgmma } from './wgmma.js'

/** What a device reaches, for a roofline: floating-point operations and bytes per second, and the cost of one command. */
export interface Machine {
  readonly flopsPerSecond: number
  readonly bytesPerSecond: number
  readonly secondsPerCommand: number
}

/** Work of a program: operations, bytes moved between memory and kernels, and the predicted time. */
export interface Work {
  flops: number
  bytes: number
  seconds: number
}

/** Predicts the time of commands. Pure: the same model gives the same plan. */
export interface CostModel {
  /** What plans name: `built in: roofline`, or the table and the machine it was measured on. */
  readonly name: string
  /** Whether a slice that stays in the caches may take less than its share of the whole. Default: no. */
  readonly cached?: boolean
  /** Seconds of one command, its dispatch included, that computes `wanted` of a node's output with weights of a stored dtype. */
  seconds(node: Node, wanted: Region, weights: DType): number
}

/** A CPU thread with AVX-512 at about 70 % of its peak; memory shared by all threads. One thread alone waits for no other. */
export function cpuMachine(threads: number): Machine {
  const secondsPerCommand = threads === 1 ? 3e-7 : 2.5e-6
  return { flopsPerSecond: 1.0e11 * threads, bytesPerSecond: 1.2e10, secondsPerCommand }
}

/** A GPU of the middle of the field at about half of its 16-bit peak. */
const gpuMachine: Machine = {
  flopsPerSecond: 1.0e14,
  bytesPerSecond: 1.0e12,
  secondsPerCommand: 5e-6,
}

/** One of compute capability 9.0, by mma.sync. */
const hopperMachine: Machine = {
  flopsPerSecond: 3.0e14,
  bytesPerSecond: 2.5e12,
  secondsPerCommand: 5e-6,
}

function machineOf({ backend, threads, wgmma }: Target): Machine {
  if (backend === 'cpu') return cpuMachine(threads)
  return wgmma ? hopperMachine : gpuMachine
}

/** Where nothing is measured: max(compute, traffic) plus the dispatch. */
export function roofline(target: Target): CostModel {
  const machine = machineOf(target)
  return {
    name: 'built in: roofline',
    seconds: (node, wanted, weights) =>
      rooflineSeconds(machine, node, wanted, speedOf(node, weights, target)),
  }
}

/** Sums of products by wgmma beside those by mma.sync, which reaches some 0.6 of the peak on compute capability 9.0. */
const wgmmaSpeed = 1.7

/** Products of bfloat16 beside those of float32 (bench/results/kernels-amd-epyc-avx512-bf16-2.md: 1.5 to 1.6 of the same peak, over 0.87). */
const bf16Speed = 1.6

/** How many times as fast as the machine's own a node's products are: in bfloat16, or by wgmma. */
function speedOf(node: Node, weights: DType, { compute, wgmma }: Target): number {
  const stored = operand(node, 'source')?.dtype
  if (wgmma && stored && takesWgmma(node, stored, weights)) return wgmmaSpeed
  return compute === 'bf16' && products.has(node.op) ? bf16Speed : 1
}

export function rooflineSeconds(machine: Machine, node: Node, wanted: Region, speed = 1): number {
  const { flops, bytes } = opSpec(node.op).cost(node, node.output, wanted)
  if (node.op === 'move') return machine.secondsPerCommand + bytes / hostBytesPerSecond
  return (
    machine.secondsPerCommand +
    Math.max(flops / machine.flopsPerSecond / speed, bytes / machine.bytesPerSecond)
  )
}

/** Between host and device over PCIe 4 x16, pinned memory. */
export const hostBytesPerSecond = 2.0e10

/** How many parts of which size an axis falls into: at most two sizes. */
type Parts = readonly (readonly [size: number, count: number])[]

/**
 * Times of sliced groups: the sum over their commands, so that small slices cost their dispatch and what they lose in efficiency.
 * Keeps what it has computed, by output: a search asks for the same slices of a node again and again.
 */
export class CommandCosts {
  private readonly known = new Map<Tensor, Map<number, number>>()
  private readonly dtypes = new Map<Node, DType>()

  constructor(
    readonly model: CostModel,
    private readonly weightDtype: (key: string) => DType,
    private readonly streaming?: Streaming,
  ) {}

  /** Seconds of one command. */
  command(node: Node, wanted: Region): number {
    return this.model.seconds(node, wanted, this.dtypeOf(node))
  }

  /** Seconds of a node that runs whole. */
  node(node: Node): number {
    const seconds = this.sliced(node, undefined, 1, undefined, 1)
    return seconds + this.waiting(node, seconds)
  }

  /** Seconds that an op waits for streamed weights, once for all its slices. */
  private waiting(node: Node, seconds: number): number {
    return this.streaming?.seconds(node, seconds) ?? 0
  }

  /** Seconds of all commands of a group. */
  group(group: Group, slicing: Slicing, uneven = unevenParts(group, slicing)): number {
    const outer = group.axis === undefined ? whole : partsOf(group.extent, slicing)
    const inner = group.inner.map(({ extent }, i) => partsOf(extent, { chunk: slicing.inner[i]! }))
    let seconds = 0
    group.nodes.forEach((node, index) => {
      const at = group.inner.findIndex(({ first, last }) => first <= index && index <= last)
      let own = 0
      for (const [size, count] of uneven.get(index) ?? outer) {
        for (const [innerSize, innerCount] of inner[at] ?? whole) {
          own +=
            count *
            innerCount *
            this.sliced(node, group.axis, size, group.inner[at]?.axis, innerSize)
        }
      }
      seconds += own > 0 ? own + this.waiting(node, own) : 0
    })
    return seconds
  }

  /** Operations, bytes and seconds of groups in their slicings, each by its id. */
  work(groups: readonly Group[], slicings: readonly Slicing[]): Work {
    const work = { flops: 0, bytes: 0, seconds: 0 }
    for (const group of groups) {
      const slicing = slicings[group.id]!
      const uneven = unevenParts(group, slicing)
      work.seconds += this.group(group, slicing, uneven)
      for (const [index, node] of group.nodes.entries()) {
        const spec = opSpec(node.op)
        const parts = uneven.get(index) ?? whole
        for (const [size, count] of parts) {
          const region = parts === whole ? [] : [{ axis: 1, range: [0, size] as const }]
          const { flops, bytes } = spec.cost(node, node.output, restrict(node.output, region))
          work.flops += flops * count
          work.bytes += bytes * count
        }
        if (parts.length > 0) work.bytes += this.streaming?.bytes(node) ?? 0
      }
    }
    return work
  }

  private sliced(
    node: Node,
    axis: number | undefined,
    size: number,
    innerAxis: number | undefined,
    innerSize: number,
  ): number {
    let seconds = this.known.get(node.output)
    if (!seconds) {
      seconds = new Map()
      this.known.set(node.output, seconds)
    }
    const key =
      (size * 2 ** 24 + innerSize) * 25 +
      (axis === undefined ? 0 : axis + 1) * 5 +
      (innerAxis === undefined ? 0 : innerAxis + 1)
    const found = seconds.get(key)
    if (found !== undefined) return found
    const ranges = [
      ...(axis === undefined ? [] : [{ axis, range: [0, size] as const }]),
      ...(innerAxis === undefined ? [] : [{ axis: innerAxis, range: [0, innerSize] as const }]),
    ]
    const value = this.command(node, restrict(node.output, ranges))
    seconds.set(key, value)
    return value
  }

  private dtypeOf(node: Node): DType {
    let dtype = this.dtypes.get(node)
    if (!dtype) {
      const weight = node.inputs.find(
        ({ role, tensor }) => tensor.kind === 'weight' && (role === 'weight' || role === 'table'),
      )
      dtype = weight ? this.weightDtype(weight.tensor.name) : 'f32'
      this.dtypes.set(node, dtype)
    }
    return dtype
  }
}

const whole: Parts = [[1, 1]]

/** Parts of ops that do not run once in each band on its rows alone, by their index: what is made again, some of it with rows around. */
function unevenParts(group: Group, slicing: Slicing): Map<number, Parts> {
  const { halos = [], again = [], once = [] } = group
  const counts = new Map<number, Map<number, number>>()
  if (slicing.bands) {
    for (const index of [...halos, ...again.map(copy => copy.index), ...once])
      counts.set(index, new Map())
    if (counts.size > 0) {
      for (const { index, ranges } of slicedNodes(group, slicing)) {
        const [start, stop] = ranges[0]!.range
        const sizes = counts.get(index)
        sizes?.set(stop - start, (sizes.get(stop - start) ?? 0) + 1)
      }
    }
  }
  return new Map([...counts].map(([index, sizes]) => [index, [...sizes]]))
}

function partsOf(extent: number, slicing: Pick<Slicing, 'chunk' | 'bands'>): Parts {
  const { chunk, bands } = slicing
  if (!bands) {
    const full = Math.floor(extent / chunk)
    const rest = extent - full * chunk
    return rest === 0
      ? [[chunk, full]]
      : full === 0
        ? [[rest, 1]]
        : [
            [chunk, full],
            [rest, 1],
          ]
  }
  const counts = new Map<number, number>()
  for (let i = 0; i < bands; i++) {
    const [start, stop] = bandRange(extent, bands, i)
    counts.set(stop - start, (counts.get(stop - start) ?? 0) + 1)
  }
  return [...counts].sort(([a], [b]) => b - a)
}
