import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { AbortError, DeviceError, MemoryError, NativeError, OptionError } from '../../lib/errors.js'
import { absent, actCode, CommandWriter, dtypeCode, type View } from '../../lib/planner/commands.js'
import { embedding, program, silu } from '../../lib/program/index.js'
import { devices, resolveDevice } from '../../lib/runtime/device.js'
import { compile } from '../../lib/runtime/executable.js'
import { native } from '../../lib/runtime/native.js'
import { rejectsCode, runChild, throwsCode } from '../src/support.js'
import { emulatedPlugin, gpu, useEmulation } from './support.js'

useEmulation()

const free = () => devices().find(({ id }) => id === gpu)!.freeBytes

test('the emulated GPU is a device like any other, and the one that auto takes', () => {
  const device = devices().find(({ id }) => id === gpu)!
  assert.match(device.name, /emulated GPU/)
  assert.match(device.detail, /compute capability 9.0, \d+ multiprocessors, mapped memory/)
  assert.is(device.tileBytes, 2 << 20)
  assert.equal(resolveDevice('auto', 1), { device: gpu, target: { backend: 'cuda', threads: 1 } })
})

test('memory comes zeroed, in whole granules, and goes back at once', () => {
  const before = free()
  const block = native().createBlock(gpu, 9_000_000)
  assert.is(block.tileBytes, 10 << 20)
  assert.is(before - free(), block.tileBytes)
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
  assert.is(free(), before)
})

test('more memory than there is: a typed error, and nothing is kept', async () => {
  const before = free()
  throwsCode(
    () => native().createBlock(gpu, before + 1),
    'out-of-memory',
    /expected \d+ bytes of emulated GPU, got none: \d+ of \d+ are free/,
  )
  const large = program('large', ({ input }) => ({ y: silu(input('x', [1, 40_000, 40_000])) }))
  const error = await compile(large, { device: gpu }).then(
    () => undefined,
    (thrown: Error) => thrown,
  )
  assert.instance(error, MemoryError)
  assert.is(free(), before)
})

test('a driver without mapped memory: plain memory, the same results', async () => {
  const plain = { SLUICE_CUDA_BACKEND: emulatedPlugin, SLUICE_EMULATION_PLAIN: '1' }
  const { code, output } = await runChild('../../cuda/children/round-trip', plain)
  assert.is(code, 0, output)
  assert.match(output, /plain memory, equal, all given back/)
})

test('why there is no device', async () => {
  const why = async (env: Record<string, string>) =>
    (await runChild('missing', { SLUICE_CUDA_BACKEND: emulatedPlugin, ...env })).output
  assert.match(await why({ SLUICE_EMULATION_DEVICES: '0' }), /found no NVIDIA driver/)
  assert.match(
    await why({ SLUICE_EMULATION_ARCH: '70' }),
    /expected compute capability 7.5 or newer, got emulated GPU of 7.0/,
  )
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
    let y = input('x', [64, 64])
    for (let i = 0; i < 200; i++) y = silu(y)
    return { y }
  })
  const stop = new AbortController()
  await using executable = await compile(many, { device: gpu, signal: stop.signal })
  const run = executable.run({ x: new Float32Array(64 * 64) }, () => stop.abort())
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
