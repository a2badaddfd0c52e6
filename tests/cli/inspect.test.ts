import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readSafetensorsHeader } from '../../lib/io/safetensors.js'
import { embedded, fullSize, unetFile } from '../support/checkpoints.js'
import { sluice } from '../support/cli.js'
import { fixture } from '../support/recorded.js'

async function json(...args: string[]) {
  const { code, stdout, stderr } = await sluice(...args, '--json')
  assert.is(stderr, '')
  assert.is(code, 0)
  return JSON.parse(stdout)
}

test('a checkpoint: components with classes, parameters, bytes and dtypes', async () => {
  const found = await json('inspect', embedded)
  assert.is(found.pipeline, 'AnimateDiffPipeline')
  assert.is(found.scheduler._class_name, 'DDIMScheduler')
  const unet = found.components.find(({ name }: { name: string }) => name === 'unet')
  const tensors = [...readSafetensorsHeader(`${embedded}/${unetFile}`).tensors.values()]
  const parameters = tensors.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)
  assert.is(unet.className, 'UNet2DConditionModel')
  assert.equal(unet.weights, {
    tensors: tensors.length,
    parameters,
    bytes: 2 * parameters,
    dtypes: { F16: parameters },
    files: ['diffusion_pytorch_model.safetensors'],
  })
  assert.is(found.bytes, 2 * found.parameters)
  const { stdout } = await sluice('inspect', embedded)
  assert.match(stdout, `UNet2DConditionModel  ${tensors.length}`)
  assert.match(stdout, 'scheduler: DDIMScheduler, beta_schedule linear')
})

test('configurations alone, and one component', async () => {
  const found = await json('inspect', fullSize)
  assert.equal(
    found.components.map(({ className, weights }: { className: string; weights?: object }) => [
      className,
      weights,
    ]),
    [
      ['MotionAdapter', undefined],
      ['DDIMScheduler', undefined],
      ['CLIPTextModel', undefined],
      ['UNet2DConditionModel', undefined],
      ['AutoencoderKL', undefined],
    ],
  )
  assert.is((await json('inspect', `${embedded}/vae`)).className, 'AutoencoderKL')
})

test('a file: tensors and metadata', async () => {
  const path = fixture('golden/ad-red-circle.safetensors')
  const found = await json('inspect', path)
  const { tensors, metadata } = readSafetensorsHeader(path)
  assert.equal(found.metadata, metadata)
  assert.is(found.tensors.length, tensors.size)
  for (const { name, dtype, shape, bytes } of found.tensors) {
    const entry = tensors.get(name)!
    assert.equal([dtype, shape, bytes], [entry.dtype, entry.shape, entry.bytes])
  }
  const { stdout } = await sluice('inspect', path)
  assert.match(stdout, /^latents\s+F32\s+\[1, 4, 16, 8, 8\]\s+16,384$/m)
})

test('a path that is nothing', async () => {
  const { code, stderr } = await sluice('inspect', `${embedded}/none`)
  assert.is(code, 4)
  assert.match(stderr, 'no such file')
})

test('doctor says what is there', async () => {
  const found = await json('doctor')
  assert.is(found.node, process.version)
  assert.ok(found.cpu.threads >= 1)
  assert.ok(found.cpu.instructions.includes(found.cpu.selected))
  assert.match(found.addon.path, /\.node$/)
  assert.ok(found.devices.some(({ id }: { id: string }) => id === 'cpu'))
  const gpu = found.devices.some(({ id }: { id: string }) => id.startsWith('cuda'))
  assert.is(gpu, found.missing.cuda === undefined)
  assert.ok(found.model.value)
  const { code, stdout } = await sluice('doctor')
  assert.is(code, 0)
  for (const line of ['sluice', 'threads', 'instructions', 'device cpu', 'ffmpeg'])
    assert.match(stdout, new RegExp(`^${line} `, 'm'))
})

test.run()
