import {
  type Activation,
  type Node,
  operand,
  operands,
  type Tensor,
} from '../../lib/program/index.js'
import type { Lookup } from './interpreter.js'
import { activate } from './interpreter-math.js'

/** Sources as one array with their channels side by side: [positions, channels], positions row-major. */
export function sideBySide(
  node: Node,
  lookup: Lookup,
): { values: ArrayLike<number>; positions: number; channels: number } {
  const sources = operands(node, 'source')
  const widths = sources.map(tensor => tensor.shape[tensor.shape.length - 1]!)
  const channels = widths.reduce((a, b) => a + b, 0)
  const positions = count(sources[0]!) / widths[0]!
  if (sources.length === 1) return { values: lookup(sources[0]!), positions, channels }
  const values = new Float32Array(positions * channels)
  let offset = 0
  sources.forEach((tensor, s) => {
    const part = lookup(tensor)
    for (let p = 0; p < positions; p++) {
      for (let c = 0; c < widths[s]!; c++)
        values[p * channels + offset + c] = part[p * widths[s]! + c]!
    }
    offset += widths[s]!
  })
  return { values, positions, channels }
}

/** Frames of a node's sources: the first axis of three or four, else one. */
export function framesOf(tensor: Tensor): number {
  return tensor.shape.length > 2 ? tensor.shape[0]! : 1
}

const count = (tensor: Tensor): number => tensor.shape.reduce((a, b) => a * b, 1)
const activation = (node: Node): Activation => (node.attrs.act as Activation | undefined) ?? 'none'

/** group_norm, its three parts, layer_norm. */
export function evaluateNorm(node: Node, lookup: Lookup): Float32Array {
  switch (node.op) {
    case 'group_norm':
      return groupNorm(node, lookup)
    case 'norm_partials':
      return normPartials(node, lookup)
    case 'norm_fold':
      return normFold(node, lookup)
    case 'affine':
      return affine(node, lookup)
    default:
      return layerNorm(node, lookup)
  }
}

/** Mean and biased variance of the values that `visit` gives, in two passes. */
function moments(visit: (take: (x: number) => void) => void): {
  mean: number
  variance: number
  n: number
} {
  let n = 0
  let sum = 0
  visit(x => {
    n++
    sum += x
  })
  const mean = sum / n
  let squares = 0
  visit(x => {
    squares += (x - mean) ** 2
  })
  return { mean, variance: squares / n, n }
}

function groupNorm(node: Node, lookup: Lookup): Float32Array {
  const { values, positions, channels } = sideBySide(node, lookup)
  const gamma = lookup(operand(node, 'gamma')!)
  const beta = lookup(operand(node, 'beta')!)
  const { groups, eps, over } = node.attrs as { groups: number; eps: number; over: string }
  const batches = over === 'frame' ? framesOf(operand(node, 'source')!) : 1
  const perBatch = positions / batches
  const size = channels / groups
  const out = new Float32Array(values.length)
  for (let b = 0; b < batches; b++) {
    for (let g = 0; g < groups; g++) {
      const each = (visit: (at: number, c: number) => void) => {
        for (let p = b * perBatch; p < (b + 1) * perBatch; p++) {
          for (let c = g * size; c < (g + 1) * size; c++) visit(p * channels + c, c)
        }
      }
      const { mean, variance } = moments(take => each(at => take(values[at]!)))
      const scale = 1 / Math.sqrt(variance + eps)
      each((at, c) => {
        out[at] = activate((values[at]! - mean) * scale * gamma[c]! + beta[c]!, activation(node))
      })
    }
  }
  return out
}

/** [frames, rows, channels / block, 2]: mean and sum of squared deviations of a row's cols x block values. */
function normPartials(node: Node, lookup: Lookup): Float32Array {
  const source = operand(node, 'source')!
  const values = lookup(source)
  const [frames, rows, cols, channels] = source.shape as [number, number, number, number]
  const block = node.attrs.block as number
  const out = new Float32Array((frames * rows * 2 * channels) / block)
  let at = 0
  for (let row = 0; row < frames * rows; row++) {
    for (let start = 0; start < channels; start += block) {
      const { mean, variance, n } = moments(take => {
        for (let x = 0; x < cols; x++) {
          for (let c = start; c < start + block; c++) take(values[(row * cols + x) * channels + c]!)
        }
      })
      out[at++] = mean
      out[at++] = variance * n
    }
  }
  return out
}

