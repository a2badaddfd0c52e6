import type { Node } from '../program/graph.js'
import { flopsOf, type Target } from '../program/op.js'
import type { Tensor, WeightTensor } from '../program/tensor.js'
import { hostBytesPerSecond } from './cost.js'
import { type PackedWeight, packForm, type WeightLayout, weightKey } from './weights.js'

/** Whether weights may come to the device when they are needed, instead of standing there from the first run to the last. */
export type StreamingChoice = 'auto' | 'never' | 'always'
export const streamingChoices: readonly StreamingChoice[] = ['auto', 'never', 'always']

/** A weight that comes with the op that reads it. */
export interface StreamedOperand {
  readonly node: Node
  readonly input: number
  readonly weight: PackedWeight
  /** Where it lies meanwhile: 16-bit words of the arena. Its number is negative, its own, and the same in every variant of a program. */
  readonly tensor: Tensor
}

/**
 * The streamed weights of a stage as its programs see them: each op that reads one holds it in the arena while it runs. On a GPU it is
 * copied from the host while the op before runs; a CPU packs it from its file just before.
 */
export class Streaming {
  private readonly known = new Map<Tensor, readonly StreamedOperand[]>()
  /** Steps that a weight is there before its op. */
  readonly lead: number

  constructor(
    readonly layout: WeightLayout,
    private readonly backend: string,
  ) {
    this.lead = backend === 'cpu' ? 0 : 1
  }

  of(node: Node): readonly StreamedOperand[] {
    if (this.layout.streamed.length === 0) return none
    // Copies of a node in other variants have its output, so its weights lie in the same tensors.
    const found = this.known.get(node.output) ?? this.operandsOf(node)
    this.known.set(node.output, found)
    return found
  }

  bytes(node: Node): number {
    return this.of(node).reduce((sum, { weight }) => sum + weight.bytes, 0)
  }

  /** Seconds that its weights keep an op waiting which itself takes `seconds`. */
  seconds(node: Node, seconds: number): number {
    const bytes = this.bytes(node)
    if (this.backend === 'cpu') return bytes / packBytesPerSecond
    return Math.max(0, bytes / hostBytesPerSecond - seconds)
  }

  private operandsOf(node: Node): readonly StreamedOperand[] {
    const found: StreamedOperand[] = []
    node.inputs.forEach(({ role, tensor }, input) => {
      if (tensor.kind !== 'weight') return
      const weight = this.layout.find(tensor as WeightTensor, packForm(node, role))
      if (weight.streamed === undefined) return
      found.push({ node, input, weight, tensor: placeOf(node, input, weight) })
    })
    return found.length > 0 ? found : none
  }
}

/** Where streamed weights end in the host's memory; on a CPU they stay in their files. */
export function hostBase(layout: WeightLayout, { backend }: Target): number {
  return backend === 'cpu' ? 0 : layout.streamedBytes
}

const none: readonly StreamedOperand[] = []
const mostOperands = 16

/** By output and operand: plans of one program share the tensors that its weights are streamed into. */
const places = new WeakMap<Tensor, Map<string, Tensor>>()

function placeOf({ output }: Node, input: number, { bytes, tensor }: PackedWeight): Tensor {
  const known = places.get(output) ?? new Map<string, Tensor>()
  places.set(output, known)
  const key = `${input} ${bytes}`
  const place: Tensor = known.get(key) ?? {
    id: -(output.id * mostOperands + input + 1),
    name: `${tensor.name} (streamed)`,
    shape: [bytes / 2],
    dtype: 'f16',
    kind: 'value',
  }
  known.set(key, place)
  return place
}

/** From the page cache into panels, all threads together. */
const packBytesPerSecond = 3.0e9

/** Weights below this many bytes are streamed after all others: they are many, and small in all. */
const leastStreamed = 64 * 1024

/**
 * Keys of weights by how well they stream: those first whose ops compute the longest for each byte.
 * @param programs nodes of each program of a stage, and how often it runs
 */
export function streamingOrder(
  layout: WeightLayout,
  programs: readonly { readonly nodes: readonly Node[]; readonly runs: number }[],
): { key: string; bytes: number }[] {
  const work = new Map<string, number>()
  for (const { nodes, runs } of programs) {
    for (const node of nodes) {
      const flops = flopsOf(node) * runs
      for (const { role, tensor } of node.inputs) {
        if (tensor.kind !== 'weight') continue
        const key = weightKey(packForm(node, role), tensor.name)
        work.set(key, (work.get(key) ?? 0) + flops)
      }
    }
  }
  return layout.weights
    .map(({ form, tensor, bytes }, place) => {
      const key = weightKey(form, tensor.name)
      const share = bytes < leastStreamed ? 0 : (work.get(key) ?? 0) / bytes
      return { key, bytes, place, share }
    })
    .sort((a, b) => b.share - a.share || a.place - b.place)
    .map(({ key, bytes }) => ({ key, bytes }))
}
