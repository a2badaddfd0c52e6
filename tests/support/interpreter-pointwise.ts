import {
  type Activation,
  type DType,
  type Node,
  operand,
  operands,
} from '../../lib/program/index.js'
import { broadcastShape } from '../../lib/program/ops/pointwise.js'
import type { Lookup } from './interpreter.js'
import { activate, roundTo } from './interpreter-math.js'

/** unary, binary, combine. */
export function evaluatePointwise(node: Node, lookup: Lookup): Float32Array {
  switch (node.op) {
    case 'unary':
      return unary(node, lookup)
    case 'binary':
      return binary(node, lookup)
    case 'combine':
      return combine(node, lookup)
    default:
      throw new Error(`${node.name}: expected an op that the interpreter knows, got ${node.op}`)
  }
}

function unary(node: Node, lookup: Lookup): Float32Array {
  const act = (node.attrs.act as Activation | undefined) ?? 'none'
  const dtype = node.output.dtype as Exclude<DType, 'i32'>
  return Float32Array.from(lookup(operand(node, 'source')!), x => {
    const y = activate(x, act)
    return dtype === 'f32' ? y : roundTo(y, dtype)
  })
}

function binary(node: Node, lookup: Lookup): Float32Array {
  const a = operand(node, 'a')!
  const b = operand(node, 'b')!
  const as = lookup(a)
  const bs = lookup(b)
  const t = operand(node, 't')
  const weight = t ? lookup(t)[0]! : 0
  const [frames, rows, cols, channels] = broadcastShape(a.shape, a.shape)!
  const repeat = broadcastShape(a.shape, b.shape)!
  const out = new Float32Array(as.length)
  let at = 0
  for (let f = 0; f < frames; f++) {
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < cols; x++) {
        for (let c = 0; c < channels; c++, at++) {
          const index = [f, y, x, c].reduce(
            (sum, i, axis) => sum * repeat[axis]! + (repeat[axis]! > 1 ? i : 0),
            0,
          )
          const left = as[at]!
          const right = bs[index]!
          if (node.attrs.op === 'add') out[at] = left + right
          else if (node.attrs.op === 'sub') out[at] = left - right
          else if (node.attrs.op === 'mul') out[at] = left * right
          else if (node.attrs.op === 'lerp') out[at] = left + weight * (right - left)
          else throw new Error(`${node.name}: expected add, sub, mul or lerp, got ${node.attrs.op}`)
        }
      }
    }
  }
  return out
}

function combine(node: Node, lookup: Lookup): Float32Array {
  const coefficients = lookup(operand(node, 'coefficients')!)
  const sources = operands(node, 'source').map(tensor => lookup(tensor))
  return Float32Array.from(sources[0]!, (_, at) =>
    sources.reduce((sum, source, i) => sum + coefficients[i]! * source[at]!, 0),
  )
}
