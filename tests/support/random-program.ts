import {
  add,
  attention,
  conv2d,
  convTime,
  groupNorm,
  layerNorm,
  lerp,
  linear,
  type Program,
  program,
  sigmoid,
  silu,
  type Tensor,
  type Trace,
  upsampleNearest,
} from '../../lib/program/index.js'

/** Deterministic numbers in [0, 1) from a seed (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

export interface RandomOptions {
  ops?: number
  /** Largest frames, rows, cols. */
  frames?: number
  side?: number
}

/**
 * A video network in small, drawn from a seed: residual blocks, skips read beside features, spatial and temporal attention,
 * feed-forwards, down- and upsampling, awkward sizes and channel counts.
 */
export function randomProgram(seed: number, options: RandomOptions = {}): Program {
  const random = randomNumbers(seed)
  const integer = (low: number, high: number) => low + Math.floor(random() * (high - low + 1))
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!
  const frames = integer(1, options.frames ?? 5)
  const side = options.side ?? 7
  return program(`random-${seed}`, (trace: Trace) => {
    const weights = new Weights(trace)
    let hidden: Tensor = trace.input('sample', [
      frames,
      integer(3, side),
      integer(3, side),
      pick([4, 6, 8]),
    ])
    const skips: Tensor[] = [hidden]
    const channels = (tensor: Tensor) => tensor.shape[3]!
    const norm = (source: Tensor | readonly [Tensor, Tensor], act: 'silu' | 'none') => {
      const count = Array.isArray(source)
        ? channels(source[0]) + channels(source[1])
        : channels(source as Tensor)
      const groups = pick([1, 2].concat(count % 4 === 0 ? [4] : []))
      return groupNorm(source, weights.vector(count), weights.vector(count), {
        groups,
        over: pick(['frame', 'video']),
        act,
      })
    }
    const count = options.ops ?? integer(3, 10)
    for (let i = 0; i < count; i++) {
      const width = channels(hidden)
      switch (integer(0, 9)) {
        case 0: {
          const out = pick([4, 8, 10, width])
          hidden = conv2d(hidden, weights.conv(out, width, pick([1, 3])), {
            bias: weights.vector(out),
          })
          break
        }
        case 1: {
          const inner = pick([4, 6, 12])
          const first = conv2d(norm(hidden, 'silu'), weights.conv(inner, width, 3), {
            bias: weights.vector(inner),
          })
          const second = conv2d(norm(first, 'silu'), weights.conv(width, inner, 3), {})
          hidden = add(second, hidden)
          break
        }
        case 2: {
          const mates = skips.filter(
            skip =>
              skip.shape.slice(0, 3).join() === hidden.shape.slice(0, 3).join() && skip !== hidden,
          )
          if (!mates.length) break
          const skip = pick(mates)
          const total = width + channels(skip)
          const joined = conv2d(norm([hidden, skip], 'silu'), weights.conv(width, total, 3), {})
          hidden = add(
            joined,
            conv2d([hidden, skip], weights.conv(width, total, 1), { bias: weights.vector(width) }),
          )
          break
        }
        case 3:
          hidden = add(attentionBlock(hidden, weights, 'space', pick([1, 2])), hidden)
          break
        case 4:
          hidden = add(attentionBlock(hidden, weights, 'time', pick([1, 2])), hidden)
          break
        case 5: {
          const normed = layerNorm(hidden, weights.vector(width), weights.vector(width))
          const inner = linear(normed, weights.matrix(4 * width, width), {
            bias: weights.vector(4 * width),
            act: 'geglu',
          })
          hidden = add(linear(inner, weights.matrix(width, 2 * width), {}), hidden)
          break
        }
        case 6:
          if (hidden.shape[1]! > 2 && hidden.shape[2]! > 2)
            hidden = conv2d(hidden, weights.conv(width, width, 3), {
              stride: 2,
              bias: weights.vector(width),
            })
          break
        case 7:
          if (hidden.shape[1]! <= side) {
            const up = upsampleNearest(hidden, [
              2 * hidden.shape[1]! - integer(0, 1),
              2 * hidden.shape[2]!,
            ])
            hidden = conv2d(up, weights.conv(width, width, 3), {})
          }
          break
        case 8: {
          const moved = convTime(norm(hidden, 'silu'), weights.convTime(width, width), {
            bias: weights.vector(width),
          })
          // One vector for all frames, or one for each.
          const rows = pick([1, hidden.shape[0]!])
          const placed = add(moved, linear(weights.matrix(rows, 4), weights.matrix(width, 4)))
          hidden = lerp(add(placed, hidden), hidden, sigmoid(weights.vector(1)))
          break
        }
        default:
          hidden = silu(hidden)
      }
      if (random() < 0.5) skips.push(hidden)
    }
    return {
      sample: conv2d(hidden, weights.conv(3, channels(hidden), 3), { bias: weights.vector(3) }),
    }
  })
}

