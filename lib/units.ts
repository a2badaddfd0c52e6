import { OptionError } from './errors.js'

const factors: Record<string, number> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
}

/**
 * Bytes from a number or a string with a unit: `512MiB`, `2 GiB`, `1.5e9`, `800 MB` (MB = 10^6, MiB = 2^20; bare K, M, G are binary).
 * @throws OptionError for anything else, negative or not finite.
 */
export function parseBytes(value: number | string, where = 'budget'): number {
  const match = /^\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*([a-z]*)\s*$/i.exec(String(value))
  const factor = match ? factors[match[2]!.toLowerCase()] : undefined
  const exact = match && factor !== undefined ? Number(match[1]) * factor : Number.NaN
  // Half a MiB is a number of bytes, half a byte is none.
  const bytes = factor === 1 ? exact : Math.round(exact)
  if (!Number.isSafeInteger(bytes)) {
    throw new OptionError(
      `${where}: expected bytes such as 512MiB, 2 GiB or 1500000000, got ${JSON.stringify(value)}`,
    )
  }
  return bytes
}

/** `12.3 MiB`, with binary units and three figures. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let i = 0
  let value = bytes
  while (value >= 1024 && i < units.length - 1) {
    value /= 1024
    i++
  }
  return i === 0
    ? `${bytes} B`
    : `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${units[i]}`
}
