import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { FileError, OptionError } from '../../lib/errors.js'
import type { Frame } from '../../lib/io/image.js'
import { openVideo, type VideoWriter, videoKind } from '../../lib/io/video.js'
import { scratch } from './scratch.js'

const { path, list, clean } = scratch('video')
test.after(clean)

const hasFfmpeg = spawnSync('ffmpeg', ['-version']).status === 0
const [width, height] = [32, 16]

/** Grey whose brightness tells the frame. */
function frame(i: number, w = width, h = height): Frame {
  return { width: w, height: h, data: new Float32Array(3 * w * h).fill(-0.8 + 0.4 * i) }
}

async function error(promise: Promise<unknown>): Promise<Error | undefined> {
  return promise.then(
    () => undefined,
    (e: Error) => e,
  )
}

async function writeFour(writer: VideoWriter): Promise<void> {
  for (let i = 0; i < 4; i++) await writer.write(frame(i))
  await writer.close()
}

/** The middle byte that frame i should have. */
const level = (i: number) => Math.round((-0.4 + 0.2 * i + 0.5) * 255)

for (const kind of ['webp', 'gif'] as const) {
  test(`${kind}: frames, delays and loop come back`, async () => {
    const file = path(`out.${kind}`)
    const writer = await openVideo(file, { fps: 10 })
    await writeFour(writer)
    const metadata = await sharp(file, { animated: true }).metadata()
    assert.equal(
      [metadata.pages, metadata.width, metadata.pageHeight, metadata.loop],
      [4, width, height, 0],
    )
    assert.equal(metadata.delay, [100, 100, 100, 100])
    for (let i = 0; i < 4; i++) {
      const { data, info } = await sharp(file, { page: i })
        .removeAlpha()
        .raw()
        .toBuffer({ resolveWithObject: true })
      assert.is(info.height, height)
      assert.ok(Math.abs(data[data.length >> 1]! - level(i)) <= 6, `frame ${i}`)
    }
  })
}

test('png: a pattern and a folder give numbered files', async () => {
  await writeFour(await openVideo(path('shot-%03d.png')))
  assert.equal(
    list().filter(name => name.endsWith('.png')),
    ['shot-000.png', 'shot-001.png', 'shot-002.png', 'shot-003.png'],
  )
  const data = await sharp(path('shot-002.png')).raw().toBuffer()
  assert.is(data[5], level(2))
  for (const folder of ['frames', 'slashed/']) {
    await writeFour(await openVideo(path(folder)))
    assert.equal(readdirSync(path(folder)).sort(), [
      'frame-0000.png',
      'frame-0001.png',
      'frame-0002.png',
      'frame-0003.png',
    ])
  }
})

for (const kind of ['mp4', 'webm'] as const) {
  if (!hasFfmpeg) test.skip(`${kind}: no ffmpeg here`)
  else {
    test(`${kind}: frames come back through ffmpeg`, async () => {
      const file = path(`out.${kind}`)
      const writer = await openVideo(file, { fps: 12 })
      // Odd sides: 4:2:0 pads them.
      for (let i = 0; i < 4; i++) await writer.write(frame(i, 31, 17))
      await writer.close()
      const decoded = spawnSync('ffmpeg', [
        '-loglevel',
        'error',
        '-i',
        file,
        '-f',
        'rawvideo',
        '-pix_fmt',
        'rgb24',
        'pipe:1',
      ])
      assert.is(decoded.stdout.length, 4 * 32 * 18 * 3)
      for (let i = 0; i < 4; i++)
        assert.ok(Math.abs(decoded.stdout[i * 32 * 18 * 3 + 600]! - level(i)) <= 6, `frame ${i}`)
    })

    test(`${kind}: a cancelled video leaves nothing`, async () => {
      const writer = await openVideo(path(`cancelled.${kind}`))
      await writer.write(frame(0))
      await writer.abort()
      await writer.abort()
      assert.equal(
        list().filter(name => name.includes('cancelled')),
        [],
      )
    })

    test(`${kind}: ffmpeg's complaint is in the error`, async () => {
      const writer = await openVideo(path(`no/folder.${kind}`))
      const e = await error(writeFour(writer))
      await writer.abort()
      assert.ok(e instanceof FileError && /No such file/.test(e.message), String(e))
    })
  }
}