function attentionBlock(
  hidden: Tensor,
  weights: Weights,
  over: 'space' | 'time',
  heads: number,
): Tensor {
  const width = hidden.shape[3]!
  const normed = layerNorm(hidden, weights.vector(width), weights.vector(width))
  const [q, k, v] = [0, 1, 2].map(() => linear(normed, weights.matrix(width, width))) as [
    Tensor,
    Tensor,
    Tensor,
  ]
  return linear(attention(q, k, v, { heads, over }), weights.matrix(width, width), {
    bias: weights.vector(width),
  })
}

class Weights {
  private count = 0
  constructor(private readonly trace: Trace) {}
  vector(length: number): Tensor {
    return this.trace.weight(`v${this.count++}`, [length])
  }
  /** Group norm of four groups, with its own scale and shift, and SiLU. */
  norm(source: Tensor): Tensor {
    const count = source.shape[3]!
    const options = { groups: 4, act: 'silu' } as const
    return groupNorm(source, this.vector(count), this.vector(count), options)
  }
  matrix(outputs: number, inputs: number): Tensor {
    return this.trace.weight(`m${this.count++}`, [outputs, inputs])
  }
  convTime(outputs: number, inputs: number): Tensor {
    return this.trace.weight(`t${this.count++}`, [outputs, inputs, 3, 1, 1])
  }
  conv(outputs: number, inputs: number, kernel: number): Tensor {
    return this.trace.weight(`c${this.count++}`, [outputs, inputs, kernel, kernel])
  }
}

/** Values for a program's inputs and weights, about normal in size. */
export function randomValues(
  of: Program,
  seed: number,
): { inputs: Record<string, Float32Array>; weights: Record<string, Float32Array> } {
  const random = randomNumbers(seed)
  const fill = (shape: readonly number[]) => {
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1))
    const scale = shape.length > 1 ? Math.sqrt(3 / shape.slice(1).reduce((a, b) => a * b, 1)) : 1
    return values.map(() => (2 * random() - 1) * scale)
  }
  const inputs = Object.fromEntries(
    Object.entries(of.inputs).map(([name, tensor]) => [
      name,
      fill([tensor.shape.reduce((a, b) => a * b, 1)]),
    ]),
  )
  return {
    inputs,
    weights: Object.fromEntries(of.weights.map(tensor => [tensor.name, fill(tensor.shape)])),
  }
}

/** Attention over frames of which none sees a later one. @param shape [frames, rows, cols, channels] */
export function causalOverFrames(shape: readonly number[]): Program {
  return program(`causal-${shape.join('x')}`, ({ input }) => {
    const [q, k, v] = ['q', 'k', 'v'].map(name => input(name, shape)) as [Tensor, Tensor, Tensor]
    return { sample: attention(silu(q), k, v, { heads: 1, over: 'time', causal: true }) }
  })
}

