// Products by wgmma on compute capability 9.0: whichever slices a layer is cut into, the same kernel and the same bits.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { BudgetError } from '../../lib/errors.js'
import { add, conv2d, linear, type Program, program } from '../../lib/program/index.js'
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

/** Random weights in float16, in a file, as values too. */
function storedWeights(of: Program): {
  source: WeightSource
  values: Record<string, Float32Array>
} {
  const { weights } = randomValues(of, 3)
  const path = join(folder, 'weights')
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

const { source, values } = storedWeights(wide)
const { inputs } = randomValues(wide, 3)

async function execute(options: CompileOptions): Promise<Float32Array> {
  const common = { device: gpu, dtype: 'f16', weights: source, poison: true } as const
  await using executable = await compile(wide, { ...common, ...options })
  return (await executable.run(inputs)).sample!
}

function smallest(): number {
  try {
    planProgramOf(wide, { device: gpu, dtype: 'f16', weights: source, budget: 0 })
  } catch (error) {
    return (error as BudgetError).needed
  }
  throw new Error('expected a budget of 0 to be too small')
}

/** Launches of a kernel that the emulated device noted while `run` ran. */
async function launchesOf(kernel: string, run: () => Promise<unknown>): Promise<number> {
  const path = join(folder, 'trace')
  writeFileSync(path, '')
  process.env.SLUICE_EMULATION_TRACE = path
  await run()
  delete process.env.SLUICE_EMULATION_TRACE
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter(line => line === `launch ${kernel}`).length
}

test('agrees with the reference, whole and cut into as many slices as there can be', async () => {
  let whole: Float32Array = new Float32Array()
  const once = await launchesOf('conv_wgmma', async () => {
    whole = await execute({ slices: 1 })
  })
  const expected = interpret(wide, { inputs, weights: tensor => values[tensor.name] }).sample!
  assert.ok(difference(whole, expected).relative < 1e-2)
  const often = await launchesOf('conv_wgmma', async () => {
    assert.equal(await execute({ budget: smallest() }), whole)
  })
  if (!isReal) assert.ok(once >= 6 && often > once, `${once} launches, then ${often}`)
})

test.run()
