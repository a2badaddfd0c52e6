import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { FileError } from '../../lib/errors.js'
import type { Frame } from '../../lib/io/image.js'
import { openVideo } from '../../lib/io/video.js'
import { readVideo } from '../../lib/io/video-reader.js'
import { scratch } from './scratch.js'

const { path, clean } = scratch('reader')
test.after(clean)

const hasFfmpeg = spawnSync('ffmpeg', ['-version']).status === 0
const [width, height] = [32, 16]

/** A slope from left to right whose height tells the frame. */
function frame(i: number): Frame {
  const data = Float32Array.from(
    { length: 3 * width * height },
    (_, at) => (at % width) / width - 0.8 + i / 16,
  )
  return { width, height, data }
}

async function written(name: string, frames: number): Promise<string> {
  const writer = await openVideo(path(name), { fps: 10, quality: 100 })
  for (let i = 0; i < frames; i++) await writer.write(frame(i))
  await writer.close()
  return path(name)
}

async function refuses(run: Promise<unknown>, message: RegExp): Promise<void> {
  const error = await run.then(
    () => assert.unreachable(`${message}`),
    (e: Error) => e,
  )
  assert.instance(error, FileError, `${error}`)
  assert.match((error as Error).message, message)
}

for (const [name, tolerance] of [
  ['a.webp', 0.06],
  ['a.gif', 0.06],
  ['folder/', 0.004],
  ['a.mp4', 0.06],
  ['a.webm', 0.06],
] as const) {
  test(`${name}: the frames that were written, in their order`, async () => {
    if (/mp4|webm/.test(name) && !hasFfmpeg) return
    // More than ten, so that 10 must come after 9.
    const frames = await readVideo(await written(name, 12))
    assert.is(frames.length, 12)
    for (const [i, { width: w, height: h, data }] of frames.entries()) {
      assert.equal([w, h, data.length], [width, height, 3 * width * height])
      const expected = frame(i).data
      const mean = data.reduce((sum, x, at) => sum + Math.abs(x - expected[at]!), 0) / data.length
      assert.ok(mean < tolerance, `frame ${i}: ${mean}`)
    }
  })
}

test('numbers order a folder, whatever their digits; a picture is one frame', async () => {
  await written('few-%d.png', 12)
  mkdirSync(path('few'))
  const frames = await readVideo(path('.').replace(/\/\.$/, ''))
  assert.is(frames.length, 12)
  const brightness = frames.map(({ data }) => data[0]!)
  assert.equal(
    brightness,
    [...brightness].sort((a, b) => a - b),
  )
  assert.is((await readVideo(path('few-3.png'))).length, 1)
})

test('what cannot be read is named', async () => {
  await refuses(
    readVideo(path('missing.webp')),
    /missing\.webp: expected a readable file, got ENOENT/,
  )
  await refuses(readVideo(path('few')), /few: expected PNG files in the folder, got none/)
  writeFileSync(path('text.webp'), 'no picture')
  await refuses(readVideo(path('text.webp')), /text\.webp: expected a video or a picture, got /)
  writeFileSync(path('text.mp4'), 'no video')
  await refuses(
    readVideo(path('text.mp4'), '/nowhere/ffmpeg'),
    /got none at \/nowhere\/ffmpeg; install/,
  )
  if (hasFfmpeg)
    await refuses(
      readVideo(path('text.mp4')),
      /text\.mp4: expected ffmpeg to decode the video, got .+/,
    )
  writeFileSync(path('odd'), '#!/bin/sh\nprintf "P6 2 2 255\\nabc"\n')
  chmodSync(path('odd'), 0o755)
  await refuses(readVideo(path('text.mp4'), path('odd')), /expected ffmpeg to give whole pictures/)
})

test.run()
