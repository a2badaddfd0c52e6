import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A temporary folder for one test file; `clean` removes it. */
export function scratch(name: string): {
  path: (file: string) => string
  list: () => string[]
  clean: () => void
} {
  const folder = mkdtempSync(join(tmpdir(), `sluice-${name}-`))
  return {
    path: file => join(folder, file),
    list: () => readdirSync(folder).sort(),
    clean: () => rmSync(folder, { recursive: true, force: true }),
  }
}

/** A safetensors file from a header as text or object and data of so many zero bytes, whether they fit or not. */
export function writeRaw(
  path: string,
  header: string | object | Buffer,
  dataBytes: number,
  claimed?: number,
): string {
  const json = Buffer.isBuffer(header)
    ? header
    : Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(claimed ?? json.length))
  writeFileSync(path, Buffer.concat([length, json, Buffer.alloc(dataBytes)]))
  return path
}
