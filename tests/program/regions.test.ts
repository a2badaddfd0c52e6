import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { expandNorms } from '../../lib/planner/expand.js'
import { fuse } from '../../lib/planner/fuse.js'
import { type Node, operands } from '../../lib/program/graph.js'
import { attention, conv2d, convTime, linear, program } from '../../lib/program/index.js'
import { opNames, opSpec } from '../../lib/program/op.js'
import {
  containsRegion,
  hull,
  type Region,
  sameRegion,
  withAxis,
} from '../../lib/program/region.js'
import { elementCount, type Tensor } from '../../lib/program/tensor.js'
import { evaluate, type TensorValues } from '../support/interpreter.js'
import { narrow } from '../support/interpreter-quantise.js'
import { networks } from '../support/networks.js'
import { opForms } from '../support/op-forms.js'
import { randomNumbers, randomProgram } from '../support/random-program.js'

/** Roles whose region may be more than needed, and why. */
const mayReadMore = new Map<string, (node: Node) => boolean>([
  // At the border a kernel's outer taps meet only padding.
  ['conv2d weight', () => true],
  ['conv_time weight', () => true],
  // Which rows are read, the ids say.
  ['embedding table', () => true],
  // The first token sees only itself, whatever it asks.
  ['attention q', node => node.attrs.causal === true],
  // Kernels start at the first of them and mask, or skip, what they do not want.
  ['attention k', node => node.attrs.causal === true],
  ['attention v', node => node.attrs.causal === true],
  ['prepend source', () => true],
  ['prepend first', () => true],
])

test('region rules of every op in every form are what brute force finds', () => {
  const tried = new Set<string>()
  for (const { form, node } of opForms()) {
    tried.add(node.op)
    const random = randomNumbers(form.length)
    const needs = node.inputs.map((_, input) => influence(node, input, random))
    for (const wanted of boxes(node.output, random)) {
      const claimed = regions(node, wanted)
      // Channels are read together, and a norm's scale beside its shift: only their whole range is exact.
      const together = node.op === 'norm_fold' ? [1, 2] : [node.output.shape.length - 1]
      const exact = together.every(axis => wanted[axis]!.join() === `0,${node.output.shape[axis]}`)
      node.inputs.forEach(({ role, tensor }, input) => {
        const needed = hullOf(needs[input]!, node.output, tensor, wanted)
        const where = `${node.op} (${form}) ${role}, operand ${input}, of ${wanted.join(' | ')}`
        const names = `needs ${needed?.join(' | ')}, the rule says ${claimed[input]!.join(' | ')}`
        if (needed) assert.ok(containsRegion(claimed[input]!, needed), `${where}: ${names}`)
        if (!exact || mayReadMore.get(`${node.op} ${role}`)?.(node)) return
        assert.ok(needed && sameRegion(claimed[input]!, needed), `${where}: ${names}`)
      })
    }
  }
  assert.equal([...tried].sort(), opNames().sort())
})

test('the forms tried are those that programs have', () => {
  const tried = new Set(opForms().flatMap(({ node }) => signature(node)))
  const size = { frames: 3, rows: 64, cols: 64 }
  const programs = [
    ...Object.values(networks).map(trace => trace(size)),
    ...Array.from({ length: 200 }, (_, seed) => randomProgram(seed)),
  ]
  for (const program of programs)
    for (const node of fuse(expandNorms(program)).nodes)
      for (const part of signature(node)) assert.ok(tried.has(part), `${node.name}: ${part}`)
})

/**
 * In random programs, of one element of an input, which outputs change: every changed output's region must read that element. Here
 * operands may be one tensor.
 */