/** Partials of one or two tensors merged to [frames or 1, 2, channels]: scale, then shift. Each covers attrs.cols x block values. */
function normFold(node: Node, lookup: Lookup): Float32Array {
  const partials = operands(node, 'partials')
  const gamma = lookup(operand(node, 'gamma')!)
  const beta = lookup(operand(node, 'beta')!)
  const { groups, eps, over, cols, blocks } = node.attrs as unknown as {
    groups: number
    eps: number
    over: string
    cols: number
    blocks: number[]
  }
  const [frames, rows] = partials[0]!.shape as [number, number, number, number]
  const channels = partials.reduce((sum, tensor, i) => sum + tensor.shape[2]! * blocks[i]!, 0)
  const size = channels / groups
  const framesOut = over === 'frame' ? frames : 1
  const out = new Float32Array(framesOut * 2 * channels)
  for (let fo = 0; fo < framesOut; fo++) {
    for (let g = 0; g < groups; g++) {
      // Pooled moments: total sum, then within-block and between-block squares.
      const parts: { mean: number; squares: number; n: number }[] = []
      let offset = 0
      partials.forEach((tensor, s) => {
        const values = lookup(tensor)
        const count = tensor.shape[2]!
        for (let j = 0; j < count; j++) {
          if (Math.floor((offset + j * blocks[s]!) / size) !== g) continue
          for (let f = over === 'frame' ? fo : 0; f < (over === 'frame' ? fo + 1 : frames); f++) {
            for (let y = 0; y < rows; y++) {
              const at = ((f * rows + y) * count + j) * 2
              parts.push({ mean: values[at]!, squares: values[at + 1]!, n: cols * blocks[s]! })
            }
          }
        }
        offset += count * blocks[s]!
      })
      const n = parts.reduce((sum, part) => sum + part.n, 0)
      const mean = parts.reduce((sum, part) => sum + part.mean * part.n, 0) / n
      const squares = parts.reduce(
        (sum, part) => sum + part.squares + part.n * (part.mean - mean) ** 2,
        0,
      )
      const rstd = 1 / Math.sqrt(squares / n + eps)
      for (let c = g * size; c < (g + 1) * size; c++) {
        const scale = gamma[c]! * rstd
        out[fo * 2 * channels + c] = scale
        out[(fo * 2 + 1) * channels + c] = beta[c]! - mean * scale
      }
    }
  }
  return out
}

/** in * scale + shift by frame and channel, then an activation. */
export function applyAffine(
  values: ArrayLike<number>,
  positions: number,
  channels: number,
  frames: number,
  affine: { tensor: Tensor; values: ArrayLike<number> },
  act: Activation,
): Float32Array {
  const out = new Float32Array(positions * channels)
  for (let p = 0; p < positions; p++) {
    const frame = affine.tensor.shape[0] === 1 ? 0 : Math.floor(p / (positions / frames))
    for (let c = 0; c < channels; c++) {
      const scale = affine.values[frame * 2 * channels + c]!
      const shift = affine.values[(frame * 2 + 1) * channels + c]!
      out[p * channels + c] = activate(values[p * channels + c]! * scale + shift, act)
    }
  }
  return out
}

function affine(node: Node, lookup: Lookup): Float32Array {
  const { values, positions, channels } = sideBySide(node, lookup)
  const tensor = operand(node, 'affine')!
  const frames = framesOf(operand(node, 'source')!)
  return applyAffine(
    values,
    positions,
    channels,
    frames,
    { tensor, values: lookup(tensor) },
    activation(node),
  )
}

/** Row f of the positions is added to everything at index f of the first axis. */
function layerNorm(node: Node, lookup: Lookup): Float32Array {
  const { values, positions, channels } = sideBySide(node, lookup)
  const gamma = lookup(operand(node, 'gamma')!)
  const beta = lookup(operand(node, 'beta')!)
  const table = operand(node, 'positions')
  const added = table && lookup(table)
  const perIndex = positions / operand(node, 'source')!.shape[0]!
  const out = new Float32Array(positions * channels)
  for (let p = 0; p < positions; p++) {
    const { mean, variance } = moments(take => {
      for (let c = 0; c < channels; c++) take(values[p * channels + c]!)
    })
    const scale = 1 / Math.sqrt(variance + (node.attrs.eps as number))
    const index = Math.floor(p / perIndex)
    for (let c = 0; c < channels; c++) {
      const normed = (values[p * channels + c]! - mean) * scale * gamma[c]! + beta[c]!
      out[p * channels + c] = normed + (added?.[index * channels + c] ?? 0)
    }
  }
  return out
}
