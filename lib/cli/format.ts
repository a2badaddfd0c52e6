import { formatBytes } from '../units.js'

/** `43,212,800`. */
export function grouped(value: number): string {
  return value.toLocaleString('en-US')
}

/** `43,212,800 bytes (41.2 MiB)`. */
export function exactBytes(bytes: number): string {
  return `${grouped(bytes)} bytes (${formatBytes(bytes)})`
}

/** `0.35 s`, `12.3 s`, `3 min 20 s`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`
  return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`
}
