import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { AbortError, DeviceError, MemoryError, NativeError, OptionError } from '../../lib/errors.js'
import { absent, actCode, CommandWriter, dtypeCode, type View } from '../../lib/planner/commands.js'
import { add, embedding, program, silu } from '../../lib/program/index.js'
import { devices } from '../../lib/runtime/device.js'
import { compile, planProgramOf } from '../../lib/runtime/executable.js'
import { native } from '../../lib/runtime/native.js'
import { rejectsCode, throwsCode } from '../src/support.js'
import { driverSlack, gpu, isReal, useEmulation } from './support.js'

useEmulation()
if (!isReal) process.env.SLUICE_EMULATION_MEMORY = `${256 << 20}`
/** Of the program that is too large: 64 MiB a tensor in emulation. */
const rows = isReal ? 1 << 16 : 1 << 12

const free = () => devices().find(({ id }) => id === gpu)!.freeBytes
const near = (actual: number, expected: number) =>
  assert.ok(Math.abs(actual - expected) <= driverSlack, `${actual}, not ${expected}`)

test('memory comes zeroed, in whole granules, and goes back at once', () => {
  const before = free()
  const block = native().createBlock(gpu, 9_000_000)
  assert.is(block.tileBytes, 10 << 20)
  near(before - free(), block.tileBytes)
  const values = Float32Array.from({ length: 2_250_000 }, (_, i) => i)
  const seen = new Float32Array(values.length).fill(1)
  block.read(0, seen)
  assert.ok(seen.every(value => value === 0))
  block.write(0, values)
  block.read(0, seen)
  assert.equal(seen, values)
  block.fill(4, 8, 0xa5)
  block.read(0, seen)
  assert.equal([...new Uint32Array(seen.buffer, 0, 4)], [0, 0xa5a5a5a5, 0xa5a5a5a5, 0x40400000])
  assert.is(block.lastDifferent(0, 0), 9_000_000)
  block.release()
  near(free(), before)
})

test('more memory than there is: a typed error, nothing is kept, and the next program runs', async () => {
  const before = free()
  const refusal = /expected \d+ bytes of .+, got none: \d+ of \d+ are free/
  throwsCode(() => native().createBlock(gpu, before + (1 << 30)), 'out-of-memory', refusal)
  // The arena fits, the weights do not.
  const wanted = program('wanted', ({ input, weight }) => ({
    y: add(input('x', [rows, 1024]), weight('w', [rows, 1024])),
  }))
  const w = new Float32Array(rows * 1024).fill(1)
  const { arenaBytes, weights } = planProgramOf(wanted, { device: gpu, weights: { w } })
  const filler = native().createBlock(gpu, before - arenaBytes - weights.bytes / 2 - driverSlack)
  const left = free()
  const failed = await compile(wanted, { device: gpu, weights: { w } }).catch(thrown => thrown)
  assert.instance(failed, MemoryError)
  assert.match(failed.message, /close other programs or lower the budget/)
  near(free(), left)
  filler.release()
  near(free(), before)
  await using executable = await compile(wanted, { device: gpu, weights: { w } })
  const { y } = await executable.run({ x: new Float32Array(rows * 1024).fill(2) })
  assert.ok(y!.every(value => value === 3))
})

test('a token outside its table fails the run', async () => {
  const lookup = program('lookup', ({ input, weight }) => ({
    y: embedding(input('ids', [3], 'i32'), weight('table', [4, 8])),
  }))
  const table = Float32Array.from({ length: 32 }, (_, i) => i)
  await using executable = await compile(lookup, { device: gpu, dtype: 'f32', weights: { table } })
  const { y } = await executable.run({ ids: Int32Array.of(3, 0, 2) })
  assert.equal([...y!.subarray(0, 9)], [24, 25, 26, 27, 28, 29, 30, 31, 0])
  const error = await executable.run({ ids: Int32Array.of(3, 4, 2) }).catch(thrown => thrown)
  assert.instance(error, OptionError)
  assert.match(error.message, /expected token ids inside the table/)
  await executable.run({ ids: Int32Array.of(1, 1, 1) })
})

test('an abort ends a run between commands', async () => {
  const many = program('many', ({ input }) => {
    let y = input('x', [2048, 64])
    for (let i = 0; i < 200; i++) y = silu(y)
    return { y }
  })
  const stop = new AbortController()
  await using executable = await compile(many, { device: gpu, signal: stop.signal })
  const run = executable.run({ x: new Float32Array(2048 * 64) }, () => stop.abort())
  assert.instance(await run.catch(thrown => thrown), AbortError)
})

test('commands for other devices are refused', async () => {
  const view: View = { slot: 0, dtype: dtypeCode.f16, offset: 0, strides: [0, 0, 8] }
  const write = (source: View) => {
    const writer = new CommandWriter()
    writer.affine(0, 0, {
      extents: [1, 1, 1, 8],
      sourceChannels: [8],
      sources: [source],
      affine: { ...view, dtype: dtypeCode.f32, offset: 64 },
      act: actCode.none,
      out: view,
    })
    return writer.finish()
  }
  const load = (device: string, words: Int32Array) =>
    native().loadStream(device, words, Float64Array.of(128, 0, 0))
  assert.ok(load(gpu, write(view)))
  throwsCode(() => load('cpu', write(view)), 'bad-command', /source\[0\]: expected dtype f32, got/)
  throwsCode(() => load(gpu, write(absent)), 'bad-command', /source\[0\]: expected an operand/)
})

test('convolutions by phases, which a CPU computes, are refused', () => {
  const view: View = { slot: 0, dtype: dtypeCode.f32, offset: 0, strides: [64, 32, 16] }
  const load = (phases: boolean) => {
    const writer = new CommandWriter()
    writer.conv(0, 0, {
      extents: [1, 2, 2, 16],
      kernel: [3, 3],
      stride: 1,
      inSize: [2, 2],
      physSize: [1, 1],
      origin: [-1, -1],
      sourceOrigin: [0, 0],
      sourceSize: [1, 1],
      sourceChannels: [16],
      sources: [view],
      out: { ...view, offset: 64 },
      weight: { ...view, slot: 1 },
      bias: absent,
      vector: absent,
      residual: absent,
      affine: absent,
      prologueAct: 0,
      act: 0,
      outputs: 16,
      compute: 0,
      phases,
      tile: [1, 1, 16],
      scratch: absent,
      scratchBytes: 0,
    })
    return native().loadStream(gpu, writer.finish(), Float64Array.of(320, 16384, 0))
  }
  assert.is(load(false).commands, 1)
  throwsCode(() => load(true), 'bad-command', /phases: expected 0, as the device/)
})

test('activations that a device does not compute with are refused', async () => {
  const small = program('small', ({ input }) => ({ y: silu(input('x', [2, 8])) }))
  const refused = await compile(small, { device: 'cpu', dtype: 'f16' }).catch(thrown => thrown)
  assert.instance(refused, DeviceError)
  assert.not.instance(refused, NativeError)
})

test('a run keeps to the device of its stream', async () => {
  const writer = new CommandWriter()
  const stream = native().loadStream(gpu, writer.finish(), Float64Array.of(64, 0, 0))
  const arena = native().createBlock('cpu', 64)
  const run = async () => stream.run(arena, null, new Float64Array(0), 1).done
  await rejectsCode(run(), 'argument', /expected blocks of device cuda:0/)
  arena.release()
})

test.run()
