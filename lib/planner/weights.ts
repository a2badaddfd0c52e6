import type { Node } from '../program/graph.js'
import { inPhases, phaseTaps } from '../program/ops/conv.js'
import { activationOf } from '../program/ops/shared.js'
import { type DType, dtypeBytes, elementCount, type WeightTensor } from '../program/tensor.js'
import { PackForm } from '../runtime/addon-types.js'
import { panelWidth } from './commands.js'
import { aligned } from './storage.js'

/** One weight in the packed block of a stage. */
export interface PackedWeight {
  readonly tensor: WeightTensor
  readonly form: PackForm
  /** Stored dtype, kept by raw and panel forms. */
  readonly dtype: DType
  readonly offset: number
  readonly bytes: number
  /** Its place among the streamed weights, whose offsets are those in the host's memory; absent: it stands in the block. */
  readonly streamed?: number
}

/** Where each weight of a stage stands. One weight read in two forms stands twice. */
export interface WeightLayout {
  /** Those that stand in the block from the first run to the last. */
  readonly weights: readonly PackedWeight[]
  /** Bytes of the block: predicted before a weight is read. */
  readonly bytes: number
  /** Those that come with their ops. */
  readonly streamed: readonly PackedWeight[]
  /** Bytes of all that are streamed, packed one after another. */
  readonly streamedBytes: number
  find(tensor: WeightTensor, form: PackForm): PackedWeight
}

/** Names one weight in one form. */
export const weightKey = (form: PackForm, name: string): string => `${form} ${name}`

/** The form in which an op reads a weight. */
export function packForm(node: Pick<Node, 'op' | 'attrs'>, role: string): PackForm {
  const paired = activationOf(node.attrs) === 'geglu'
  if (role === 'weight' && inPhases(node)) return PackForm.panelPhases
  if (role === 'weight') return paired ? PackForm.panelPairs : PackForm.panel
  if (role === 'bias') return paired ? PackForm.vectorPairs : PackForm.vector
  return role === 'table' ? PackForm.raw : PackForm.vector
}

/** How a weight's elements are stored once it is packed. */
export function packedDType(form: PackForm, stored: DType): DType {
  const kept = form === PackForm.raw || form === PackForm.panel || form === PackForm.panelPairs
  return kept ? stored : 'f32'
}

/** Packed elements of a product's weight for each of its outputs. */
export function packedDepth(form: PackForm, shape: readonly number[]): number {
  return form === PackForm.panelPhases ? phaseTaps * shape[1]! : elementCount(shape) / shape[0]!
}

const panels = (outputs: number): number => Math.ceil(outputs / panelWidth) * panelWidth

/** Bytes of a packed weight; src/cpu/kernels/pack.cpp writes exactly as many. */
export function packedBytes(form: PackForm, shape: readonly number[], dtype: DType): number {
  const count = elementCount(shape)
  const outputs = shape[0]!
  switch (form) {
    case PackForm.raw:
      return count * dtypeBytes[dtype]
    case PackForm.vector:
      return count * 4
    case PackForm.vectorPairs:
      return 2 * panels(outputs / 2) * 4
    case PackForm.panel:
    case PackForm.panelPhases:
      return panels(outputs) * packedDepth(form, shape) * dtypeBytes[packedDType(form, dtype)]
    case PackForm.panelPairs:
      return 2 * panels(outputs / 2) * (count / outputs) * dtypeBytes[dtype]
  }
}

/**
 * Lays out the weights of a stage's programs in order of first use.
 * @param dtypeOf stored dtype of a weight, by key
 * @param streams keys (`weightKey`) of those that are streamed
 */
export function layoutWeights(
  nodes: Iterable<Node>,
  dtypeOf: (key: string) => DType,
  streams: ReadonlySet<string> = new Set(),
): WeightLayout {
  const weights: PackedWeight[] = []
  const streamed: PackedWeight[] = []
  const byKey = new Map<string, PackedWeight>()
  let [end, streamedEnd] = [0, 0]
  for (const node of nodes) {
    for (const { role, tensor } of node.inputs) {
      if (tensor.kind !== 'weight') continue
      const form = packForm(node, role)
      const key = weightKey(form, tensor.name)
      if (byKey.has(key)) continue
      const dtype = dtypeOf(tensor.name)
      const bytes = packedBytes(form, tensor.shape, dtype)
      const common = { tensor: tensor as WeightTensor, form, dtype, bytes }
      if (streams.has(key)) {
        const entry = { ...common, offset: aligned(streamedEnd), streamed: streamed.length }
        streamedEnd = entry.offset + bytes
        streamed.push(entry)
        byKey.set(key, entry)
      } else {
        const entry = { ...common, offset: aligned(end) }
        end = entry.offset + bytes
        weights.push(entry)
        byKey.set(key, entry)
      }
    }
  }
  return {
    weights,
    bytes: end,
    streamed,
    streamedBytes: streamedEnd,
    find: (tensor, form) => byKey.get(weightKey(form, tensor.name))!,
  }
}
