import { readFileSync } from 'node:fs'
import {
  type ConfigJson,
  clipText,
  clipTextConfig,
  clipVision,
  clipVisionConfig,
  unetMotion,
  unetMotionConfig,
  unetSpatioTemporal,
  unetSpatioTemporalConfig,
  vaeConfig,
  vaeDecoder,
  vaeEncoder,
  vaeTemporalConfig,
  vaeTemporalDecoder,
} from '../../lib/models/index.js'
import type { Program } from '../../lib/program/graph.js'
import { fixture } from './recorded.js'

/** Frames, and rows and columns of the picture in pixels. */
export interface NetworkSize {
  readonly frames: number
  readonly rows: number
  readonly cols: number
}

/** A configuration of a published checkpoint, such as `svd/unet`. */
export const networkConfig = (path: string): ConfigJson =>
  JSON.parse(readFileSync(`${fixture('configs')}/${path}/config.json`, 'utf8')) as ConfigJson
const latent = ({ frames, rows, cols }: NetworkSize): NetworkSize => ({
  frames,
  rows: rows / 8,
  cols: cols / 8,
})
const spatioTemporal = (model: string) => (size: NetworkSize) =>
  unetSpatioTemporal(unetSpatioTemporalConfig(networkConfig(`${model}/unet`)), latent(size))

/** The networks of the published configurations, by name, traced for a size. No weights. */
export const networks: Readonly<Record<string, (size: NetworkSize) => Program>> = {
  'animatediff unet': size =>
    unetMotion(
      unetMotionConfig(
        networkConfig('animatediff-sd15/unet'),
        networkConfig('animatediff-sd15/motion_adapter'),
      ),
      { ...latent(size), tokens: 77 },
    ),
  'svd unet': spatioTemporal('svd'),
  'svd-xt unet': spatioTemporal('svd-xt'),
  'vae decoder': size => vaeDecoder(vaeConfig(networkConfig('animatediff-sd15/vae')), latent(size)),
  'vae encoder': size => vaeEncoder(vaeConfig(networkConfig('animatediff-sd15/vae')), size),
  'temporal decoder': size =>
    vaeTemporalDecoder(vaeTemporalConfig(networkConfig('svd/vae')), latent(size)),
  'clip text': () =>
    clipText(clipTextConfig(networkConfig('animatediff-sd15/text_encoder')), { tokens: 77 }),
  'clip vision': () => clipVision(clipVisionConfig(networkConfig('svd/image_encoder'))),
}
