import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CheckpointError } from '../../lib/errors.js'
import { openCheckpoint, openComponent, requirePipeline } from '../../lib/io/checkpoint.js'
import { writeSafetensors } from '../../lib/io/safetensors-writer.js'
import { readJson, requireTensor } from '../../lib/io/weight-index.js'
import { scratch } from './scratch.js'

const embedded = fileURLToPath(new URL('../../../models/moving-shapes', import.meta.url))
const { path, clean } = scratch('checkpoint')
test.after(clean)

const refuses = (run: () => unknown, message: RegExp) =>
  assert.throws(
    run,
    (error: Error) => error instanceof CheckpointError && message.test(error.message),
  )

function json(file: string, value: unknown): void {
  mkdirSync(path(file).replace(/[^/]*$/, ''), { recursive: true })
  writeFileSync(path(file), typeof value === 'string' ? value : JSON.stringify(value))
}

async function weights(file: string, keys: string[]): Promise<void> {
  mkdirSync(path(file).replace(/[^/]*$/, ''), { recursive: true })
  await writeSafetensors(
    path(file),
    Object.fromEntries(keys.map((key, i) => [key, { shape: [2], data: Float32Array.of(i, i) }])),
  )
}

test('JSON as Python writes it: infinities and NaN outside of strings', () => {
  json('python.json', '{"a": [-Infinity, Infinity, NaN, -1e3], "b\\"NaN": "x \\"Infinity, NaN"}')
  assert.equal(readJson(path('python.json')), {
    a: [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, null, -1000],
    'b"NaN': 'x "Infinity, NaN',
  })
  json('wrong.json', '{"a": Infinitely}')
  refuses(() => readJson(path('wrong.json')), /wrong\.json: expected JSON, got /)
})

test('the embedded checkpoint opens, component by component', () => {
  const checkpoint = openCheckpoint(embedded)
  assert.is(checkpoint.pipeline, 'AnimateDiffPipeline')
  assert.equal(checkpoint.names.sort(), [
    'motion_adapter',
    'scheduler',
    'text_encoder',
    'tokenizer',
    'unet',
    'vae',
  ])
  assert.is(checkpoint.component('scheduler').config._class_name, 'DDIMScheduler')
  assert.is(checkpoint.component('text_encoder').className, 'CLIPTextModel')
  assert.is(checkpoint.motionAdapter()!.className, 'MotionAdapter')
  const unet = checkpoint.component('unet')
  assert.is(unet.weights, unet.weights)
  const entry = requireTensor(unet.weights, 'conv_in.bias', [48])
  assert.is(entry.dtype, 'F16')
  assert.is(entry.bytes, 96)
  assert.is(
    unet.weights.bytes,
    [...unet.weights.values()].reduce((sum, { bytes }) => sum + bytes, 0),
  )
  requirePipeline(checkpoint, ['AnimateDiffPipeline'])
  refuses(
    () => requirePipeline(checkpoint, ['StableVideoDiffusionPipeline']),
    /expected StableVideoDiffusionPipeline, got AnimateDiffPipeline/,
  )
})

test('configs are enough until weights are asked for', () => {
  cpSync(embedded, path('bare'), {
    recursive: true,
    filter: file => !file.endsWith('.safetensors'),
  })
  const checkpoint = openCheckpoint(path('bare'))
  assert.ok(Array.isArray(checkpoint.component('unet').config.block_out_channels))
  refuses(
    () => checkpoint.component('unet').weights,
    /unet: expected weights in safetensors, got none; put/,
  )
  refuses(() => checkpoint.component('image_encoder'), /expected a folder image_encoder, got none/)
})

test('a motion adapter apart wins, and one is needed unless the unet holds it', () => {
  cpSync(path('bare'), path('apart'), { recursive: true })
  rmSync(path('apart/motion_adapter'), { recursive: true })
  refuses(
    () => openCheckpoint(path('apart')).motionAdapter(),
    /motion_adapter, got none; give one with the motion adapter option/,
  )
  json('adapter/config.json', { _class_name: 'MotionAdapter', mark: 1 })
  json('nested/motion_adapter/config.json', { _class_name: 'MotionAdapter', mark: 2 })
  assert.is(
    openCheckpoint(path('apart'), { motionAdapter: path('adapter') }).motionAdapter()!.config.mark,
    1,
  )
  assert.is(
    openCheckpoint(path('apart'), { motionAdapter: path('nested') }).motionAdapter()!.config.mark,
    2,
  )
  assert.is(
    openCheckpoint(path('bare'), { motionAdapter: path('adapter') }).motionAdapter()!.config.mark,
    1,
  )
  refuses(
    () => openCheckpoint(path('apart'), { motionAdapter: path('nowhere') }),
    /nowhere: expected a folder of a motion adapter.*got nothing there/,
  )
  json('apart/unet/config.json', { _class_name: 'UNetMotionModel' })
  assert.is(openCheckpoint(path('apart')).motionAdapter(), undefined)
})

