export {
  type ClipTextConfig,
  type ClipTextOptions,
  type ClipTextOutput,
  clipText,
  clipTextConfig,
  pooledIndex,
} from './clip-text.js'
export { type ClipVisionConfig, clipVision, clipVisionConfig } from './clip-vision.js'
export { type ConfigJson, ConfigReader } from './config.js'
export type { WeightDTypes } from './layers.js'
export { type UNetMotionConfig, unetMotionConfig } from './unet-config.js'
export { type UNetMotionSize, unetMotion } from './unet-motion.js'
export { type UNetSpatioTemporalSize, unetSpatioTemporal } from './unet-spatio-temporal.js'
export {
  type UNetSpatioTemporalConfig,
  unetSpatioTemporalConfig,
} from './unet-spatio-temporal-config.js'
export {
  alternativeVaeKeys,
  splitMoments,
  type VaeConfig,
  type VaeSize,
  vaeConfig,
  vaeDecoder,
  vaeEncoder,
  vaeScale,
} from './vae.js'
export { vaeTemporalConfig, vaeTemporalDecoder } from './vae-temporal.js'
