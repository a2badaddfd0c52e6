import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { expandNorms } from '../../lib/planner/expand.js'
import { fuse } from '../../lib/planner/fuse.js'
import type { Node } from '../../lib/program/graph.js'
import { attention, conv2d, convTime, linear, program } from '../../lib/program/index.js'
import { opSpec } from '../../lib/program/op.js'
import type { Region } from '../../lib/program/region.js'
import { elementCount, type Tensor } from '../../lib/program/tensor.js'
import { evaluate } from '../support/interpreter.js'
import { randomNumbers, randomProgram } from '../support/random-program.js'

/**
 * Perturbs one element of an input and sees which outputs change: every changed output's region must read that element. The rule may
 * claim more than is needed, never less.
 */
test('region rules cover what brute force finds', () => {
  let checked = 0
  const seen = new Set<string>()
  for (let seed = 0; seed < 60; seed++) {
    const random = randomNumbers(seed)
    const program = fuse(expandNorms(randomProgram(seed, { frames: 3, side: 5, ops: 4 })))
    for (const node of program.nodes) {
      const values = new Map(node.inputs.map(({ tensor }) => [tensor, valuesOf(tensor, random)]))
      const before = evaluate(node, tensor => values.get(tensor)!)
      node.inputs.forEach(({ tensor }, input) => {
        for (let probe = 0; probe < 3; probe++) {
          const element = Math.floor(random() * elementCount(tensor.shape))
          const old = values.get(tensor)!
          const changed = old.slice()
          changed[element]! += 0.5
          const after = evaluate(node, t => (t === tensor ? changed : values.get(t)!))
          after.forEach((value, output) => {
            if (value === before[output]) return
            checked++
            const wanted = at(node.output, output)
            // The same tensor may be read by several operands.
            const covered = node.inputs.some(
              (other, i) =>
                other.tensor === tensor && holds(regions(node, wanted)[i]!, at(tensor, element)),
            )
            assert.ok(
              covered,
              `${node.op} input ${input} (${node.inputs[input]!.role}) element ${element} changes output ${output}`,
            )
          })
        }
        seen.add(`${node.op} ${node.inputs[input]!.role}`)
      })
    }
  }
  assert.ok(checked > 10_000)
  for (const rule of [
    'conv2d source',
    'conv2d affine',
    'conv2d residual',
    'conv_time source',
    'conv_time affine',
    'conv_time residual',
    'linear source',
    'attention k',
    'norm_partials source',
    'norm_fold partials',
  ]) {
    assert.ok(seen.has(rule), `never tried: ${rule}`)
  }
})

test('a larger region reads at least what its parts read', () => {
  for (let seed = 0; seed < 40; seed++) {
    const random = randomNumbers(seed)
    for (const node of fuse(expandNorms(randomProgram(seed))).nodes) {
      const wanted = node.output.shape.map(extent => {
        const start = Math.floor(random() * extent)
        return [start, start + 1 + Math.floor(random() * (extent - start))] as const
      })
      const large = regions(node, wanted)
      const corner = regions(
        node,
        wanted.map(([start]) => [start, start + 1] as const),
      )
      large.forEach((region, i) =>
        assert.ok(
          corner[i]!.every(([a, b], axis) => region[axis]![0] <= a && b <= region[axis]![1]),
          `${node.op} input ${i}`,
        ),
      )
    }
  }
})

test('a smaller region never needs more scratch', () => {
  const target = { backend: 'cpu', threads: 1 }
  let tried = 0
  for (let seed = 0; seed < 300; seed++) {
    const random = randomNumbers(seed)
    const size = (most: number) => 1 + Math.floor(most ** random())
    const [frames, rows, cols, channels] = [size(30), size(90), size(300), size(3000)] as const
    const traced = program('scratch', t => {
      const x = t.input('x', [frames, rows, cols, channels])
      const kernel = random() < 0.5 ? 1 : 3
      const weight = (name: string, ...taps: number[]) => t.weight(name, [8, channels, ...taps])
      return {
        a: conv2d(x, weight('a', kernel, kernel), {
          stride: kernel === 1 || random() < 0.5 ? 1 : 2,
          padding: kernel - 1,
        }),
        b: convTime(x, weight('b', 3, 1, 1)),
        c: linear(x, weight('c')),
        d: linear(t.input('y', [rows * cols, channels]), weight('c')),
        e: attention(x, x, x, { heads: 1, over: random() < 0.5 ? 'time' : 'space' }),
      }
    })
    for (const node of traced.nodes) {
      const { scratch } = opSpec(node.op)
      const axis = node.output.shape.length === 4 && random() < 0.5 ? 1 : 0
      const extent = node.output.shape[axis]!
      const large = 1 + Math.floor(random() * extent)
      const small = 1 + Math.floor(random() * large)
      const bytes = (count: number) => {
        const wanted = node.output.shape.map((whole, i) => [0, i === axis ? count : whole] as const)
        return scratch!(node, node.output, wanted, target).bytesPerThread
      }
      const where = `${node.op} ${node.output.shape} axis ${axis}: ${small} of ${large}`
      assert.ok(bytes(small) <= bytes(large), where)
      if (small < large) tried++
    }
  }
  assert.ok(tried > 500)
})

function regions(node: Node, wanted: Region): Region[] {
  return opSpec(node.op).regions(node, node.output, wanted)
}

function valuesOf(tensor: Tensor, random: () => number): Float32Array {
  return new Float32Array(elementCount(tensor.shape)).map(
    () => 2 * random() - 1 + (tensor.name.endsWith('partials') ? 1 : 0),
  )
}

/** The region of one element. */
function at(tensor: Tensor, element: number): Region {
  const index = tensor.shape.map(() => 0)
  for (let axis = tensor.shape.length - 1, rest = element; axis >= 0; axis--) {
    index[axis] = rest % tensor.shape[axis]!
    rest = Math.floor(rest / tensor.shape[axis]!)
  }
  return index.map(i => [i, i + 1] as const)
}

function holds(region: Region, element: Region): boolean {
  return region.every(
    ([start, stop], axis) => start <= element[axis]![0] && element[axis]![1] <= stop,
  )
}

test.run()
