import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { devices, resolveDevice } from '../../lib/runtime/device.js'
import { runChild } from '../src/support.js'
import { emulatedPlugin, gpu, useEmulation } from './support.js'

useEmulation()

test('the emulated GPU is a device like any other, and the one that auto takes', () => {
  const device = devices().find(({ id }) => id === gpu)!
  assert.match(device.name, /emulated GPU/)
  assert.match(device.detail, /compute capability 9.0, \d+ multiprocessors, mapped memory/)
  assert.is(device.tileBytes, 2 << 20)
  assert.equal(resolveDevice('auto', 1), {
    device: gpu,
    target: { backend: 'cuda', threads: 1, wgmma: true },
  })
})

test('plans are made for wgmma where the device offers it', async () => {
  const planned = async (env: Record<string, string>) => {
    const plugin = { SLUICE_CUDA_BACKEND: emulatedPlugin, ...env }
    return JSON.parse((await runChild('../../cuda/children/target', plugin)).output)
  }
  const plain = { backend: 'cuda', threads: 1 }
  assert.equal(await planned({ SLUICE_EMULATION_ARCH: '90' }), { ...plain, wgmma: true })
  assert.equal(await planned({ SLUICE_CUDA_WGMMA: '0' }), plain)
  for (const architecture of ['80', '100'])
    assert.equal(await planned({ SLUICE_EMULATION_ARCH: architecture }), plain)
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

test.run()
