import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { PackForm, type PackJob } from '../../lib/runtime/addon-types.js'
import { native } from '../../lib/runtime/native.js'
import { roundTo } from '../support/interpreter-math.js'
import { randomNumbers } from '../support/random-program.js'
import { halfBits } from './cpu/support.js'
import { rejectsCode, throwsCode } from './support.js'

const folder = mkdtempSync(join(tmpdir(), 'sluice-pack-'))
test.after(() => rmSync(folder, { recursive: true }))

const ceil16 = (n: number) => Math.ceil(n / 16) * 16

/** Element `o, k` of a matrix in panels of `width` values of `bytes` each. */
const inPanels = (o: number, k: number, depth: number) =>
  (Math.floor(o / 16) * depth + k) * 16 + (o % 16)

function fileOf(name: string, bytes: Uint8Array) {
  const path = join(folder, name)
  writeFileSync(path, bytes)
  return { path, file: native().openFile(path) }
}

function job(change: Partial<PackJob> & Pick<PackJob, 'file'>): PackJob {
  return {
    sourceOffset: 0,
    sourceBytes: 4,
    dtype: 0,
    form: PackForm.vector,
    outputs: 1,
    inputs: 1,
    taps: 1,
    destination: 0,
    ...change,
  }
}

async function packed(jobs: PackJob[], bytes: number, threads = 2): Promise<Uint8Array> {
  const block = native().createBlock('cpu', bytes)
  block.fill(0, bytes, 0xee)
  await native().pack(block, jobs, threads).done
  const out = new Uint8Array(bytes)
  block.read(0, out)
  block.release()
  return out
}

test('panels hold [outputs, inputs, taps] as [panel][tap, input][output]', async () => {
  const [outputs, inputs, taps] = [20, 3, 9]
  const depth = inputs * taps
  const values = Float32Array.from({ length: outputs * depth }, (_, i) => i + 1)
  const { file } = fileOf('panel', new Uint8Array(values.buffer))
  const bytes = ceil16(outputs) * depth * 4
  const size = { sourceBytes: values.byteLength, outputs, inputs, taps, form: PackForm.panel }
  for (const threads of [1, 2, 5]) {
    const out = new Float32Array((await packed([job({ file, ...size })], bytes, threads)).buffer)
    const expected = new Float32Array(bytes / 4)
    for (let o = 0; o < outputs; o++) {
      for (let c = 0; c < inputs; c++) {
        for (let t = 0; t < taps; t++) {
          expected[inPanels(o, t * inputs + c, depth)] = values[(o * inputs + c) * taps + t]!
        }
      }
    }
    assert.equal(out, expected)
  }
  file.close()
})

test('phases hold the sums of the taps that fall on one pixel of a doubled image', async () => {
  const [outputs, inputs] = [21, 5]
  const next = randomNumbers(1)
  const depth = 16 * inputs
  const f = Math.fround
  // Taps of an axis on the first and the second stored pixel, under an odd and an even position.
  const taps = [
    [[0], [1, 2]],
    [[0, 1], [2]],
  ] as const
  for (const [dtype, name] of (['f32', 'f16', 'bf16'] as const).entries()) {
    const values = Float32Array.from({ length: outputs * inputs * 9 }, () => next() - 0.5)
    if (name !== 'f32') values.forEach((x, i) => (values[i] = roundTo(x, name)))
    const stored = name === 'f32' ? values : Uint16Array.from(values, x => halfBits(x, name))
    const expected = new Float32Array(ceil16(outputs) * depth)
    for (let o = 0; o < outputs; o++) {
      for (let c = 0; c < inputs; c++) {
        const at = (y: number, x: number) => values[(o * inputs + c) * 9 + 3 * y + x]!
        for (let k = 0; k < 16; k++) {
          const [evenRow, evenCol, y, x] = [k >> 3, (k >> 2) & 1, (k >> 1) & 1, k & 1]
          const row = (tap: number) =>
            taps[evenCol]![x]!.map(col => at(tap, col)).reduce((a, b) => f(a + b))
          const sum = taps[evenRow]![y]!.map(row).reduce((a, b) => f(a + b))
          expected[inPanels(o, k * inputs + c, depth)] = sum
        }
      }
    }
    // From an odd address of a file too.
    const bytes = new Uint8Array(stored.byteLength + 1)
    bytes.set(new Uint8Array(stored.buffer), 1)
    const { file } = fileOf(`phases ${name}`, bytes)
    const size = { sourceOffset: 1, sourceBytes: stored.byteLength, outputs, inputs, taps: 9 }
    for (const threads of [1, 3]) {
      const form = PackForm.panelPhases
      const out = await packed([job({ file, ...size, dtype, form })], expected.byteLength, threads)
      assert.equal(new Float32Array(out.buffer), expected, name)
    }
    file.close()
  }
})

