import { type Node, operand, operands } from '../program/graph.js'
import { convGeometry } from '../program/ops/conv.js'
import { channelsOf } from '../program/ops/shared.js'
import { type DType, dtypeBytes, elementCount } from '../program/tensor.js'

/** Convolutions and matrix products. */
export const products: ReadonlySet<string> = new Set(['conv2d', 'conv_time', 'linear'])

/** Input channels that wgmma takes at a time; the rest of a last block is filled with zeros. */
const boxChannels = 64

/**
 * Whether wgmma computes a product, where the device has it (`Target.wgmma`). Asked is the layer alone, never frames, rows or columns, so
 * that all its slices take the same kernel. Same as takes_wgmma in cuda/kernels/conv_wgmma.cu.
 * @param stored how its sources are stored
 * @param weights the stored dtype of its weights
 */
export function takesWgmma(node: Node, stored: DType, weights: DType): boolean {
  if (!products.has(node.op) || stored === 'f32' || weights !== stored) return false
  return !operand(node, 'affine') && readsBoxes(node) && fillsBoxes(node)
}

/**
 * Most bytes of a frame for which the norm before a product is a pass of its own: about half of the second-level cache of compute
 * capability 9.0 (50 MB), where it stays until the product reads it. A larger one, as in decoders at full size, would cost about as much
 * time as wgmma saves, and be what holds the peak.
 */
const mostApart = 24 << 20

/**
 * Whether the norm before a product is applied in a pass of its own, for wgmma. Both ways differ in their last bits: it follows from the
 * traced program alone, and from no budget.
 */
export function readsNormStored(product: Node, stored: DType, weights: DType): boolean {
  const { shape } = operand(product, 'source')!
  const frame = shape.length === 4 ? shape.slice(1) : shape
  return (
    takesWgmma(product, stored, weights) && elementCount(frame) * dtypeBytes[stored] <= mostApart
  )
}

/** A box of pixels is read as it lies, every second one of it, or each four times. */
function readsBoxes(node: Node): boolean {
  if (node.op !== 'conv2d') return true
  const { stride, inRows, inCols, physRows, physCols } = convGeometry(node)
  if (inRows === physRows && inCols === physCols) return stride <= 2
  return inRows === 2 * physRows && inCols === 2 * physCols && stride === 1
}

/** Blocks of channels are whole: at most a quarter of what is multiplied is filling. */
function fillsBoxes(node: Node): boolean {
  const channels = operands(node, 'source').map(channelsOf)
  const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0)
  const filled = sum(channels.map(count => Math.ceil(count / boxChannels) * boxChannels))
  return channels.every(count => count % 8 === 0) && 4 * filled <= 5 * sum(channels)
}