test('a missing or incapable ffmpeg is refused before the first frame', async () => {
  const missing = await error(openVideo(path('x.mp4'), { ffmpeg: path('no-ffmpeg') }))
  assert.ok(
    missing instanceof FileError &&
      /expected ffmpeg at .*no-ffmpeg.*got none; install ffmpeg/.test(missing.message),
    String(missing),
  )
  writeFileSync(path('fake-ffmpeg'), '#!/bin/sh\necho " V..... mpeg4  MPEG-4"\n')
  chmodSync(path('fake-ffmpeg'), 0o755)
  const poor = await error(openVideo(path('x.webm'), { ffmpeg: path('fake-ffmpeg') }))
  assert.ok(poor instanceof FileError && /encoder libvpx-vp9/.test(poor.message), String(poor))
})

test('an ffmpeg that dies is an error, not a crash', async () => {
  writeFileSync(
    path('dying-ffmpeg'),
    '#!/bin/sh\ncase "$*" in *-encoders*) echo " V..... libx264  x";; *) echo "out of luck" >&2; exit 3;; esac\n',
  )
  chmodSync(path('dying-ffmpeg'), 0o755)
  const writer = await openVideo(path('dead.mp4'), { ffmpeg: path('dying-ffmpeg') })
  const e = await error(
    (async () => {
      for (let i = 0; i < 100; i++) await writer.write(frame(0, 256, 256))
      await writer.close()
    })(),
  )
  await writer.abort()
  assert.ok(e instanceof FileError && /out of luck/.test(e.message), String(e))
})

test('a failed or cancelled file leaves the older one', async () => {
  writeFileSync(path('kept.webp'), 'older')
  const writer = await openVideo(path('kept.webp'))
  await writer.write(frame(0))
  await writer.abort()
  assert.is(statSync(path('kept.webp')).size, 5)
  const lost = await openVideo(path('no/such/folder.webp'))
  const e = await error(writeFour(lost))
  assert.ok(
    e instanceof FileError && /got ENOENT; make the folder first/.test(e.message),
    String(e),
  )
  const sequence = await openVideo(path('stopped-%d.png'))
  await sequence.write(frame(0))
  await sequence.abort()
  assert.equal(
    list().filter(name => name.startsWith('.') || name.startsWith('stopped')),
    [],
  )
})

test('frames of another size, and none at all, are refused', async () => {
  const writer = await openVideo(path('sizes.gif'))
  await writer.write(frame(0))
  assert.ok((await error(writer.write(frame(1, 16, 16)))) instanceof FileError)
  assert.ok(
    (await error(writer.write({ ...frame(1), data: new Float32Array(5) }))) instanceof FileError,
  )
  await writer.abort()
  for (const name of ['none.webp', 'none-%d.png']) {
    const e = await error((await openVideo(path(name))).close())
    assert.ok(e instanceof FileError && /at least one frame/.test(e.message))
  }
})

test('the kind comes from the path', async () => {
  mkdirSync(path('folder.v2'))
  const kinds = {
    'a.WEBP': 'webp',
    'a.gif': 'gif',
    'a.mp4': 'mp4',
    'a.webm': 'webm',
    'a-%04d.png': 'png',
    'a-%d.PNG': 'png',
    frames: 'png',
    'frames.d/': 'png',
    [path('folder.v2')]: 'png',
  }
  for (const [name, kind] of Object.entries(kinds)) assert.is(videoKind(name), kind, name)
  for (const name of ['a.png', 'a.avi', 'a.jpg', 'a.webp.tmp']) {
    assert.throws(
      () => videoKind(name),
      (e: Error) => e instanceof OptionError && /expected .webp, .gif, .mp4, .webm/.test(e.message),
    )
  }
  for (const options of [
    { fps: 0 },
    { fps: Number.NaN },
    { fps: 1000 },
    { quality: 0 },
    { quality: 101 },
  ]) {
    assert.ok((await error(openVideo(path('a.webp'), options))) instanceof OptionError)
  }
})

test.run()