/** The end of a decoder in small: upsampling, a residual block that narrows, one that does not, at full resolution. */
export function decoderLike(rows: number, cols: number, wide = 16): Program {
  return program(`decoder-${rows}x${cols}`, trace => {
    const weights = new Weights(trace)
    const norm = (source: Tensor) => weights.norm(source)
    const block = (source: Tensor, out: number) => {
      const first = conv2d(norm(source), weights.conv(out, source.shape[3]!, 3), {
        bias: weights.vector(out),
      })
      const second = conv2d(norm(first), weights.conv(out, out, 3), {})
      return add(
        second,
        out === source.shape[3] ? source : conv2d(source, weights.conv(out, source.shape[3]!, 1)),
      )
    }
    let hidden = conv2d(trace.input('sample', [1, rows, cols, 4]), weights.conv(wide, 4, 3))
    hidden = block(hidden, wide)
    hidden = conv2d(upsampleNearest(hidden, [2 * rows, 2 * cols]), weights.conv(wide, wide, 3), {
      bias: weights.vector(wide),
    })
    hidden = block(block(hidden, wide / 2), wide / 2)
    return { sample: conv2d(norm(hidden), weights.conv(3, wide / 2, 3)) }
  })
}

/**
 * The shape of SVD's decoder: spatial and temporal residual blocks, an upsampling convolution, the same at half the width. Statistics of
 * temporal blocks span all frames, so that their first convolution's output is whole unless it is made again.
 */
export function temporalDecoderLike(
  frames: number,
  rows: number,
  cols: number,
  wide = 32,
): Program {
  return program(`temporal-decoder-${frames}x${rows}x${cols}`, trace => {
    const weights = new Weights(trace)
    const norm = (source: Tensor, over: 'frame' | 'video') => {
      const count = source.shape[3]!
      return groupNorm(source, weights.vector(count), weights.vector(count), {
        groups: 4,
        act: 'silu',
        over,
      })
    }
    const block = (source: Tensor, out: number) => {
      const inside = source.shape[3]!
      const first = conv2d(norm(source, 'frame'), weights.conv(out, inside, 3))
      const second = conv2d(norm(first, 'frame'), weights.conv(out, out, 3))
      const spatial = add(
        second,
        out === inside ? source : conv2d(source, weights.conv(out, inside, 1)),
      )
      const before = convTime(norm(spatial, 'video'), weights.convTime(out, out))
      const after = add(convTime(norm(before, 'video'), weights.convTime(out, out)), spatial)
      return lerp(spatial, after, sigmoid(weights.vector(1)))
    }
    let hidden = conv2d(trace.input('sample', [frames, rows, cols, 4]), weights.conv(wide, 4, 3))
    hidden = block(hidden, wide)
    hidden = conv2d(upsampleNearest(hidden, [2 * rows, 2 * cols]), weights.conv(wide, wide, 3))
    hidden = block(block(hidden, wide / 2), wide / 2)
    return { sample: conv2d(norm(hidden, 'frame'), weights.conv(3, wide / 2, 3)) }
  })
}

/** The shape of a UNet: wide features at full resolution that wait, while many steps at half of it go by, to be read as skips. */
export function skipLike(frames: number, rows: number, cols: number, wide = 16): Program {
  return program(`skip-${frames}x${rows}x${cols}`, trace => {
    const weights = new Weights(trace)
    const norm = (source: Tensor) => weights.norm(source)
    const block = (source: Tensor) => {
      const count = source.shape[3]!
      const first = conv2d(norm(source), weights.conv(count, count, 3))
      return add(conv2d(norm(first), weights.conv(count, count, 3)), source)
    }
    const stem = conv2d(trace.input('sample', [frames, rows, cols, 4]), weights.conv(wide, 4, 3))
    const skips = [block(stem)]
    skips.push(block(skips[0]!))
    let hidden = conv2d(skips[1]!, weights.conv(wide, wide, 3), { stride: 2 })
    for (let i = 0; i < 5; i++) hidden = block(hidden)
    hidden = conv2d(upsampleNearest(hidden, [rows, cols]), weights.conv(wide, wide, 3))
    for (const skip of skips.reverse()) {
      const both = [hidden, skip] as const
      const mixed = conv2d(both, weights.conv(wide, 2 * wide, 3))
      hidden = add(mixed, conv2d(both, weights.conv(wide, 2 * wide, 1)))
    }
    return { sample: conv2d(norm(hidden), weights.conv(3, wide, 3)) }
  })
}
