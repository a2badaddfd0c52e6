import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CheckpointError, FileError, OptionError } from '../../lib/errors.js'
import { gaussian } from '../../lib/io/random.js'
import { writeSafetensors } from '../../lib/io/safetensors-writer.js'
import { comparePictures } from '../../lib/quality/compare.js'
import { psnr, ssim } from '../../lib/quality/metrics.js'
import { openPictures, type Pictures } from '../../lib/quality/pictures.js'
import { scratch } from '../io/scratch.js'

const { path, clean } = scratch('compare')
test.after(clean)

const shape = { planes: 3, height: 12, width: 14 }
const size = 3 * 12 * 14

function pictures(seed: number, frames = 4, range?: number): Pictures {
  const all = gaussian(seed, frames * size)
  return {
    source: `seed ${seed}`,
    shape,
    frames: Array.from({ length: frames }, (_, i) => all.slice(i * size, (i + 1) * size)),
    range,
  }
}

test('one video: the metrics of all its values, means and the worst of its frames', () => {
  const [a, b] = [pictures(1, 4, 2), pictures(2, 4)]
  const result = comparePictures(a, b)
  const flat = ({ frames }: Pictures) => Float32Array.from(frames.flatMap(frame => [...frame]))
  assert.ok(Math.abs(result.psnr - psnr(flat(a), flat(b), 2)) < 1e-9)
  const whole = { planes: 12, height: 12, width: 14 }
  assert.ok(Math.abs(result.ssim - ssim(flat(a), flat(b), whole, 2)) < 1e-9)
  assert.is(result.frames.length, 4)
  assert.is(result.largest, Math.max(...result.frames.map(({ largest }) => largest)))
  result.frames.forEach((frame, i) => assert.is(frame.psnr, psnr(a.frames[i]!, b.frames[i]!, 2)))
})

test('equal videos, and ones with a NaN', () => {
  const a = pictures(1)
  const same = comparePictures(a, pictures(1))
  assert.equal([same.psnr, same.largest], [Number.POSITIVE_INFINITY, 0])
  assert.ok(Math.abs(same.ssim - 1) < 1e-9)
  const broken = pictures(1)
  broken.frames[1]![5] = Number.NaN
  const result = comparePictures(a, broken)
  assert.ok(Number.isNaN(result.psnr) && Number.isNaN(result.largest))
  assert.is(result.frames[2]!.psnr, Number.POSITIVE_INFINITY)
})

test('the range: given, of the pictures, else of the first one', () => {
  const [a, b] = [pictures(1), pictures(2)]
  const values = a.frames.flatMap(frame => [...frame])
  const spread = values.reduce((m, x) => Math.max(m, x)) - values.reduce((m, x) => Math.min(m, x))
  assert.is(comparePictures(a, b).range, spread)
  assert.is(comparePictures(a, pictures(2, 4, 2)).range, 2)
  const doubled = comparePictures(a, b, 2 * spread).psnr - comparePictures(a, b).psnr
  assert.ok(Math.abs(doubled - 20 * Math.log10(2)) < 1e-9)
  const flat: Pictures = { ...a, frames: a.frames.map(frame => frame.map(() => 0.5)) }
  for (const [run, message] of [
    [() => comparePictures(flat, b), /range: expected a positive number, got 0, as seed 1 has one/],
    [() => comparePictures(a, b, Number.NaN), /range: expected a positive number, got NaN/],
  ] as const)
    assert.throws(run, (e: Error) => e instanceof OptionError && message.test(e.message))
})

test('other shapes are refused with both', () => {
  const other = { ...pictures(2), shape: { planes: 3, height: 14, width: 12 } }
  for (const [b, message] of [
    [pictures(2, 3), /seed 2: expected 4 frames of 3 × 12 × 14 as in seed 1, got 3 frames/],
    [other, /got 4 frames of 3 × 14 × 12; compare/],
  ] as const)
    assert.throws(
      () => comparePictures(pictures(1), b),
      (e: Error) => e instanceof FileError && message.test(e.message),
    )
})

test('tensors: latents of both orders, frames, and which of several', async () => {
  const [frames, channels, rows, cols] = [3, 4, 2, 5]
  const count = frames * channels * rows * cols
  const value = (f: number, c: number, at: number) => 1000 * f + 100 * c + at
  const fill = (outside: 'channels' | 'frames') =>
    Float32Array.from({ length: count }, (_, i) => {
      const at = i % 10
      const plane = Math.floor(i / 10)
      return outside === 'channels'
        ? value(plane % frames, Math.floor(plane / frames), at)
        : value(Math.floor(plane / channels), plane % channels, at)
    })
  const file = path('several.safetensors')
  await writeSafetensors(file, {
    latents: { shape: [1, channels, frames, rows, cols], data: fill('channels') },
    image: { shape: [1, frames, channels, rows, cols], data: fill('frames') },
    video: { shape: [frames, 3, rows, cols], data: fill('frames').slice(0, frames * 30) },
    plain: { shape: [2, 2], data: new Float32Array(4) },
  })
  const latents = await openPictures(file)
  assert.is(latents.source, `${file}#latents`)
  assert.equal(
    [latents.frames.length, latents.shape, latents.range],
    [3, { planes: 4, height: 2, width: 5 }, undefined],
  )
  assert.is(latents.frames[2]![13], value(2, 1, 3))
  assert.equal((await openPictures(`${file}#image`)).frames, latents.frames)
  const video = await openPictures(file, 'video')
  assert.equal([video.frames.length, video.shape.planes, video.range], [3, 3, 2])

  const only = path('only.safetensors')
  await writeSafetensors(only, { odd: { shape: [2, 5, 2, 2], data: new Float32Array(40) } })
  assert.is((await openPictures(only)).frames.length, 2)
  const two = path('two.safetensors')
  await writeSafetensors(two, {
    a: { shape: [1], data: new Float32Array(1) },
    b: { shape: [1], data: new Float32Array(1) },
  })
  for (const [source, key, message] of [
    [file, 'plain', /#plain: expected latents .*got \[2, 2\]/],
    [file, 'none', /expected a tensor none, got latents, image, video, plain; name one with --key/],
    [two, undefined, /expected a tensor latents or video, got a, b/],
    [path('missing.safetensors'), undefined, /missing\.safetensors: expected/],
  ] as const) {
    const error = await openPictures(source, key).then(
      () => assert.unreachable(`${message}`),
      (e: Error) => e,
    )
    assert.ok(error instanceof FileError || error instanceof CheckpointError, `${error}`)
    assert.match((error as Error).message, message)
  }
})

test.run()
