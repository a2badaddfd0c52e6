import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CheckpointError, FileError } from '../../lib/errors.js'
import { readFloats, readInts, readSafetensorsHeader } from '../../lib/io/safetensors.js'
import { SafetensorsWriter, writeSafetensors } from '../../lib/io/safetensors-writer.js'
import { scratch, writeRaw } from './scratch.js'

const { path, list, clean } = scratch('safetensors')
test.after(clean)

const f32 = (shape: number[], start: number, end: number) => ({
  dtype: 'F32',
  shape,
  data_offsets: [start, end],
})

test('what is written is read back, with its metadata', async () => {
  const a = Float32Array.of(1.5, -2, 3e-8, Number.POSITIVE_INFINITY, 0, -0)
  const b = Int32Array.of(-1, 2 ** 31 - 1)
  await writeSafetensors(
    path('a.safetensors'),
    {
      a: { shape: [2, 3], data: a },
      empty: { shape: [0], data: new Float32Array() },
      b: { shape: [2, 1], data: b },
    },
    { note: 'ünï' },
  )
  const { tensors, metadata, bytes } = readSafetensorsHeader(path('a.safetensors'))
  assert.equal(metadata, { note: 'ünï' })
  assert.is(bytes, readFileSync(path('a.safetensors')).length)
  assert.equal([...tensors.keys()], ['a', 'empty', 'b'])
  assert.equal(tensors.get('a')!.shape, [2, 3])
  assert.is(tensors.get('a')!.offset % 8, 0)
  assert.equal(await readFloats(tensors.get('a')!), a)
  assert.equal(await readInts(tensors.get('b')!), b)
  assert.is((await readFloats(tensors.get('empty')!)).length, 0)
})

test('float16 and bfloat16 are widened', async () => {
  const halves = [
    0x0000, 0x8000, 0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0x83ff, 0x7c00, 0xfc00, 0x3555,
  ]
  const expected = [
    0,
    -0,
    1,
    -2,
    65504,
    2 ** -14,
    2 ** -24,
    -1023 * 2 ** -24,
    Infinity,
    -Infinity,
    0.333251953125,
  ]
  const data = Buffer.alloc(26)
  for (const [i, half] of halves.entries()) data.writeUInt16LE(half, 2 * i)
  data.writeUInt16LE(0x3f80, 22)
  data.writeUInt16LE(0xc2f7, 24)
  const header = {
    half: { dtype: 'F16', shape: [11], data_offsets: [0, 22] },
    brain: { dtype: 'BF16', shape: [2], data_offsets: [22, 26] },
  }
  const file = writeRaw(path('half.safetensors'), header, 0)
  writeFileSync(file, data, { flag: 'a' })
  const { tensors } = readSafetensorsHeader(file)
  assert.equal([...(await readFloats(tensors.get('half')!))], expected)
  assert.equal([...(await readFloats(tensors.get('brain')!))], [1, -123.5])
})

test('64-bit integers are narrowed, and refused beyond 32 bits', async () => {
  const data = Buffer.alloc(24)
  data.writeBigInt64LE(-5n, 0)
  data.writeBigInt64LE(49407n, 8)
  data.writeBigInt64LE(2n ** 31n, 16)
  const header = {
    ids: { dtype: 'I64', shape: [2], data_offsets: [0, 16] },
    big: { dtype: 'I64', shape: [], data_offsets: [16, 24] },
  }
  const file = writeRaw(path('ids.safetensors'), header, 0)
  writeFileSync(file, data, { flag: 'a' })
  const { tensors } = readSafetensorsHeader(file)
  assert.equal([...(await readInts(tensors.get('ids')!))], [-5, 49407])
  await refused(
    readInts(tensors.get('big')!),
    /big\[0\]: expected a value of 32 bits, got 2147483648/,
  )
  await refused(readFloats(tensors.get('ids')!), /ids: expected dtype F32.*got I64/)
  await refused(
    readInts({ ...tensors.get('ids')!, dtype: 'F16' }),
    /expected an integer dtype, got F16/,
  )
})

test('a header that breaks a rule is refused with tensor, expectation and value', () => {
  const cases: [string, string | object | Buffer, number, RegExp][] = [
    ['json', '{"a": ', 0, /expected a JSON header/],
    ['array', '[1]', 0, /expected a JSON object/],
    ['entry', { a: 3 }, 0, /: a: expected dtype, shape and data_offsets, got 3/],
    [
      'dtype',
      { a: { dtype: 'F128', shape: [1], data_offsets: [0, 16] } },
      16,
      /: a: expected a dtype of .*F32.*, got "F128"/,
    ],
    [
      'proto-dtype',
      { a: { dtype: 'toString', shape: [1], data_offsets: [0, 1] } },
      1,
      /expected a dtype of/,
    ],
    ['shape', { a: f32([1.5], 0, 6) }, 6, /: a: expected a shape of whole numbers, got \[1.5\]/],
    ['negative', { a: f32([-1], 0, 4) }, 4, /expected a shape of whole numbers/],
    ['offsets', { a: f32([1], 4, 0) }, 4, /expected data_offsets \[start, end\], got \[4,0\]/],
    ['bytes', { a: f32([2, 2], 0, 12) }, 12, /: a: expected 16 bytes for F32 \[2, 2\], got 12/],
    ['huge', { a: f32([2 ** 40, 2 ** 40], 0, 16) }, 16, /: a: expected .* bytes for F32/],
    [
      'overlap',
      { a: f32([2], 0, 8), b: f32([2], 4, 12) },
      12,
      /: b: expected data at byte 8, got an overlap: 4/,
    ],
    [
      'hole',
      { a: f32([1], 0, 4), b: f32([1], 8, 12) },
      12,
      /: b: expected data at byte 4, got a hole: 8/,
    ],
    [
      'claims',
      { a: f32([1000], 0, 4000) },
      100,
      /: a: expected data up to byte \d+ of the file, got a file of \d+; the file is truncated/,
    ],
    [
      'left-over',
      { a: f32([1], 0, 4) },
      12,
      /expected a file of \d+ bytes, as its header says, got/,
    ],
    [
      'twice',
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a" :{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
      1,
      /: a: expected one entry, got two/,
    ],
    [
      'twice-escaped',
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\\u0061":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
      1,
      /expected one entry/,
    ],
    ['metadata', { __metadata__: { a: 1 } }, 0, /expected __metadata__ of strings/],
    ['utf-8', Buffer.from([0x7b, 0xff, 0x7d]), 0, /expected a header in UTF-8/],
  ]
  for (const [name, header, data, message] of cases) {
    const file = writeRaw(path(`${name}.safetensors`), header, data)
    assert.throws(() => readSafetensorsHeader(file), matches(message, file), name)
  }
})

