// Copies between slots, joins, and weights that a run fetches from its list.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CommandWriter, dtypeCode, slotHost } from '../../lib/planner/commands.js'
import { PackForm } from '../../lib/runtime/addon-types.js'
import { native } from '../../lib/runtime/native.js'
import { rejectsCode, rows, throwsCode } from './support.js'

const half = (offset: number) => ({ ...rows(offset, 0), dtype: dtypeCode.f16 })
const none = new Float64Array(0)
const device = process.env.SLUICE_TEST_DEVICE ?? 'cpu'

test('a copy moves a strided box to the host and back, whatever the threads', async () => {
  // Elements from pixel to pixel on the device and on the host: no gap, or one on either side.
  const gaps = [
    [6, 6],
    [10, 6],
    [6, 8],
  ] as const
  for (const [threads, [pixel, hostPixel]] of [1, 2, 5].flatMap(n =>
    gaps.map(g => [n, g] as const),
  )) {
    for (const ticket of [0, 1]) {
      const [frames, height, width, channels] = [3, 4, 5, 6]
      const extents = [2, 2, 3, channels] as const
      const strides = [height * width * pixel, width * pixel, pixel] as const
      const dense = [2 * 3 * hostPixel, 3 * hostPixel, hostPixel] as const
      const size = frames * height * width * pixel
      const word = { dtype: dtypeCode.i32 }
      const first = (1 * height + 1) * width + 1
      const writer = new CommandWriter()
      writer.copy(0, 0, {
        ticket,
        extents,
        source: { slot: 0, offset: 4 * first * pixel, strides, ...word },
        out: { slot: slotHost, offset: 64, strides: dense, ...word },
      })
      if (ticket) writer.join(0, 0, ticket)
      writer.copy(1, 0, {
        ticket: ticket && 2,
        extents,
        source: { slot: slotHost, offset: 64, strides: dense, ...word },
        out: { slot: 0, offset: 4 * size, strides, ...word },
      })
      if (ticket) writer.join(1, 0, 2)
      const host = native().createBlock(device, 4096, true)
      const arena = native().createBlock(device, 8 * size)
      const slots = Float64Array.of(8 * size, 0, 4096)
      const stream = native().loadStream(device, writer.finish(), slots)
      const input = Int32Array.from({ length: size }, (_, i) => (i * 2654435761) | 0)
      arena.write(0, input)
      arena.fill(4 * size, 4 * size, 0)
      await stream.run(arena, null, none, threads, undefined, { host }).done
      const out = new Int32Array(size)
      arena.read(4 * size, out)
      const expected = new Int32Array(size)
      for (let f = 0; f < 2; f++)
        for (let h = 0; h < 2; h++)
          for (let i = 0; i < 3 * channels; i++) {
            const at =
              ((f * height + h) * width + Math.floor(i / channels)) * pixel + (i % channels)
            expected[at] = input[at + first * pixel]!
          }
      assert.equal(out, expected, `${threads} threads, ticket ${ticket}, ${pixel}, ${hostPixel}`)
      for (const block of [arena, host]) block.release()
    }
  }
})

test("kernels do not reach the host's memory, and a run brings what its stream reaches", () => {
  const writer = new CommandWriter()
  writer.unary(0, 0, {
    act: 0,
    extents: [1, 1, 1, 4],
    source: rows(0, 4, slotHost),
    out: rows(0, 4),
  })
  const slots = Float64Array.of(64, 0, 64)
  throwsCode(
    () => native().loadStream(device, writer.finish(), slots),
    'bad-command',
    /source: expected memory of the device, got the host's/,
  )
  const copying = new CommandWriter()
  const extents = [1, 1, 1, 4] as const
  copying.copy(0, 0, { ticket: 0, extents, source: rows(0, 4, slotHost), out: rows(0, 4) })
  const stream = native().loadStream(device, copying.finish(), slots)
  const arena = native().createBlock(device, 64)
  throwsCode(() => stream.run(arena, null, none, 1), 'argument', /host: expected 64 bytes or more/)
  arena.release()
  const narrow = new CommandWriter()
  const out = { ...rows(0, 4), dtype: dtypeCode.f16 }
  narrow.copy(0, 0, { ticket: 0, extents, source: rows(0, 4, slotHost), out })
  throwsCode(
    () => native().loadStream(device, narrow.finish(), slots),
    'bad-command',
    /out: expected dtype/,
  )
})

