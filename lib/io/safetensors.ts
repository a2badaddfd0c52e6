import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { CheckpointError } from '../errors.js'
import { dtypeBytes, type FileDtype, isFileDtype, widenBf16, widenF16 } from './dtypes.js'

/** Where a tensor lies: `bytes` bytes from `offset` in `file`, counted from the start of the file. */
export interface TensorEntry {
  readonly file: string
  readonly key: string
  readonly dtype: FileDtype
  readonly shape: readonly number[]
  readonly offset: number
  readonly bytes: number
}

export interface SafetensorsHeader {
  readonly path: string
  /** Size of the file. */
  readonly bytes: number
  readonly metadata: Readonly<Record<string, string>>
  readonly tensors: ReadonlyMap<string, TensorEntry>
}

/** The format's own limit on a header. */
const largestHeader = 100_000_000

/**
 * Reads and checks the header of a safetensors file, not its data.
 * @throws CheckpointError when the file is absent, of another kind, truncated, or its header breaks a rule of the format.
 */
export function readSafetensorsHeader(path: string): SafetensorsHeader {
  const { text, dataStart, fileBytes } = readHeaderText(path)
  const header = parseHeader(path, text)
  const metadata = header.__metadata__ === undefined ? {} : checkMetadata(path, header.__metadata__)
  const tensors = new Map<string, TensorEntry>()
  for (const [key, value] of Object.entries(header)) {
    if (key !== '__metadata__') tensors.set(key, checkEntry(path, key, value, dataStart))
  }
  checkCoverage(path, [...tensors.values()], dataStart, fileBytes)
  return { path, bytes: fileBytes, metadata, tensors }
}

function readHeaderText(path: string): { text: string; dataStart: number; fileBytes: number } {
  let file: number
  try {
    file = openSync(path, 'r')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new CheckpointError(
      `${path}: expected a safetensors file, got ${code === 'ENOENT' ? 'no such file' : code}; check the path`,
      path,
      { cause: error },
    )
  }
  try {
    const stat = fstatSync(file)
    if (!stat.isFile()) refuse(path, 'a safetensors file', 'a folder', 'name the file in it')
    const start = readExactly(file, 0, Math.min(9, stat.size))
    refusePickle(path, start)
    if (stat.size < 8)
      refuse(path, 'at least 8 bytes', `${stat.size}`, 'the file is truncated: fetch it again')
    const headerBytes = Number(start.readBigUInt64LE(0))
    if (headerBytes > largestHeader) {
      refuse(
        path,
        `a header of at most ${largestHeader} bytes`,
        `a length of ${headerBytes}`,
        'this is no safetensors file',
      )
    }
    if (8 + headerBytes > stat.size) {
      refuse(
        path,
        `a header of ${headerBytes} bytes`,
        `a file of ${stat.size}`,
        'the file is truncated or no safetensors file: fetch it again',
      )
    }
    const bytes = readExactly(file, 8, headerBytes)
    let text: string
    try {
      text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    } catch {
      refuse(path, 'a header in UTF-8', 'other bytes', 'the file is damaged: fetch it again')
    }
    return { text, dataStart: 8 + headerBytes, fileBytes: stat.size }
  } finally {
    closeSync(file)
  }
}

function readExactly(file: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  let done = 0
  while (done < length) {
    const count = readSync(file, bytes, done, length - done, position + done)
    if (count === 0) break
    done += count
  }
  return bytes
}

/** Pickles run code when loaded. A safetensors header may begin with their bytes as its length, but then goes on with a brace. */
function refusePickle(path: string, start: Buffer): void {
  const isZip = start.length >= 4 && start.readUInt32BE(0) === 0x504b0304
  const isPickle = start.length >= 2 && start[0] === 0x80 && start[1]! >= 2 && start[1]! <= 5
  if (start[8] === 0x7b || (!isZip && !isPickle)) return
  refuse(
    path,
    'a safetensors file',
    `a ${isZip ? 'zip' : 'pickle'} (PyTorch .bin, .ckpt, .pt)`,
    'convert it to safetensors: pickles can run code and are never opened',
  )
}

