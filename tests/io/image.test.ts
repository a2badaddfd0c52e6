import { writeFileSync } from 'node:fs'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { FileError, OptionError } from '../../lib/errors.js'
import { type Frame, type ImageSource, readPixels, toBytes, toFrame } from '../../lib/io/image.js'
import { scratch } from './scratch.js'

const { path, clean } = scratch('image')
test.after(clean)

/** Left half red, right half blue, 8 × 4. */
const halves = Buffer.from(
  Array.from({ length: 32 }, (_, i) => (i % 8 < 4 ? [255, 0, 0] : [0, 0, 255])).flat(),
)

async function readImage(
  source: ImageSource,
  size: { width: number; height: number },
): Promise<Frame> {
  return toFrame(await readPixels(source), size)
}

test('an image becomes planes in [-1, 1]', async () => {
  await sharp(halves, { raw: { width: 8, height: 4, channels: 3 } })
    .png()
    .toFile(path('halves.png'))
  const { width, height, data } = await readImage(path('halves.png'), { width: 8, height: 4 })
  assert.equal([width, height, data.length], [8, 4, 96])
  assert.equal([data[0], data[7], data[32], data[64], data[71]], [1, -1, -1, -1, 1])
  assert.equal(Buffer.from(toBytes({ width, height, data })), halves)
})

test('another size is stretched to', async () => {
  const { data } = await readImage(path('halves.png'), { width: 4, height: 4 })
  assert.ok(data[0]! > 0.9 && data[3]! < -0.9)
})

test('pixels and frames are taken as they are, and refused when they do not fit', async () => {
  const size = { width: 8, height: 4 }
  const frame = await readImage({ ...size, data: halves }, size)
  assert.equal(frame, await readImage(path('halves.png'), size))
  assert.equal(await readImage(frame, size), frame)
  for (const [source, message] of [
    [{ ...size, data: halves.subarray(3) }, /expected 3 x 8 x 4 values of data, got 93/],
    [{ width: -8, height: -4, data: halves }, /expected 3 x -8 x -4 values/],
    [{ ...size, data: [...halves] }, /expected a path, .+, got object/],
    [undefined, /expected a path, .+, got undefined/],
  ] as const) {
    const e = await readPixels(source as ImageSource).then(
      () => undefined,
      (error: Error) => error,
    )
    assert.ok(e instanceof OptionError && message.test(e.message), String(e))
  }
})

test('alpha is dropped and grey becomes three channels', async () => {
  const rgba = Buffer.from([255, 0, 0, 255, 0, 255, 0, 255])
  const png = await sharp(rgba, { raw: { width: 2, height: 1, channels: 4 } })
    .png()
    .toBuffer()
  assert.equal([...(await readImage(png, { width: 2, height: 1 })).data], [1, -1, -1, 1, -1, -1])
  const grey = await sharp(Buffer.from([0, 255]), { raw: { width: 2, height: 1, channels: 1 } })
    .png()
    .toBuffer()
  assert.equal([...(await readImage(grey, { width: 2, height: 1 })).data], [-1, 1, -1, 1, -1, 1])
})

test('bytes are rounded and clamped', () => {
  const data = Float32Array.of(-3, -1, 0.0001, 0.999, 3, Number.NaN)
  assert.equal([...toBytes({ width: 2, height: 1, data })], [0, 128, 255, 0, 255, 0])
})

test('absent files and other files are refused', async () => {
  writeFileSync(path('text.png'), 'no image')
  for (const [file, message] of [
    [path('absent.png'), /expected a(n image| readable file)/],
    [path('text.png'), /text.png: expected an image, got/],
  ] as const) {
    const e = await readImage(file, { width: 2, height: 2 }).then(
      () => undefined,
      (error: Error) => error,
    )
    assert.ok(e instanceof FileError && message.test(e.message), String(e))
  }
})

test.run()