if (device === 'cpu') {
  test('a fetched weight is packed as all weights are, from values and from files', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-fetch-'))
    const [outputs, inputs] = [20, 7]
    const values = Float32Array.from({ length: outputs * inputs }, (_, i) => Math.sin(i))
    // One byte into the file: such a weight goes through staging.
    writeFileSync(
      join(folder, 'weights'),
      Buffer.concat([Buffer.alloc(1), Buffer.from(values.buffer)]),
    )
    const file = native().openFile(join(folder, 'weights'))
    const form = { form: PackForm.panel, outputs, inputs, taps: 1, dtype: 0, destination: 0 }
    const sourceBytes = values.byteLength
    const jobs = [
      { ...form, file: values, sourceOffset: 0, sourceBytes },
      { ...form, file, sourceOffset: 1, sourceBytes },
    ]
    const bytes = 32 * inputs * 4
    const packed = native().createBlock('cpu', bytes)
    await native().pack(packed, [jobs[0]!], 1).done
    const expected = new Uint8Array(bytes)
    packed.read(0, expected)
    const fetched = native().openWeights(jobs)
    file.close()
    for (const weight of [0, 1]) {
      const writer = new CommandWriter()
      writer.fetch(0, 0, { weight, halves: bytes / 2, out: half(64) })
      const stream = native().loadStream('cpu', writer.finish(), Float64Array.of(bytes + 64, 0, 0))
      const arena = native().createBlock('cpu', bytes + 64)
      await stream.run(arena, null, none, 2, undefined, { fetched }).done
      const out = new Uint8Array(bytes)
      arena.read(64, out)
      assert.equal(out, expected)
      throwsCode(() => stream.run(arena, null, none, 2), 'argument', /expected a weight below 0/)
      arena.release()
    }
    const writer = new CommandWriter()
    writer.fetch(0, 0, { weight: 1, halves: 8, out: half(0) })
    const stream = native().loadStream('cpu', writer.finish(), Float64Array.of(64, 0, 0))
    const arena = native().createBlock('cpu', 64)
    throwsCode(
      () => stream.run(arena, null, none, 1, undefined, { fetched }),
      'argument',
      /expected room for 896 bytes, got 16/,
    )
    fetched.close()
    throwsCode(
      () => stream.run(arena, null, none, 1, undefined, { fetched }),
      'argument',
      /expected open weights/,
    )
    arena.release()
    packed.release()
    rmSync(folder, { recursive: true })
  })

  test('a file that shrank fails the run', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-fetch-'))
    const path = join(folder, 'weights')
    writeFileSync(path, new Uint8Array(4096))
    const file = native().openFile(path)
    const fetched = native().openWeights([
      {
        form: PackForm.vector,
        outputs: 1024,
        inputs: 1,
        taps: 1,
        dtype: 0,
        destination: 0,
        file,
        sourceOffset: 0,
        sourceBytes: 4096,
      },
    ])
    writeFileSync(path, new Uint8Array(16))
    const writer = new CommandWriter()
    writer.fetch(0, 0, { weight: 0, halves: 2048, out: half(0) })
    const stream = native().loadStream('cpu', writer.finish(), Float64Array.of(4096, 0, 0))
    const arena = native().createBlock('cpu', 4096)
    await rejectsCode(
      stream.run(arena, null, none, 1, undefined, { fetched }).done,
      'io',
      /weights/,
    )
    arena.release()
    rmSync(folder, { recursive: true })
  })
}

test.run()
