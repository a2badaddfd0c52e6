// Products by wgmma on compute capability 9.0: whichever slices a layer is cut into, the same kernel and the same bits.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { BudgetError } from '../../lib/errors.js'
import type { StagePlan } from '../../lib/planner/plan.js'
import { takesWgmma } from '../../lib/planner/wgmma.js'
import { operand } from '../../lib/program/graph.js'
import {
  add,
  conv2d,
  convTime,
  groupNorm,
  linear,
  type Program,
  program,
  type Tensor,
} from '../../lib/program/index.js'
import { elementCount } from '../../lib/program/tensor.js'
import { type CompileOptions, compile, planProgramOf } from '../../lib/runtime/executable.js'
import type { WeightSource } from '../../lib/runtime/weights.js'
import { halfBits, halfValue } from '../src/cpu/support.js'
import { interpret } from '../support/interpreter.js'
import { randomValues } from '../support/random-program.js'
import { difference } from '../support/recorded.js'
import { gpu, isReal, useEmulation } from './support.js'

useEmulation()

const folder = mkdtempSync(join(tmpdir(), 'sluice-boxes-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

/** Convolutions and products of 64 channels and more, no norm before any. */
const wide: Program = program('wide', trace => {
  const conv = (name: string, outputs: number, inputs: number, kernel: number) =>
    trace.weight(name, [outputs, inputs, kernel, kernel])
  const sample = trace.input('sample', [5, 9, 8, 4])
  const first = conv2d(sample, conv('first', 64, 4, 3))
  const second = conv2d(first, conv('second', 64, 64, 3), { bias: trace.weight('bias', [64]) })
  const both = conv2d([second, first], conv('both', 128, 128, 1))
  const gated = linear(both, trace.weight('gates', [256, 128]), { act: 'geglu' })
  const added = add(linear(gated, trace.weight('back', [128, 128])), both)
  const doubled = conv2d(added, conv('double', 64, 128, 3), { upsampleTo: [18, 16] })
  return { sample: conv2d(doubled, conv('half', 72, 64, 3), { stride: 2 }) }
})

/** Residual blocks with norms before their convolutions: over frames, beside a skip, over the video; then one of 4 channels. */
const normed: Program = program('normed', trace => {
  let count = 0
  const weight = (...shape: number[]) => trace.weight(`w${count++}`, shape)
  const norm = (source: Tensor | readonly [Tensor, Tensor], over: 'frame' | 'video' = 'frame') => {
    const width = Array.isArray(source) ? 128 : 64
    return groupNorm(source, weight(width), weight(width), { groups: 8, act: 'silu', over })
  }
  const block = (source: Tensor) => {
    const first = conv2d(norm(source), weight(64, 64, 3, 3), { bias: weight(64) })
    return add(conv2d(norm(first), weight(64, 64, 3, 3)), source)
  }
  const stem = conv2d(trace.input('sample', [4, 6, 5, 4]), weight(64, 4, 3, 3))
  const skip = block(stem)
  const hidden = block(skip)
  const mixed = conv2d(norm([hidden, skip]), weight(64, 128, 3, 3))
  const before = convTime(norm(mixed, 'video'), weight(64, 64, 3, 1, 1))
  const after = add(convTime(norm(before, 'video'), weight(64, 64, 3, 1, 1)), mixed)
  const narrow = conv2d(linear(norm(after), weight(64, 64)), weight(8, 64, 3, 3))
  const gamma = weight(8)
  return {
    sample: conv2d(groupNorm(narrow, gamma, weight(8), { groups: 2 }), weight(3, 8, 3, 3)),
  }
})

/** Random weights in float16, in a file, as values too. */
function storedWeights(of: Program): {
  source: WeightSource
  values: Record<string, Float32Array>
} {
  const { weights } = randomValues(of, 3)
  const path = join(folder, of.name)
  const places = new Map<string, number>()
  const halves: Uint16Array[] = []
  const values: Record<string, Float32Array> = {}
  let offset = 0
  for (const { name } of of.weights) {
    const bits = Uint16Array.from(weights[name]!, x => halfBits(x, 'f16'))
    values[name] = Float32Array.from(bits, x => halfValue(x, 'f16'))
    places.set(name, offset)
    halves.push(bits)
    offset += bits.byteLength
  }
  writeFileSync(path, Buffer.concat(halves.map(bits => Buffer.from(bits.buffer))))
  const shapes = new Map(of.weights.map(({ name, shape }) => [name, shape]))
  const find = (key: string) => {
    const shape = shapes.get(key)
    if (!shape) return undefined
    const bytes = elementCount(shape) * 2
    return { path, dtype: 'f16' as const, shape, offset: places.get(key)!, bytes }
  }
  return { source: { where: folder, find }, values }
}

const known = new Map(
  [wide, normed].map(of => [of, { ...storedWeights(of), inputs: randomValues(of, 3).inputs }]),
)

async function execute(of: Program, options: CompileOptions): Promise<Float32Array> {
  const { source, inputs } = known.get(of)!
  const common = { device: gpu, dtype: 'f16', weights: source, poison: true } as const
  await using executable = await compile(of, { ...common, ...options })
  const { sample } = await executable.run(inputs)
  const predicted = executable.plan.peakBytes
  assert.is(executable.close().peakBytes, predicted)
  return sample!
}

function planned(of: Program, budget?: number): StagePlan {
  return planProgramOf(of, { device: gpu, dtype: 'f16', weights: known.get(of)!.source, budget })
}

function smallest(of: Program): number {
  try {
    planned(of, 0)
  } catch (error) {
    return (error as BudgetError).needed
  }
  throw new Error('expected a budget of 0 to be too small')
}

/** Launches that the emulated device noted while `run` ran, by kernel. */
async function launchesOf(run: () => Promise<unknown>): Promise<(kernel: string) => number> {
  const path = join(folder, 'trace')
  writeFileSync(path, '')
  process.env.SLUICE_EMULATION_TRACE = path
  await run()
  delete process.env.SLUICE_EMULATION_TRACE
  const lines = readFileSync(path, 'utf8').split('\n')
  return kernel => lines.filter(line => line.startsWith(`launch ${kernel} on `)).length
}

/** Products of a plan that the planner expects wgmma to compute, and the others. */
function expected(plan: StagePlan): { wgmma: number; others: number } {
  const nodes = plan.programs.main!.program.nodes.filter(node => operand(node, 'weight'))
  const wgmma = nodes.filter(node => takesWgmma(node, operand(node, 'source')!.dtype, 'f16')).length
  return { wgmma, others: nodes.length - wgmma }
}

for (const [of, least] of [
  [wide, 6],
  [normed, 8],
] as const)
  test(`${of.name}: agrees with the reference, whole and cut into as many slices as there can be`, async () => {
    const { values, inputs } = known.get(of)!
    let whole: Float32Array = new Float32Array()
    const once = await launchesOf(async () => {
      whole = await execute(of, { slices: 1 })
    })
    const reference = interpret(of, { inputs, weights: tensor => values[tensor.name] }).sample!
    assert.ok(difference(whole, reference).relative < 1e-2)
    const often = await launchesOf(async () => {
      assert.equal(await execute(of, { budget: smallest(of) }), whole)
    })
    if (isReal) return
    const { wgmma, others } = expected(planned(of))
    assert.ok(wgmma >= least, `${wgmma}`)
    assert.equal([once('conv_wgmma'), once('conv')], [wgmma, others])
    assert.ok(often('conv_wgmma') > wgmma)
  })

test.run()