type RawHeader = Record<string, unknown>

function parseHeader(path: string, text: string): RawHeader {
  let header: unknown
  try {
    header = JSON.parse(text)
  } catch (error) {
    refuse(path, 'a JSON header', (error as Error).message, 'the file is damaged: fetch it again')
  }
  if (!isRecord(header))
    refuse(
      path,
      'a JSON object as header',
      JSON.stringify(header).slice(0, 40),
      'the file is damaged: fetch it again',
    )
  const seen = new Set<string>()
  for (const key of topLevelKeys(text)) {
    if (seen.has(key))
      refuse(
        `${path}: ${key}`,
        'one entry',
        'two of that name',
        'the file is malformed: write it again',
        path,
      )
    seen.add(key)
  }
  return header
}

/** Keys of a JSON object in its valid text, repeated ones included (JSON.parse keeps only the last). */
function* topLevelKeys(text: string): Generator<string> {
  let depth = 0
  const token = /"(?:[^"\\]|\\.)*"(\s*:)?|[{}[\]]/g
  for (const match of text.matchAll(token)) {
    const first = match[0][0]
    if (first === '{' || first === '[') depth++
    else if (first === '}' || first === ']') depth--
    else if (depth === 1 && match[1] !== undefined)
      yield JSON.parse(match[0].slice(0, -match[1].length)) as string
  }
}

function checkMetadata(path: string, value: unknown): Record<string, string> {
  if (!isRecord(value) || !Object.values(value).every(x => typeof x === 'string')) {
    refuse(
      path,
      '__metadata__ of strings',
      JSON.stringify(value).slice(0, 80),
      'the file is malformed: write it again',
    )
  }
  return value as Record<string, string>
}

function checkEntry(path: string, key: string, value: unknown, dataStart: number): TensorEntry {
  const where = `${path}: ${key}`
  const fix = 'the file is malformed: write it again'
  if (!isRecord(value))
    refuse(where, 'dtype, shape and data_offsets', JSON.stringify(value), fix, path)
  const { dtype, shape, data_offsets: offsets } = value
  if (!isFileDtype(dtype)) {
    refuse(
      where,
      `a dtype of ${Object.keys(dtypeBytes).join(', ')}`,
      JSON.stringify(dtype),
      'convert the tensor to one of these',
      path,
    )
  }
  if (!Array.isArray(shape) || !shape.every(isCount))
    refuse(where, 'a shape of whole numbers', JSON.stringify(shape), fix, path)
  if (
    !Array.isArray(offsets) ||
    offsets.length !== 2 ||
    !offsets.every(isCount) ||
    offsets[0] > offsets[1]
  ) {
    refuse(where, 'data_offsets [start, end]', JSON.stringify(offsets), fix, path)
  }
  const [start, end] = offsets as [number, number]
  const bytes = (shape as number[]).reduce((a, b) => a * b, dtypeBytes[dtype])
  if (!Number.isSafeInteger(bytes) || bytes !== end - start) {
    refuse(where, `${bytes} bytes for ${dtype} [${shape.join(', ')}]`, `${end - start}`, fix, path)
  }
  return { file: path, key, dtype, shape: shape as number[], offset: dataStart + start, bytes }
}

/** The tensors must cover the data exactly: no overlap, no hole, no byte missing or left over. */
function checkCoverage(
  path: string,
  entries: TensorEntry[],
  dataStart: number,
  fileBytes: number,
): void {
  entries.sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)
  let at = dataStart
  for (const entry of entries) {
    if (entry.offset !== at) {
      const what = entry.offset < at ? 'an overlap' : 'a hole'
      refuse(
        `${path}: ${entry.key}`,
        `data at byte ${at - dataStart}`,
        `${what}: ${entry.offset - dataStart}`,
        'the file is malformed: write it again',
        path,
      )
    }
    at += entry.bytes
    if (at > fileBytes) {
      refuse(
        `${path}: ${entry.key}`,
        `data up to byte ${at} of the file`,
        `a file of ${fileBytes}`,
        'the file is truncated: fetch it again',
        path,
      )
    }
  }
  if (at !== fileBytes)
    refuse(
      path,
      `a file of ${at} bytes, as its header says`,
      `${fileBytes}`,
      'the file is malformed: fetch it again',
    )
}

