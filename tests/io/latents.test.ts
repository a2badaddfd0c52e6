import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CheckpointError, FileError } from '../../lib/errors.js'
import { openFrames, readLatents, writeLatents } from '../../lib/io/latents.js'
import { readFloats, readSafetensorsHeader } from '../../lib/io/safetensors.js'
import { writeSafetensors } from '../../lib/io/safetensors-writer.js'
import { scratch } from './scratch.js'

const { path, list, clean } = scratch('latents')
test.after(clean)

const shape = [1, 4, 2, 3, 3]
const data = Float32Array.from({ length: 72 }, (_, i) => i / 7)

async function error(promise: Promise<unknown>): Promise<Error | undefined> {
  return promise.then(
    () => undefined,
    (e: Error) => e,
  )
}

test('latents are written under their key and read back, with or without naming it', async () => {
  await writeLatents(path('l.safetensors'), data, shape)
  assert.equal(await readLatents(path('l.safetensors'), shape), data)
  assert.equal(await readLatents(`${path('l.safetensors')}#latents`, shape), data)
  await writeLatents(path('take#2.safetensors'), data, shape)
  assert.equal(await readLatents(path('take#2.safetensors'), shape), data)
  assert.equal(await readLatents(`${path('take#2.safetensors')}#latents`, shape), data)
})

test('a recording gives its noise, another tensor by key', async () => {
  const other = data.map(x => -x)
  await writeSafetensors(path('r.safetensors'), {
    video: { shape: [72], data },
    noise: { shape, data },
    start: { shape, data: other },
  })
  assert.equal(await readLatents(path('r.safetensors'), shape), data)
  assert.equal(await readLatents(`${path('r.safetensors')}#start`, shape), other)
})

test('wrong key, shape, dtype and file are refused', async () => {
  await writeSafetensors(path('w.safetensors'), {
    a: { shape, data },
    b: { shape, data: new Int32Array(72) },
  })
  const cases: [string, number[], RegExp][] = [
    [path('w.safetensors'), shape, /expected a tensor latents, got a, b; name one as .*#key/],
    [`${path('w.safetensors')}#c`, shape, /expected a tensor c, got a, b/],
    [
      `${path('w.safetensors')}#a`,
      [1, 4, 2, 3, 4],
      /a: expected shape \[1, 4, 2, 3, 4\], got \[1, 4, 2, 3, 3\]/,
    ],
    [`${path('w.safetensors')}#b`, shape, /b: expected dtype F32/],
    [path('absent.safetensors'), shape, /got no such file/],
  ]
  for (const [source, wanted, message] of cases) {
    const e = await error(readLatents(source, wanted))
    assert.ok(e instanceof CheckpointError && message.test(e.message), String(e))
  }
})

test('frames are streamed to one tensor', async () => {
  const writer = await openFrames(path('f.safetensors'), { frames: 2, width: 3, height: 4 })
  await writer.write({ width: 3, height: 4, data: data.slice(0, 36) })
  assert.ok(
    (await error(writer.write({ width: 4, height: 3, data: data.slice(0, 36) }))) instanceof
      FileError,
  )
  await writer.write({ width: 3, height: 4, data: data.slice(36) })
  await writer.close()
  const video = readSafetensorsHeader(path('f.safetensors')).tensors.get('video')!
  assert.equal(video.shape, [2, 3, 4, 3])
  assert.equal(await readFloats(video), data)

  const stopped = await openFrames(path('stopped.safetensors'), { frames: 2, width: 3, height: 4 })
  await stopped.write({ width: 3, height: 4, data: data.slice(0, 36) })
  await stopped.abort()
  assert.equal(
    list().filter(name => name.includes('stopped')),
    [],
  )
})

test.run()
