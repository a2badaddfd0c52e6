/**
 * The oracle: runs a program in plain loops with float64 sums, one node after another, whole tensors. Slow and obviously right;
 * nothing here is shared with the kernels, the planner or the region rules. Float tensors are Float32Arrays whatever their dtype
 * (f16 and bf16 hold rounded values); i32 tensors are Int32Arrays.
 */
import { type Node, operand, type Program, type Tensor } from '../../lib/program/index.js'
import { evaluateNorm } from './interpreter-norm.js'
import { evaluatePointwise } from './interpreter-pointwise.js'
import { evaluateProduct } from './interpreter-product.js'
import { evaluateQuantise } from './interpreter-quantise.js'

export type TensorValues = Float32Array | Int32Array

/** Gives the values of an operand. */
export type Lookup = (tensor: Tensor) => TensorValues

export interface InterpretOptions {
  inputs: Readonly<Record<string, TensorValues>>
  /** Values of a weight by its key; where it gives none, the weight's fallback stands in. */
  weights?: (tensor: Tensor) => Float32Array | undefined
  /** Sees each node's result. */
  onNode?: (node: Node, values: Float32Array) => void
}

/** Runs a program and gives its outputs by name. @throws Error for inputs or weights of the wrong length, or missing. */
export function interpret(
  program: Program,
  options: InterpretOptions,
): Record<string, Float32Array> {
  const values = new Map<Tensor, TensorValues>()
  for (const [name, tensor] of Object.entries(program.inputs)) {
    values.set(tensor, checked(tensor, options.inputs[name]))
  }
  const lookup: Lookup = tensor => {
    const known = values.get(tensor)
    if (known) return known
    if (tensor.kind !== 'weight')
      throw new Error(`${tensor.name}: expected to be written before it is read`)
    const { fallback } = tensor as { fallback?: () => Float32Array }
    return checked(tensor, options.weights?.(tensor) ?? fallback?.())
  }
  const lastUse = new Map<Tensor, Node>()
  for (const node of program.nodes) for (const { tensor } of node.inputs) lastUse.set(tensor, node)
  const kept = new Set(Object.values(program.outputs))
  for (const node of program.nodes) {
    const result = evaluate(node, lookup)
    options.onNode?.(node, result)
    values.set(node.output, result)
    for (const { tensor } of node.inputs)
      if (lastUse.get(tensor) === node && !kept.has(tensor)) values.delete(tensor)
  }
  return Object.fromEntries(
    Object.entries(program.outputs).map(([name, tensor]) => [name, lookup(tensor) as Float32Array]),
  )
}

/** One node on given operands. */
export function evaluate(node: Node, lookup: Lookup): Float32Array {
  switch (node.op) {
    case 'conv2d':
    case 'conv_time':
    case 'linear':
      return evaluateProduct(node, lookup)
    case 'group_norm':
    case 'norm_partials':
    case 'norm_fold':
    case 'affine':
    case 'layer_norm':
      return evaluateNorm(node, lookup)
    case 'attention':
      return attention(node, lookup)
    case 'embedding':
      return embedding(node, lookup)
    case 'timestep':
      return timestep(node, lookup)
    case 'resize':
      return resize(node, lookup)
    case 'prepend':
      return prepend(node, lookup)
    case 'tokens':
      return tokens(node, lookup)
    case 'quantise':
    case 'dequantise':
      return evaluateQuantise(node, lookup)
    default:
      return evaluatePointwise(node, lookup)
  }
}

function checked(tensor: Tensor, values: TensorValues | undefined): TensorValues {
  const count = tensor.shape.reduce((a, b) => a * b, 1)
  if (values?.length !== count)
    throw new Error(`${tensor.name}: expected ${count} values, got ${values?.length ?? 'none'}`)
  return values
}