test('keys and strings that look like structure do not confuse the search for repeated keys', () => {
  const header = {
    '{"a":': f32([1], 0, 4),
    a: f32([1], 4, 8),
    __metadata__: { a: '"a":{', b: '\\' },
  }
  assert.is(readSafetensorsHeader(writeRaw(path('odd.safetensors'), header, 8)).tensors.size, 2)
})

test('truncated and foreign files are refused', () => {
  const cases: [string, Buffer, RegExp][] = [
    ['empty', Buffer.alloc(0), /expected at least 8 bytes, got 0/],
    ['short', Buffer.alloc(5), /expected at least 8 bytes, got 5/],
    [
      'in-header',
      Buffer.concat([Buffer.from([100, 0, 0, 0, 0, 0, 0, 0]), Buffer.from('{"a"')]),
      /expected a header of 100 bytes, got a file of 12/,
    ],
    [
      'text',
      Buffer.from('version https://git-lfs.github.com/spec/v1'),
      /expected a header of at most/,
    ],
    [
      'pickle',
      Buffer.from([0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20]),
      /got a pickle .*convert it to safetensors/,
    ],
    ['pickle4', Buffer.from([0x80, 0x04, 0x95]), /got a pickle/],
    [
      'zip',
      Buffer.concat([Buffer.from('PK\x03\x04'), Buffer.alloc(40)]),
      /got a zip .*convert it to safetensors/,
    ],
  ]
  for (const [name, bytes, message] of cases) {
    writeFileSync(path(`${name}.bin`), bytes)
    assert.throws(
      () => readSafetensorsHeader(path(`${name}.bin`)),
      matches(message, path(`${name}.bin`)),
      name,
    )
  }
  assert.throws(
    () => readSafetensorsHeader(path('absent.safetensors')),
    matches(/got no such file/, path('absent.safetensors')),
  )
  assert.throws(() => readSafetensorsHeader(path('.')), matches(/got a folder/, path('.')))
})

test('a header whose length begins with the bytes of a pickle is no pickle', () => {
  const text = JSON.stringify({ a: { dtype: 'U8', shape: [1], data_offsets: [0, 1] } }).padEnd(
    0x0280,
    ' ',
  )
  assert.is(readSafetensorsHeader(writeRaw(path('lookalike.safetensors'), text, 1)).tensors.size, 1)
})

test('a file cut after it was opened is noticed when its data are read', async () => {
  await writeSafetensors(path('cut.safetensors'), {
    a: { shape: [100], data: new Float32Array(100) },
  })
  const entry = readSafetensorsHeader(path('cut.safetensors')).tensors.get('a')!
  writeFileSync(
    path('cut.safetensors'),
    readFileSync(path('cut.safetensors')).subarray(0, entry.offset + 40),
  )
  await refused(readFloats(entry), /a: expected 400 bytes, got 40/)
})

test('a streamed file appears only when it is whole', async () => {
  const spec = [{ key: 'video', dtype: 'F32', shape: [2, 3] } as const]
  const writer = await SafetensorsWriter.open(path('stream.safetensors'), spec)
  await writer.append(Float32Array.of(1, 2, 3))
  assert.not.ok(list().includes('stream.safetensors'))
  await writer.append(Float32Array.of(4, 5, 6))
  await writer.close()
  await writer.abort()
  assert.equal(
    [
      ...(await readFloats(
        readSafetensorsHeader(path('stream.safetensors')).tensors.get('video')!,
      )),
    ],
    [1, 2, 3, 4, 5, 6],
  )

  const short = await SafetensorsWriter.open(path('incomplete.safetensors'), spec)
  await short.append(Float32Array.of(1))
  assert.is(await failure(short.close()), FileError)
  const long = await SafetensorsWriter.open(path('long.safetensors'), spec)
  assert.is(await failure(long.append(new Float32Array(7))), FileError)
  await long.abort()
  await long.abort()
  assert.is(
    await failure(SafetensorsWriter.open(path('no/such/folder.safetensors'), spec)),
    FileError,
  )
  assert.is(
    await failure(
      writeSafetensors(path('long.safetensors'), { a: { shape: [2], data: new Float32Array(3) } }),
    ),
    FileError,
  )
  assert.equal(
    list().filter(name => name.startsWith('.') || /^(long|incomplete)/.test(name)),
    [],
  )
})

async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: Error) => error.constructor,
  )
}

async function refused(promise: Promise<unknown>, message: RegExp): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (e: Error) => e,
  )
  assert.ok(error instanceof CheckpointError && message.test(error.message), String(error))
}

function matches(message: RegExp, file: string): (error: Error) => boolean {
  return error =>
    error instanceof CheckpointError &&
    error.exitCode === 4 &&
    error.path === file &&
    message.test(error.message)
}

test.run()