test('region rules cover what brute force finds in random programs', () => {
  let checked = 0
  for (let seed = 0; seed < 60; seed++) {
    const random = randomNumbers(seed)
    const program = fuse(expandNorms(randomProgram(seed, { frames: 3, side: 5, ops: 4 })))
    for (const node of program.nodes) {
      const values = new Map(node.inputs.map(({ tensor }) => [tensor, valuesOf(tensor, random)]))
      const before = evaluate(node, tensor => values.get(tensor)!)
      node.inputs.forEach(({ tensor }, input) => {
        for (let probe = 0; probe < 3; probe++) {
          const element = Math.floor(random() * elementCount(tensor.shape))
          const changed = values.get(tensor)!.slice()
          changed[element]! += 0.5
          const after = evaluate(node, t => (t === tensor ? changed : values.get(t)!))
          after.forEach((value, output) => {
            if (value === before[output]) return
            checked++
            const claimed = regions(node, at(node.output, output))
            // The same tensor may be read by several operands.
            const covered = node.inputs.some(
              (other, i) =>
                other.tensor === tensor && containsRegion(claimed[i]!, at(tensor, element)),
            )
            assert.ok(
              covered,
              `${node.op} input ${input} (${node.inputs[input]!.role}) element ${element} changes output ${output}`,
            )
          })
        }
      })
    }
  }
  assert.ok(checked > 10_000)
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

/** What forms are compared by: how many operands of a role, what each is seen as, and the attributes that regions may depend on. */
function signature({ op, inputs, attrs, output }: Node): string[] {
  const found: string[] = []
  for (const role of new Set(inputs.map(input => input.role))) {
    const tensors = operands({ inputs }, role)
    const shape = tensors[0]!.shape
    const axes = `${shape.length} of ${output.shape.length} axes`
    const perFrame = role === 'affine' || role === 'vector'
    const frames = perFrame ? `, ${shape[0] === 1 ? 'shared' : 'each'}` : ''
    found.push(`${op} with ${tensors.length} ${role}`, `${op} ${role}: ${axes}${frames}`)
  }
  for (const key of ['upsampleTo', 'prologueAct', 'causal'])
    if (attrs[key] && attrs[key] !== 'none') found.push(`${op} with ${key}`)
  if (attrs.over) found.push(`${op} over ${attrs.over}`)
  const kernel = operands({ inputs }, 'weight')[0]?.shape[2]
  if (attrs.stride) found.push(`${op} ${attrs.stride === kernel ? 'patches' : attrs.stride}`)
  if (attrs.act === 'geglu') found.push(`${op} geglu`)
  return found
}

/** For each element of an operand (columns) which outputs (rows) change with it: tried with a rise and with a fall. */
function influence(node: Node, input: number, random: () => number): Uint8Array[] {
  const { tensor } = node.inputs[input]!
  const values = new Map(node.inputs.map(({ tensor }) => [tensor, valuesOf(tensor, random, node)]))
  const before = bitsOf(evaluate(node, t => values.get(t)!))
  const reads = Array.from(before, () => new Uint8Array(elementCount(tensor.shape)))
  for (let element = 0; element < elementCount(tensor.shape); element++) {
    for (const changed of changesOf(values.get(tensor)!, element, node)) {
      const after = bitsOf(evaluate(node, t => (t === tensor ? changed : values.get(t)!)))
      after.forEach((value, output) => {
        if (value !== before[output]) reads[output]![element] = 1
      })
    }
  }
  return reads
}

/** The values with one of them another: a higher and a lower number, the next id, or other bytes of a stored word. */
function* changesOf(values: TensorValues, element: number, { op }: Node): Generator<TensorValues> {
  if (op === 'dequantise') {
    const changed = values.slice()
    bitsOf(changed)[element]! ^= 0x01010101
    return yield changed
  }
  for (const change of values instanceof Int32Array ? [1] : [0.7, -0.9]) {
    const changed = values.slice()
    changed[element]! += change
    yield changed
  }
}

/** Stored words are opaque: as floats, some are no numbers. */
function bitsOf({ buffer, byteOffset, length }: TensorValues): Int32Array {
  return new Int32Array(buffer, byteOffset, length)
}

/** The smallest region of an operand that holds all elements on which a region of the output depends; undefined: on none. */
function hullOf(
  reads: readonly Uint8Array[],
  output: Tensor,
  tensor: Tensor,
  wanted: Region,
): Region | undefined {
  let found: Region | undefined
  reads.forEach((elements, index) => {
    if (!containsRegion(wanted, at(output, index))) return
    elements.forEach((read, element) => {
      if (read) found = found ? hull(found, at(tensor, element)) : at(tensor, element)
    })
  })
  return found
}

/** The whole output, each slice along each axis, and random boxes, half of them with all channels. */
function boxes(output: Tensor, random: () => number): Region[] {
  const whole = output.shape.map(extent => [0, extent] as const)
  const found: Region[] = [whole]
  whole.slice(0, -1).forEach(([, extent], axis) => {
    for (let start = 0; start < extent; start++)
      found.push(withAxis(whole, axis, [start, start + 1]))
  })
  for (let i = 0; i < 24; i++) {
    const box = output.shape.map((extent, axis) => {
      if (axis === output.shape.length - 1 && i % 2 === 0) return [0, extent] as const
      const start = Math.floor(random() * extent)
      return [start, start + 1 + Math.floor(random() * (extent - start))] as const
    })
    found.push(box)
  }
  return found
}

function valuesOf(tensor: Tensor, random: () => number, node?: Node): TensorValues {
  const count = elementCount(tensor.shape)
  // Ids are of a table, and one more is still in it.
  if (node?.op === 'dequantise') {
    const channels = node.output.shape[3]!
    const pixels = elementCount(node.output.shape) / channels
    return narrow(
      new Float32Array(pixels * channels).map(() => 2 * random() - 1),
      channels,
    )
  }
  if (tensor.dtype === 'i32') {
    const rows = node!.inputs.find(({ role }) => role === 'table')!.tensor.shape[0]!
    return new Int32Array(count).map(() => Math.floor(random() * (rows - 1)))
  }
  return new Float32Array(count).map(
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

test.run()
