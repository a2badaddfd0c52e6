import type { Source, Tensor } from '../program/index.js'
import type { Layers } from './layers.js'
import { downsample, upsample } from './resnet.js'

/** One layer of a block: residual block and the attentions behind it. `index` counts inside the block. */
export type LayerBody = (source: Source, index: number) => Tensor

/**
 * Layers of a down block, each of whose results is a skip; then, unless it is the last block, a strided convolution, a skip too.
 * @param skips is appended to
 */
export function downBlock(
  layers: Layers,
  source: Tensor,
  skips: Tensor[],
  options: { count: number; downsamplePadding?: number },
  body: LayerBody,
): Tensor {
  let hidden = source
  for (let i = 0; i < options.count; i++) {
    hidden = body(hidden, i)
    skips.push(hidden)
  }
  if (options.downsamplePadding !== undefined) {
    hidden = downsample(layers.at('downsamplers.0'), hidden, options.downsamplePadding)
    skips.push(hidden)
  }
  return hidden
}

/**
 * Layers of an up block, each of which reads the feature beside the latest skip; then, unless it is the last block, an upsampling to
 * the size of the next skip (exact also where a side was odd on the way down).
 * @param skips is consumed from its end
 */
export function upBlock(
  layers: Layers,
  source: Tensor,
  skips: Tensor[],
  options: { count: number; upsample: boolean },
  body: LayerBody,
): Tensor {
  let hidden = source
  for (let i = 0; i < options.count; i++) hidden = body([hidden, skips.pop()!], i)
  if (!options.upsample) return hidden
  const [, rows, cols] = skips[skips.length - 1]!.shape as readonly [number, number, number, number]
  return upsample(layers.at('upsamplers.0'), hidden, [rows, cols])
}

/** Residual block, then pairs of attention and residual block. */
export function midBlock(
  source: Tensor,
  count: number,
  resnet: (source: Tensor, index: number) => Tensor,
  attend: (source: Tensor, index: number) => Tensor,
): Tensor {
  let hidden = resnet(source, 0)
  for (let i = 0; i < count; i++) hidden = resnet(attend(hidden, i), i + 1)
  return hidden
}