test('what is no checkpoint is refused', () => {
  refuses(() => openCheckpoint(path('nowhere')), /got nothing there; check the path/)
  json('file.ckpt', 'x')
  refuses(() => openCheckpoint(path('file.ckpt')), /got a file; give the folder/)
  mkdirSync(path('empty'))
  refuses(() => openCheckpoint(path('empty')), /model_index.json, got none/)
  json('broken/model_index.json', '{"_class_name": ')
  refuses(() => openCheckpoint(path('broken')), /model_index.json: expected JSON/)
  json('nameless/model_index.json', {})
  refuses(() => openCheckpoint(path('nameless')), /expected _class_name, got undefined/)
  json('list/model_index.json', [])
  refuses(() => openCheckpoint(path('list')), /expected a JSON object, got \[\]/)
  json('configless/model_index.json', { _class_name: 'AnimateDiffPipeline' })
  mkdirSync(path('configless/unet'))
  refuses(
    () => openCheckpoint(path('configless')).component('unet').config,
    /config.json: expected a JSON file, got no such file/,
  )
})

test('plain weights come first, then fp16, then the only variant', async () => {
  await weights('v/diffusion_pytorch_model.non_ema.safetensors', ['only'])
  const keys = (variant?: string) => [...openComponent(path('v'), 'unet', variant).weights.keys()]
  assert.equal(keys(), ['only'])
  await weights('v/diffusion_pytorch_model.other.safetensors', ['other'])
  refuses(() => keys(), /got several variants .*name one with the variant option/)
  assert.equal(keys('other'), ['other'])
  await weights('v/diffusion_pytorch_model.fp16.safetensors', ['half'])
  assert.equal(keys(), ['half'])
  await weights('v/diffusion_pytorch_model.safetensors', ['plain'])
  assert.equal(keys(), ['plain'])
  assert.equal(keys('fp16'), ['half'])
  assert.equal(keys('absent'), ['plain'])
})

test('pickles alone are refused with the way out', () => {
  json('pickled/diffusion_pytorch_model.bin', 'x')
  refuses(
    () => openComponent(path('pickled'), 'unet').weights,
    /got only pickles \(diffusion_pytorch_model.bin\); convert them to safetensors/,
  )
})

test('shards are joined by their index', async () => {
  await weights('s/model-00001-of-00002.safetensors', ['a', 'b'])
  await weights('s/model-00002-of-00002.safetensors', ['c'])
  const map = {
    a: 'model-00001-of-00002.safetensors',
    b: 'model-00001-of-00002.safetensors',
    c: 'model-00002-of-00002.safetensors',
  }
  json('s/model.safetensors.index.json', { metadata: {}, weight_map: map })
  const index = openComponent(path('s'), 'text_encoder').weights
  assert.equal([...index.keys()], ['a', 'b', 'c'])
  assert.is(index.files.length, 2)
  assert.is(index.get('c')!.file, path('s/model-00002-of-00002.safetensors'))
  json('s/model.safetensors.index.json', { weight_map: { ...map, d: map.a } })
  refuses(
    () => openComponent(path('s'), 'text_encoder').weights,
    /: d: expected a tensor in model-00001.*got none/,
  )
  json('s/model.safetensors.index.json', { weight_map: { a: 'model-00003-of-00002.safetensors' } })
  refuses(() => openComponent(path('s'), 'text_encoder').weights, /got no such file/)
  json('s/model.safetensors.index.json', {})
  refuses(() => openComponent(path('s'), 'text_encoder').weights, /expected a weight_map/)
})

test('an index cannot lead out of its folder', () => {
  for (const file of [
    '../v/diffusion_pytorch_model.safetensors',
    '/etc/passwd',
    'sub/x.safetensors',
    '..\\x.safetensors',
    'C:x.safetensors',
    'passwd',
    7,
  ]) {
    json('escape/model.safetensors.index.json', { weight_map: { a: file } })
    refuses(
      () => openComponent(path('escape'), 'vae').weights,
      /: a: expected a .safetensors file in the same folder, got/,
    )
  }
})

test('required tensors: prefixes, absence, shape, dtype', async () => {
  await weights('t/model.safetensors', ['text_model.a'])
  const index = openComponent(path('t'), 'text_encoder').weights
  assert.is(requireTensor(index, ['a', 'text_model.a'], [2]).key, 'text_model.a')
  refuses(
    () => requireTensor(index, ['a', 'b'], [2]),
    /expected a tensor a or b \[2\], got none of that name among 1/,
  )
  refuses(
    () => requireTensor(index, 'text_model.a', [2, 1]),
    /text_model.a: expected shape \[2, 1\], got \[2\]/,
  )
  refuses(
    () => requireTensor(index, 'text_model.a', [2], ['I64']),
    /text_model.a: expected dtype I64, got F32/,
  )
})

test.run()
