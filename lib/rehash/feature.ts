import { OptionError } from '../errors.js'
import type { Node, Program } from '../program/graph.js'
import { opSpec } from '../program/op.js'
import { wholeRegion } from '../program/region.js'
import type { Tensor } from '../program/tensor.js'

/** The module whose output is the prediction itself. */
export const predictionFeature = 'conv_out'

/** Residual blocks, spatial and temporal attentions of the up blocks. */
const layerOfUpBlock = /^(up_blocks\.\d+\.(?:resnets|attentions|motion_modules)\.\d+)\./

/**
 * Features that a step may keep for later ones, by their module's path in the network, in the order in which they are computed: the
 * outputs of the up blocks' layers, then the prediction.
 */
export function candidateFeatures(unet: Program): string[] {
  const found = new Set<string>()
  for (const { name } of unet.nodes) {
    const layer = layerOfUpBlock.exec(name)?.[1]
    if (layer !== undefined) found.add(layer)
  }
  return [...found, predictionFeature]
}

/** The paper's choice: what the last up block's last temporal layer gives, read by the output head alone. */
export function paperFeature(unet: Program): string {
  const candidates = candidateFeatures(unet)
  return candidates[candidates.length - 2] ?? predictionFeature
}

/** The op whose output a feature is: the last of its module. @throws OptionError for a path that is no candidate */
export function featureNode(unet: Program, feature: string): Node {
  const candidates = candidateFeatures(unet)
  const node = unet.nodes.findLast(({ name }) => name.startsWith(`${feature}.`))
  if (!node || !candidates.includes(feature))
    throw new OptionError(
      `rehash feature: expected one of ${candidates.join(', ')}, got ${feature}; name a layer of an up block`,
    )
  return node
}

/** The tensor that a feature is. @throws OptionError */
export function featureTensor(unet: Program, feature: string): Tensor {
  return featureNode(unet, feature).output
}

/** Floating-point operations of a program. */
export function flopsOf({ nodes }: Program): number {
  return nodes.reduce(
    (sum, node) =>
      sum + opSpec(node.op).cost(node, node.output, wholeRegion(node.output.shape)).flops,
    0,
  )
}