/**
 * Data of a float tensor, widened from F16 and BF16 or narrowed from F64.
 * @throws CheckpointError for another dtype or a file that ends early.
 */
export async function readFloats(entry: TensorEntry): Promise<Float32Array> {
  switch (entry.dtype) {
    case 'F32':
      return new Float32Array(await readData(entry))
    case 'F64':
      return Float32Array.from(new Float64Array(await readData(entry)))
    case 'F16':
      return widenF16(new Uint16Array(await readData(entry)))
    case 'BF16':
      return widenBf16(new Uint16Array(await readData(entry)))
    default:
      refuse(
        `${entry.file}: ${entry.key}`,
        'dtype F32, F16, BF16 or F64',
        entry.dtype,
        'convert the tensor',
        entry.file,
      )
  }
}

/**
 * Data of an integer tensor, narrowed from I64, U64 and U32.
 * @throws CheckpointError for another dtype, a value beyond 32 bits or a file that ends early.
 */
export async function readInts(entry: TensorEntry): Promise<Int32Array> {
  switch (entry.dtype) {
    case 'I32':
      return new Int32Array(await readData(entry))
    case 'I16':
      return Int32Array.from(new Int16Array(await readData(entry)))
    case 'U16':
      return Int32Array.from(new Uint16Array(await readData(entry)))
    case 'I8':
      return Int32Array.from(new Int8Array(await readData(entry)))
    case 'U8':
    case 'BOOL':
      return Int32Array.from(new Uint8Array(await readData(entry)))
    case 'U32':
      return narrow(entry, new Uint32Array(await readData(entry)))
    case 'I64':
      return narrow(entry, new BigInt64Array(await readData(entry)))
    case 'U64':
      return narrow(entry, new BigUint64Array(await readData(entry)))
    default:
      refuse(
        `${entry.file}: ${entry.key}`,
        'an integer dtype',
        entry.dtype,
        'convert the tensor',
        entry.file,
      )
  }
}

function narrow(entry: TensorEntry, values: ArrayLike<number | bigint>): Int32Array {
  const out = new Int32Array(values.length)
  for (let i = 0; i < out.length; i++) {
    const value = values[i]!
    if (value < -(2 ** 31) || value >= 2 ** 31) {
      refuse(
        `${entry.file}: ${entry.key}[${i}]`,
        'a value of 32 bits',
        `${value}`,
        'store smaller values',
        entry.file,
      )
    }
    out[i] = Number(value)
  }
  return out
}

async function readData(entry: TensorEntry): Promise<ArrayBuffer> {
  const buffer = new ArrayBuffer(entry.bytes)
  const bytes = new Uint8Array(buffer)
  const file = await open(entry.file, 'r').catch((error: NodeJS.ErrnoException) => {
    refuse(entry.file, 'a readable file', `${error.code}`, 'check the path')
  })
  try {
    let done = 0
    while (done < entry.bytes) {
      const { bytesRead } = await file.read(bytes, done, entry.bytes - done, entry.offset + done)
      if (bytesRead === 0) {
        refuse(
          `${entry.file}: ${entry.key}`,
          `${entry.bytes} bytes`,
          `${done}`,
          'the file changed since it was opened: load it again',
          entry.file,
        )
      }
      done += bytesRead
    }
  } finally {
    await file.close()
  }
  return buffer
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function refuse(where: string, expected: string, got: string, fix: string, path = where): never {
  throw new CheckpointError(`${where}: expected ${expected}, got ${got}; ${fix}`, path)
}