test('pairs interleave values and gates, padded', async () => {
  const n = 5
  const inputs = 4
  const values = Uint16Array.from({ length: 2 * n * inputs }, (_, i) => 0x3c00 + i)
  const { file } = fileOf('pairs', new Uint8Array(values.buffer))
  const size = { sourceBytes: values.byteLength, outputs: 2 * n, inputs, dtype: 1 }
  const bytes = 2 * 16 * inputs * 2
  const out = await packed([job({ file, ...size, form: PackForm.panelPairs })], bytes)
  const expected = new Uint16Array(2 * 16 * inputs)
  for (let o = 0; o < 2 * n; o++) {
    const row = o < n ? o : 16 + o - n
    for (let k = 0; k < inputs; k++) expected[inPanels(row, k, inputs)] = values[o * inputs + k]!
  }
  assert.equal(new Uint16Array(out.buffer), expected)

  const bias = Float32Array.from({ length: 2 * n }, (_, i) => i + 1)
  const vector = await packed(
    [job({ file: bias, sourceBytes: 40, outputs: 2 * n, form: PackForm.vectorPairs })],
    2 * 16 * 4,
  )
  const order = new Float32Array(32)
  order.set(bias.subarray(0, n), 0)
  order.set(bias.subarray(n), 16)
  assert.equal(new Float32Array(vector.buffer), order)
  file.close()
})

test('vectors are widened, tables kept, from any offset, each where it belongs', async () => {
  const values = Float32Array.of(1.5, -2, 3)
  const halves = Uint16Array.of(0x3e00, 0xc000, 0x4200)
  const brains = Uint16Array.of(0x3fc0, 0xc000, 0x4040)
  for (const shift of [0, 1, 2, 3]) {
    const bytes = new Uint8Array(shift + 24)
    bytes.set(new Uint8Array(values.buffer), shift)
    bytes.set(new Uint8Array(halves.buffer), shift + 12)
    bytes.set(new Uint8Array(brains.buffer), shift + 18)
    const { file } = fileOf('vector', bytes)
    assert.is(file.bytes, shift + 24)
    const out = await packed(
      [
        job({ file, sourceOffset: shift, sourceBytes: 12, outputs: 3, destination: 0 }),
        job({
          file,
          sourceOffset: shift + 12,
          sourceBytes: 6,
          dtype: 1,
          outputs: 3,
          destination: 64,
        }),
        job({
          file,
          sourceOffset: shift + 18,
          sourceBytes: 6,
          dtype: 2,
          outputs: 3,
          destination: 128,
        }),
        job({
          file,
          sourceOffset: shift + 12,
          sourceBytes: 6,
          dtype: 1,
          form: PackForm.raw,
          outputs: 3,
          destination: 192,
        }),
      ],
      200,
    )
    for (const at of [0, 64, 128]) assert.equal(new Float32Array(out.buffer, at, 3), values)
    assert.equal(new Uint16Array(out.buffer, 192, 3), halves)
    for (const [from, to] of [
      [12, 64],
      [76, 128],
      [140, 192],
      [198, 200],
    ] as const) {
      assert.ok(out.subarray(from, to).every(byte => byte === 0xee))
    }
    file.close()
  }
})

test('values in memory are copied before the call returns', async () => {
  const block = native().createBlock('cpu', 8)
  const values = Float32Array.of(9, 1, 2)
  const { done } = native().pack(
    block,
    [job({ file: values, sourceOffset: 4, sourceBytes: 8, outputs: 2 })],
    1,
  )
  values.fill(-1)
  assert.is(await done, 8)
  const out = new Float32Array(2)
  block.read(0, out)
  assert.equal([...out], [1, 2])
  block.release()
})

