import { expandNorms } from '../../lib/planner/expand.js'
import { fuse } from '../../lib/planner/fuse.js'
import {
  add,
  attention,
  conv2d,
  convTime,
  groupNorm,
  layerNorm,
  linear,
  type Program,
  program,
  silu,
  type Tensor,
  type Trace,
  upsampleNearest,
} from '../../lib/program/index.js'
import { randomNumbers } from './random-program.js'

/**
 * A few blocks of a video network, drawn from a seed: at most `most` ops after the planner's passes, so that every plan can be tried.
 * Shapes are large enough that tensors outweigh scratch, and differ in what they favour: many frames, many rows, wide channels.
 */
export function smallProgram(seed: number, most = 8): Program {
  for (let blocks = 5; blocks > 0; blocks--) {
    for (let attempt = 0; attempt < 4; attempt++) {
      const made = draw(seed * 64 + blocks * 4 + attempt, `small-${seed}`, blocks)
      if (fuse(expandNorms(made)).nodes.length <= most) return made
    }
  }
  return draw(seed, `small-${seed}`, 0)
}

function draw(seed: number, name: string, blocks: number): Program {
  const random = randomNumbers(seed)
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!
  return program(name, (trace: Trace) => {
    let weights = 0
    const weight = (...shape: number[]) => trace.weight(`w${weights++}`, shape)
    const conv = (source: Tensor | readonly [Tensor, Tensor], out: number, kernel: number) => {
      const width = Array.isArray(source)
        ? source[0].shape[3] + source[1].shape[3]
        : (source as Tensor).shape[3]!
      return conv2d(source, weight(out, width, kernel, kernel), { bias: weight(out) })
    }
    const norm = (source: Tensor) => {
      const width = source.shape[3]!
      const over = pick(['frame', 'video'] as const)
      return groupNorm(source, weight(width), weight(width), { groups: 2, over, act: 'silu' })
    }
    const product = (source: Tensor, out: number, act?: 'geglu') =>
      linear(source, weight(act ? 2 * out : out, source.shape[source.shape.length - 1]!), {
        ...(act && { act }),
      })
    const input = trace.input('x', [pick([2, 3, 5, 6]), pick([2, 4, 7, 10]), pick([4, 12, 32]), 4])
    let hidden = conv(input, pick([4, 8, 16, 32]), pick([1, 3]))
    let skip = hidden
    for (let i = 0; i < blocks; i++) {
      const [, rows, cols, width] = hidden.shape as [number, number, number, number]
      const before = hidden
      switch (pick([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])) {
        case 0:
          hidden = conv(hidden, pick([4, 8, 16, 32]), pick([1, 3]))
          break
        case 1:
          hidden = add(conv(silu(conv(hidden, pick([8, 32]), 3)), width, 3), hidden)
          break
        case 2:
          hidden = conv(norm(hidden), width, 3)
          break
        case 3: {
          const normed = layerNorm(hidden, weight(width), weight(width))
          hidden = add(product(product(normed, 4 * width, 'geglu'), width), hidden)
          break
        }
        case 4: {
          const over = pick(['space', 'time'] as const)
          const [q, k, v] = [0, 1, 2].map(() => product(hidden, width)) as [Tensor, Tensor, Tensor]
          hidden = add(attention(q, k, v, { heads: 2, over }), hidden)
          break
        }
        case 5:
          hidden = add(convTime(hidden, weight(width, width, 3, 1, 1)), hidden)
          break
        case 6:
          if (skip !== hidden && skip.shape.slice(0, 3).join() === hidden.shape.slice(0, 3).join())
            hidden = conv([hidden, skip], width, pick([1, 3]))
          else hidden = silu(hidden)
          break
        case 7:
          hidden = conv(upsampleNearest(hidden, [2 * rows, 2 * cols]), width, 3)
          break
        case 8:
          if (rows > 2)
            hidden = conv2d(hidden, weight(width, width, 3, 3), { stride: 2, bias: weight(width) })
          break
        default:
          hidden = silu(hidden)
      }
      if (random() < 0.4) skip = before
    }
    return { y: conv(hidden, 3, pick([1, 3])) }
  })
}
