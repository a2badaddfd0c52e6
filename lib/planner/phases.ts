import { type Node, operand, type Program } from '../program/graph.js'
import { convGeometry, fewOutputs, phaseTaps, readsDoubled } from '../program/ops/conv.js'
import { elementCount } from '../program/tensor.js'

/**
 * Most packed weights, beside the output of one frame. They are held from the first run to the last, and are several times what a
 * checkpoint stores: decoders at full size stay below, an upsampling of many channels to a small image does not. A VAE's three at
 * 512 x 512 save 15 % of its time for 27 MB beside 540 MB of features, in float16; a quarter would leave out the first: 12 MB, 1.7 % of
 * the operations.
 */
const mostWeights = 1 / 2

/**
 * Marks the convolutions of doubled images that are computed by phases: four ninths of the multiplications, on float32 weights of sixteen
 * taps for nine. Sums of taps are rounded otherwise than their products were, so that what a layer does follows from its shape in one frame
 * alone: no slice, no budget and no number of frames changes a bit.
 */
export function convPhases(program: Program): Program {
  const nodes = program.nodes.map(node =>
    takesPhases(node) ? { ...node, attrs: { ...node.attrs, phases: true } } : node,
  )
  return { ...program, nodes }
}

function takesPhases(node: Node): boolean {
  if (node.op !== 'conv2d' || !readsDoubled(convGeometry(node))) return false
  const [outputs, inputs] = operand(node, 'weight')!.shape as [number, number]
  const frame = elementCount(node.output.shape.slice(1))
  return outputs > fewOutputs && phaseTaps * inputs * outputs <= mostWeights * frame
}
