import { writeFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaussian } from '../../lib/io/random.js'
import { writeSafetensors } from '../../lib/io/safetensors-writer.js'
import { openVideo } from '../../lib/io/video.js'
import { scratch } from '../io/scratch.js'
import { sluice } from '../support/cli.js'

const { path, clean } = scratch('compare')
test.after(clean)

const [frames, height, width] = [3, 16, 24]
const size = 3 * height * width
const video = gaussian(1, frames * size).map(x => Math.tanh(x / 2))

test.before(async () => {
  const near = video.map((x, i) => (i < size ? x : x + 0.1))
  for (const [name, data] of [
    ['a', video],
    ['b', near],
  ] as const)
    await writeSafetensors(path(`${name}.safetensors`), {
      video: { shape: [frames, 3, height, width], data },
      other: { shape: [frames, 1, height, width], data: data.slice(0, frames * height * width) },
    })
  const writer = await openVideo(path('folder'))
  for (let i = 0; i < frames; i++)
    await writer.write({ width, height, data: video.slice(i * size, (i + 1) * size) })
  await writer.close()
})

test('two files: a table of each frame and of all', async () => {
  const { code, stdout, stderr } = await sluice(
    ...['compare', path('a.safetensors'), path('b.safetensors'), '--frames'],
  )
  assert.equal([code, stderr], [0, ''])
  assert.match(stdout, /a\.safetensors#video and .*b\.safetensors#video: 3 frames of 24 x 16/)
  assert.match(stdout, /^0 +equal +1\.0000 +0$/m)
  // 20 log10(2 / 0.1); the mean of three squared errors of which one is none.
  assert.match(stdout, /^2 +26\.02 dB +0\.\d{4} +0\.1$/m)
  assert.match(stdout, /^all +27\.78 dB +0\.\d{4} +0\.1$/m)
  const one = await sluice('compare', path('a.safetensors'), path('b.safetensors'))
  assert.not.match(one.stdout, /^0 /m)
  assert.match(one.stdout, /^all +27\.78 dB/m)
})

test('a tensor and a video; JSON; the least PSNR', async () => {
  const run = (...args: string[]) =>
    sluice('compare', path('a.safetensors'), path('folder'), '--json', ...args)
  const near = await run('--least-psnr', '50', '--frames')
  assert.is(near.code, 0, near.stderr)
  const report = JSON.parse(near.stdout)
  assert.equal([report.passed, report.equal, report.range, report.count], [true, false, 2, 3])
  assert.equal([report.planes, report.height, report.width], [3, height, width])
  // Eight bits: at most half a level away.
  assert.ok(report.largest <= 0.5 / 127.5 + 1e-6 && report.psnr > 50 && report.ssim > 0.99)
  assert.is(report.frames.length, 3)
  const far = await run('--least-psnr', '90')
  assert.equal([far.code, JSON.parse(far.stdout).passed], [1, false])
  const wide = await run('--range', '20')
  assert.ok(Math.abs(JSON.parse(wide.stdout).psnr - report.psnr - 20) < 1e-6)
})

test('equal files have no finite PSNR, and are never below one', async () => {
  const same = path('a.safetensors')
  const { code, stdout } = await sluice('compare', same, same, '--least-psnr', '200', '--json')
  const { passed, equal, psnr, ssim, largest } = JSON.parse(stdout)
  assert.equal([code, passed, equal, psnr, largest], [0, true, true, null, 0])
  assert.ok(Math.abs(ssim - 1) < 1e-9)
})

test('what cannot be compared is refused by name', async () => {
  writeFileSync(path('text.webp'), 'no picture')
  const a = path('a.safetensors')
  for (const [args, code, message] of [
    [[a, `${a}#other`], 8, /#other: expected 3 frames of 3 × 16 × 24 as in .*got 3 frames of 1 ×/],
    [[a, path('text.webp')], 8, /text\.webp: expected a video or a picture/],
    [[a, path('missing.gif')], 8, /missing\.gif: expected a readable file, got ENOENT/],
    [[a, path('missing.safetensors')], 4, /missing\.safetensors: expected/],
    [[a, a, '--key', 'none'], 8, /expected a tensor none, got video, other/],
    [[a, a, '--range', '0'], 2, /range: expected a positive number, got 0/],
    [[a, a, '--least-psnr', 'high'], 2, /--least-psnr: expected a number, got high/],
    [[a], 2, /missing required argument 'b'/],
  ] as const) {
    const result = await sluice('compare', ...args)
    assert.is(result.code, code, result.stderr)
    assert.match(result.stderr, message)
    assert.match(result.stderr, /^sluice: .+\n$/)
    assert.is(result.stdout, '')
  }
})

test.run()
