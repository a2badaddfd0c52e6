import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { FileError } from '../errors.js'
import { asFileError, type Replacement, replacementOf } from './atomic.js'

/** A tensor to write: its dtype is that of its data. */
export interface TensorData {
  readonly shape: readonly number[]
  readonly data: Float32Array | Int32Array
}

export interface TensorSpec {
  readonly key: string
  readonly dtype: 'F32' | 'I32'
  readonly shape: readonly number[]
}

/**
 * Writes a safetensors file whose tensors are known in advance and whose data come piece by piece, in the order of the
 * specs. The file appears under its name at `close`; `abort` leaves nothing.
 */
export class SafetensorsWriter {
  private written = 0
  private open = true
  private constructor(
    readonly path: string,
    private readonly place: Replacement,
    private readonly file: FileHandle,
    private readonly headerBytes: number,
    private readonly dataBytes: number,
  ) {}

  /** @throws FileError when the system refuses. */
  static async open(
    path: string,
    specs: readonly TensorSpec[],
    metadata?: Readonly<Record<string, string>>,
  ): Promise<SafetensorsWriter> {
    const { header, dataBytes } = layOut(specs, metadata)
    const place = replacementOf(path)
    try {
      const file = await open(place.temporary, 'wx')
      const writer = new SafetensorsWriter(path, place, file, header.length, dataBytes)
      await writeAll(file, header, 0).catch(error =>
        writer.abort().then(() => Promise.reject(error)),
      )
      return writer
    } catch (error) {
      throw asFileError(error, path, 'write')
    }
  }

  /** @throws FileError for more data than the specs hold, or when the system refuses. */
  async append(data: Float32Array | Int32Array): Promise<void> {
    if (this.written + data.byteLength > this.dataBytes) {
      throw new FileError(
        `${this.path}: expected ${this.dataBytes} bytes of data, got ${this.written + data.byteLength}; write the shapes that were announced`,
        this.path,
      )
    }
    try {
      await writeAll(
        this.file,
        new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
        this.headerBytes + this.written,
      )
    } catch (error) {
      throw asFileError(error, this.path, 'write')
    }
    this.written += data.byteLength
  }

  /** @throws FileError when data are missing. */
  async close(): Promise<void> {
    if (this.written !== this.dataBytes) {
      await this.abort()
      throw new FileError(
        `${this.path}: expected ${this.dataBytes} bytes of data, got ${this.written}; write the shapes that were announced`,
        this.path,
      )
    }
    try {
      this.open = false
      await this.file.close()
      await rename(this.place.temporary, this.place.file)
    } catch (error) {
      await rm(this.place.temporary, { force: true })
      throw asFileError(error, this.path, 'write')
    }
  }

  async abort(): Promise<void> {
    if (this.open) await this.file.close()
    this.open = false
    await rm(this.place.temporary, { force: true })
  }
}

/** Writes tensors and metadata to a safetensors file, atomically. @throws FileError when the system refuses. */
export async function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, TensorData>>,
  metadata?: Readonly<Record<string, string>>,
): Promise<void> {
  const entries = Object.entries(tensors)
  const specs = entries.map(([key, { shape, data }]): TensorSpec => {
    const elements = shape.reduce((a, b) => a * b, 1)
    if (elements !== data.length) {
      throw new FileError(
        `${path}: ${key}: expected ${elements} elements for [${shape.join(', ')}], got ${data.length}; correct the shape`,
        path,
      )
    }
    return { key, dtype: data instanceof Float32Array ? 'F32' : 'I32', shape }
  })
  const writer = await SafetensorsWriter.open(path, specs, metadata)
  try {
    for (const [, { data }] of entries) await writer.append(data)
  } catch (error) {
    await writer.abort()
    throw error
  }
  await writer.close()
}

function layOut(
  specs: readonly TensorSpec[],
  metadata?: Readonly<Record<string, string>>,
): { header: Buffer; dataBytes: number } {
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {}
  let at = 0
  for (const { key, dtype, shape } of specs) {
    const end = at + shape.reduce((a, b) => a * b, 4)
    header[key] = { dtype, shape, data_offsets: [at, end] }
    at = end
  }
  const json = Buffer.from(JSON.stringify(header))
  // Spaces after the JSON align the data to 8 bytes, as the format asks.
  const padded = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ')
  padded.writeBigUInt64LE(BigInt(padded.length - 8), 0)
  json.copy(padded, 8)
  return { header: padded, dataBytes: at }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let done = 0
  while (done < bytes.length) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done)
    done += bytesWritten
  }
}
