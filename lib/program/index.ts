import './ops/attention.js'
import './ops/conv.js'
import './ops/lookup.js'
import './ops/norm.js'
import './ops/pointwise.js'
import './ops/quantise.js'

export {
  type Node,
  type Operand,
  operand,
  operands,
  type Program,
  program,
  scope,
  type Trace,
} from './graph.js'
export { opSpec } from './op.js'
export { attention } from './ops/attention.js'
export { conv2d, convTime, linear } from './ops/conv.js'
export {
  embedding,
  prependToken,
  timestepEmbedding,
  tokens,
  upsampleNearest,
} from './ops/lookup.js'
export { groupNorm, layerNorm } from './ops/norm.js'
export {
  activation,
  add,
  cast,
  combine,
  gelu,
  lerp,
  mul,
  quickGelu,
  sigmoid,
  silu,
  sub,
} from './ops/pointwise.js'
export { dequantise, quantise, storedWords } from './ops/quantise.js'
export type { Activation, Source } from './ops/shared.js'
export { type DType, dtypeBytes, type Tensor, tensorBytes } from './tensor.js'
export { verifyProgram } from './verify.js'