/** q: batch x tokens; over time a batch element is a pixel and a token a frame, over space a frame and a position in it. */
function attention(node: Node, lookup: Lookup): Float32Array {
  const [q, k, v] = ['q', 'k', 'v'].map(role => operand(node, role)!) as [Tensor, Tensor, Tensor]
  const [qs, ks, vs] = [q, k, v].map(tensor => lookup(tensor)) as [
    TensorValues,
    TensorValues,
    TensorValues,
  ]
  const channels = q.shape[q.shape.length - 1]!
  const heads = node.attrs.heads as number
  const size = channels / heads
  const rows = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1) / channels
  const time = node.attrs.over === 'time'
  const frames = (shape: readonly number[]) => (shape.length > 2 ? shape[0]! : 1)
  const perFrame = rows(q.shape) / frames(q.shape)
  const keysPerFrame = rows(k.shape) / frames(k.shape)
  const batch = time ? perFrame : frames(q.shape)
  const queries = time ? frames(q.shape) : perFrame
  const keys = time ? frames(k.shape) : keysPerFrame
  const queryRow = (b: number, i: number) => (time ? i * perFrame + b : b * perFrame + i)
  const keyFrame = (b: number) => (frames(k.shape) === 1 ? 0 : b)
  const keyRow = (b: number, j: number) =>
    time ? j * keysPerFrame + b : keyFrame(b) * keysPerFrame + j

  const out = new Float32Array(qs.length)
  const scores = new Float64Array(keys)
  const sums = new Float64Array(size)
  for (let b = 0; b < batch; b++) {
    for (let i = 0; i < queries; i++) {
      const seen = node.attrs.causal ? Math.min(keys, i + 1) : keys
      for (let h = 0; h < heads; h++) {
        const at = queryRow(b, i) * channels + h * size
        let most = Number.NEGATIVE_INFINITY
        for (let j = 0; j < seen; j++) {
          const key = keyRow(b, j) * channels + h * size
          let dot = 0
          for (let c = 0; c < size; c++) dot += qs[at + c]! * ks[key + c]!
          scores[j] = dot / Math.sqrt(size)
          most = Math.max(most, scores[j]!)
        }
        let total = 0
        sums.fill(0)
        for (let j = 0; j < seen; j++) {
          const share = Math.exp(scores[j]! - most)
          const value = keyRow(b, j) * channels + h * size
          total += share
          for (let c = 0; c < size; c++) sums[c]! += share * vs[value + c]!
        }
        for (let c = 0; c < size; c++) out[at + c] = sums[c]! / total
      }
    }
  }
  return out
}

function embedding(node: Node, lookup: Lookup): Float32Array {
  const table = operand(node, 'table')!
  const positions = operand(node, 'positions')
  const [rows, channels] = table.shape as [number, number]
  const tableValues = lookup(table)
  const positionValues = positions && lookup(positions)
  const out = new Float32Array(node.output.shape[0]! * channels)
  lookup(operand(node, 'ids')!).forEach((id, t) => {
    if (id < 0 || id >= rows)
      throw new Error(`${node.name}: expected an id below ${rows}, got ${id}`)
    for (let c = 0; c < channels; c++) {
      out[t * channels + c] =
        tableValues[id * channels + c]! + (positionValues?.[t * channels + c] ?? 0)
    }
  })
  return out
}

function timestep(node: Node, lookup: Lookup): Float32Array {
  const { dim, flip, shift, maxPeriod } = node.attrs as {
    dim: number
    flip: boolean
    shift: number
    maxPeriod: number
  }
  const numbers = lookup(operand(node, 't')!)
  const half = dim / 2
  const out = new Float32Array(numbers.length * dim)
  numbers.forEach((t, n) => {
    for (let i = 0; i < half; i++) {
      const angle = t * Math.exp((-Math.log(maxPeriod) * i) / (half - shift))
      out[n * dim + i] = flip ? Math.cos(angle) : Math.sin(angle)
      out[n * dim + half + i] = flip ? Math.sin(angle) : Math.cos(angle)
    }
  })
  return out
}

function prepend(node: Node, lookup: Lookup): Float32Array {
  const joined = [...lookup(operand(node, 'first')!), ...lookup(operand(node, 'source')!)]
  const positions = lookup(operand(node, 'positions')!)
  return Float32Array.from(joined, (x, i) => x + positions[i]!)
}

function tokens(node: Node, lookup: Lookup): Float32Array {
  const source = operand(node, 'source')!
  const channels = source.shape[1]!
  const { start, count } = node.attrs as { start: number; count: number }
  return lookup(source).slice(start * channels, (start + count) * channels) as Float32Array
}

function resize(node: Node, lookup: Lookup): Float32Array {
  const source = operand(node, 'source')!
  const values = lookup(source)
  const [, rows, cols, channels] = source.shape as [number, number, number, number]
  const [frames, outRows, outCols] = node.output.shape as [number, number, number, number]
  const out = new Float32Array(frames * outRows * outCols * channels)
  let at = 0
  for (let f = 0; f < frames; f++) {
    for (let y = 0; y < outRows; y++) {
      for (let x = 0; x < outCols; x++) {
        const row = Math.floor((y * rows) / outRows)
        const col = Math.floor((x * cols) / outCols)
        for (let c = 0; c < channels; c++)
          out[at++] = values[((f * rows + row) * cols + col) * channels + c]!
      }
    }
  }
  return out
}
