import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  AbortError,
  CheckpointError,
  DeviceError,
  MemoryError,
  NativeError,
  OptionError,
} from '../../lib/errors.js'
import { native, toSluiceError } from '../../lib/runtime/native.js'
import { runChild } from './support.js'

test('a process may leave in the middle of its runs', async () => {
  assert.equal(await runChild('exit-while-running', { LEAVE: 'exit' }), {
    code: 0,
    signal: null,
    output: '',
  })
  assert.equal(await runChild('exit-while-running', { LEAVE: 'abort' }), {
    code: 0,
    signal: null,
    output: 'aborted aborted',
  })
  const thrown = await runChild('exit-while-running', { LEAVE: 'throw' })
  assert.is(thrown.code, 1)
  assert.is(thrown.signal, null)
  assert.match(thrown.output, /Error: uncaught/)
})

test('worker threads load the addon, run, and end in the middle of a run', async () => {
  const { code, signal, output } = await runChild('workers')
  assert.is(signal, null, output)
  assert.is(code, 0, output)
  assert.is(output, `${'0 0 1 5\n'.repeat(3)}0 bytes in 0 blocks`)
})

test('a backend that is missing or bad says why', async () => {
  const why = async (path: string) =>
    (await runChild('missing', { SLUICE_CUDA_BACKEND: path })).output
  assert.match(
    await why('/nonexistent/cuda.so'),
    /SLUICE_CUDA_BACKEND names \/nonexistent\/cuda.so, which cannot be read/,
  )
  assert.match(await why(fileURLToPath(import.meta.url)), /cannot be loaded/)
  native()
  assert.match(await why(loadedAddon()), /is not a sluice backend: it has no sluice_backend_init/)
  for (const reason of Object.values(native().missing())) assert.match(reason, /\w+/)
})

/** Path of the addon's file, as this process has it open. */
function loadedAddon(): string {
  const report = process.report.getReport() as unknown as { sharedObjects: string[] }
  return report.sharedObjects.find(path => path.endsWith('.node'))!
}

test('codes of the addon become classes', () => {
  const of = (code: string, extra = {}) =>
    toSluiceError(Object.assign(new Error('message'), { code, ...extra })) as Error
  assert.instance(of('out-of-memory'), MemoryError)
  assert.instance(of('device-lost'), DeviceError)
  assert.instance(of('aborted'), AbortError)
  assert.instance(of('argument'), OptionError)
  assert.instance(of('bad-data'), OptionError)
  assert.instance(of('bad-command'), NativeError)
  const io = of('io', { path: '/x' })
  assert.instance(io, CheckpointError)
  assert.is((io as CheckpointError).path, '/x')
  assert.is((io.cause as Error).message, 'message')
  const other = new RangeError('other')
  assert.is(toSluiceError(other), other)
  const own = new MemoryError('own')
  assert.is(toSluiceError(own), own)
})

test.run()