test('a closed file serves the jobs that have it; progress ends at the number of jobs', async () => {
  const { file } = fileOf('closed', new Uint8Array(Float32Array.of(1, 2).buffer))
  const block = native().createBlock('cpu', 4096)
  const jobs = Array.from({ length: 500 }, (_, i) =>
    job({ file, sourceBytes: 8, outputs: 2, destination: i * 8 }),
  )
  const seen: number[] = []
  const { done } = native().pack(block, jobs, 2, count => seen.push(count))
  file.close()
  file.close()
  assert.is(await done, 4000)
  assert.is(seen.at(-1), 500)
  throwsCode(() => native().pack(block, jobs, 2), 'argument', /got one that was closed/)
  block.release()
})

test('abort stops between weights', async () => {
  const bytes = 4 << 20
  const { file } = fileOf('abort', new Uint8Array(bytes))
  const block = native().createBlock('cpu', bytes)
  const matrix = { sourceBytes: bytes, outputs: 1024, inputs: 1024, form: PackForm.panel }
  const jobs = Array.from({ length: 10000 }, () => job({ file, ...matrix }))
  const packing = native().pack(block, jobs, 2, () => packing.abort())
  await rejectsCode(packing.done, 'aborted', /aborted after \d+ of 10000 weights/)
  assert.is(await native().pack(block, [], 2).done, 0)
  file.close()
  block.release()
})

test('jobs that do not fit their source or the block are refused before anything is written', () => {
  const { file } = fileOf('small', new Uint8Array(64))
  const block = native().createBlock('cpu', 1024)
  const bad = (change: Partial<PackJob>, message: RegExp) =>
    throwsCode(() => native().pack(block, [job({ file, ...change })], 1), 'argument', message)
  bad({ sourceOffset: 61 }, /job 0, source: expected a range inside the source's 64 bytes/)
  bad({ sourceOffset: 2 ** 53 - 1 }, /source: expected a range/)
  bad({ sourceBytes: 8 }, /sourceBytes: expected 4 for its shape and dtype, got 8/)
  bad({ outputs: 0, sourceBytes: 0 }, /axes of 1 or more/)
  bad({ outputs: 2 ** 40, inputs: 2 ** 40, taps: 2 ** 40 }, /sourceBytes/)
  bad({ outputs: 2 ** 52 }, /axes/)
  bad({ outputs: -1 }, /outputs: expected an integer/)
  bad({ dtype: 3 }, /dtype: expected an integer from 0 to 2/)
  bad({ form: 6 as never }, /form: expected an integer from 0 to 5/)
  bad({ form: PackForm.panelPhases }, /taps: expected 9 for phases, got 1/)
  bad({ form: PackForm.panelPairs }, /expected an even number for pairs/)
  bad(
    { form: PackForm.panel, destination: 964 },
    /destination: expected a multiple of 4 with 64 bytes left/,
  )
  bad({ destination: 2 }, /destination: expected a multiple of 4/)
  bad({ destination: 1024 }, /destination/)
  bad({ file: new Float32Array(2), sourceOffset: 8 }, /inside the view's 8 bytes/)
  throwsCode(
    () => native().pack(block, [null as never], 1),
    'argument',
    /job 0: expected an object/,
  )
  throwsCode(() => native().pack(block, {} as never, 1), 'argument', /expected an array/)
  throwsCode(() => native().pack(block, [], 0), 'argument', /threads/)
  assert.is(block.lastDifferent(0, 0), 0)
  file.close()
  block.release()
})

test('files that are missing, no files, or shrink are refused with their path', async () => {
  throwsCode(() => native().openFile('/nonexistent/x'), 'io', /\/nonexistent\/x: expected a file/)
  throwsCode(() => native().openFile(folder), 'io', /not a regular file/)
  throwsCode(() => native().openFile('/dev/zero'), 'io', /not a regular file/)
  throwsCode(() => native().openFile('a\0b'), 'argument', /zero byte/)
  throwsCode(() => native().openFile(1 as never), 'argument', /path: expected a string, got 1/)

  const empty = fileOf('empty', new Uint8Array(0)).file
  assert.is(empty.bytes, 0)
  empty.close()

  const { path, file } = fileOf('shrinks', new Uint8Array(65536))
  const block = native().createBlock('cpu', 65536)
  truncateSync(path, 100)
  const whole = job({ file, sourceBytes: 65536, outputs: 16384 })
  const error = await native()
    .pack(block, [whole], 1)
    .done.catch(thrown => thrown)
  assert.is(error.code, 'io')
  assert.is(error.path, path)
  assert.match(error.message, /became shorter/)
  file.close()
  block.release()
})

test.run()
