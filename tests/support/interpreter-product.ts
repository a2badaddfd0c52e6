import { type Activation, type Node, operand } from '../../lib/program/index.js'
import type { Lookup } from './interpreter.js'
import { activate, gelu } from './interpreter-math.js'
import { applyAffine, framesOf, sideBySide } from './interpreter-norm.js'

/**
 * Where a convolution reads; a linear is one row of positions under a 1x1, a temporal convolution an image whose rows are frames
 * and whose columns are pixels.
 */
interface Geometry {
  frames: number
  rows: number
  cols: number
  /** Size after the upsampling that it reads through. */
  inRows: number
  inCols: number
  outRows: number
  outCols: number
  kernelRows: number
  kernelCols: number
  stride: number
  top: number
  left: number
}

function geometry(node: Node, positions: number): Geometry {
  if (node.op === 'linear') {
    const line = {
      rows: 1,
      cols: positions,
      inRows: 1,
      inCols: positions,
      outRows: 1,
      outCols: positions,
    }
    return { frames: 1, ...line, kernelRows: 1, kernelCols: 1, stride: 1, top: 0, left: 0 }
  }
  const [frames, rows, cols] = operand(node, 'source')!.shape as [number, number, number, number]
  if (node.op === 'conv_time') {
    const pixels = rows * cols
    const video = {
      rows: frames,
      cols: pixels,
      inRows: frames,
      inCols: pixels,
      outRows: frames,
      outCols: pixels,
    }
    return { frames: 1, ...video, kernelRows: 3, kernelCols: 1, stride: 1, top: 1, left: 0 }
  }
  const [, outRows, outCols] = node.output.shape as [number, number, number, number]
  const [inRows, inCols] = (node.attrs.upsampleTo as [number, number] | undefined) ?? [rows, cols]
  const [top, left] = node.attrs.padding as [number, number, number, number]
  const kernel = operand(node, 'weight')!.shape[2]!
  return {
    frames,
    rows,
    cols,
    inRows,
    inCols,
    outRows,
    outCols,
    kernelRows: kernel,
    kernelCols: kernel,
    stride: node.attrs.stride as number,
    top,
    left,
  }
}

/**
 * conv2d, conv_time and linear, fused parts included: act( bias + vector + residual + Σ prologue(source) · weight ), the prologue being
 * prologueAct( source · scale + shift ) inside the input and zero in the padding.
 */
export function evaluateProduct(node: Node, lookup: Lookup): Float32Array {
  const source = sideBySide(node, lookup)
  const { positions, channels } = source
  const frames = framesOf(operand(node, 'source')!)
  const affine = operand(node, 'affine')
  const prologue = (node.attrs.prologueAct as Activation | undefined) ?? 'none'
  let values = source.values
  if (affine)
    values = applyAffine(
      values,
      positions,
      channels,
      frames,
      { tensor: affine, values: lookup(affine) },
      prologue,
    )
  else if (prologue !== 'none') values = Float32Array.from(values, x => activate(x, prologue))

  const weight = operand(node, 'weight')!
  const outputs = weight.shape[0]!
  const g = geometry(node, positions)
  const taps = tapMajor(lookup(weight), outputs, channels, g.kernelRows * g.kernelCols)
  const bias = operand(node, 'bias') && lookup(operand(node, 'bias')!)
  const sums = new Float64Array(g.frames * g.outRows * g.outCols * outputs)
  const sum = new Float64Array(outputs)
  let at = 0
  for (let f = 0; f < g.frames; f++) {
    for (let y = 0; y < g.outRows; y++) {
      for (let x = 0; x < g.outCols; x++, at += outputs) {
        for (let o = 0; o < outputs; o++) sum[o] = bias?.[o] ?? 0
        for (let ky = 0; ky < g.kernelRows; ky++) {
          const row = y * g.stride + ky - g.top
          if (row < 0 || row >= g.inRows) continue
          for (let kx = 0; kx < g.kernelCols; kx++) {
            const col = x * g.stride + kx - g.left
            if (col < 0 || col >= g.inCols) continue
            const stored =
              Math.floor((row * g.rows) / g.inRows) * g.cols + Math.floor((col * g.cols) / g.inCols)
            const from = (f * g.rows * g.cols + stored) * channels
            const tap = (ky * g.kernelCols + kx) * channels
            for (let c = 0; c < channels; c++)
              addScaled(sum, taps, (tap + c) * outputs, values[from + c]!)
          }
        }
        sums.set(sum, at)
      }
    }
  }
  return finish(node, lookup, sums, outputs)
}

/** sum += scale * row: apart, so that it is compiled once and well. */
function addScaled(sum: Float64Array, rows: Float64Array, at: number, scale: number): void {
  for (let o = 0; o < sum.length; o++) sum[o]! += scale * rows[at + o]!
}

/** [outputs, channels, taps] to [taps, channels, outputs]. */
function tapMajor(
  weight: ArrayLike<number>,
  outputs: number,
  channels: number,
  taps: number,
): Float64Array {
  const out = new Float64Array(outputs * channels * taps)
  for (let o = 0; o < outputs; o++) {
    for (let c = 0; c < channels; c++) {
      for (let t = 0; t < taps; t++)
        out[(t * channels + c) * outputs + o] = weight[(o * channels + c) * taps + t]!
    }
  }
  return out
}

/** Vector, residual and activation onto the sums; GEGLU joins value and gate. */
function finish(node: Node, lookup: Lookup, sums: Float64Array, outputs: number): Float32Array {
  const act = (node.attrs.act as Activation | undefined) ?? 'none'
  const rows = sums.length / outputs
  if (act === 'geglu') {
    const half = outputs / 2
    return Float32Array.from({ length: rows * half }, (_, i) => {
      const at = Math.floor(i / half) * outputs + (i % half)
      return sums[at]! * gelu(sums[at + half]!)
    })
  }
  const vector = operand(node, 'vector')
  const vectorValues = vector && lookup(vector)
  const residual = operand(node, 'residual') && lookup(operand(node, 'residual')!)
  const perFrame = rows / framesOf(node.output)
  return Float32Array.from(sums, (sum, at) => {
    const frame =
      vector?.shape.length === 2 && vector.shape[0]! > 1 ? Math.floor(at / outputs / perFrame) : 0
    return activate(
      sum + (vectorValues?.[frame * outputs + (at % outputs)] ?? 0) + (residual?.[at] ?? 0),
      act,
    )
  })
}
