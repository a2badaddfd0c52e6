import { formatBytes } from '../units.js'

/** `43,212,800`. */
export function grouped(value: number): string {
  return value.toLocaleString('en-US')
}

/** `12.3 GFLOP`. */
export function formatFlops(flops: number): string {
  const units = ['FLOP', 'kFLOP', 'MFLOP', 'GFLOP', 'TFLOP', 'PFLOP', 'EFLOP']
  let i = 0
  let value = flops
  while (value >= 1000 && i < units.length - 1) {
    value /= 1000
    i++
  }
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${units[i]}`
}

/** `3 ms`, `0.35 s`, `12.3 s`, `3 min 20 s`, `2 h 5 min`. */
export function formatTime(seconds: number): string {
  if (seconds < 0.1) return `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
}

/** `43%`, `0.4%`. */
export function formatShare(part: number, whole: number): string {
  const share = whole > 0 ? (100 * part) / whole : 0
  return `${share.toFixed(share < 9.95 ? 1 : 0)}%`
}

/** `16 frames of 64 x 64, 25 steps, on cpu with 2 threads`. */
export function describeOptions(
  options: Readonly<Record<string, number | string | boolean | undefined>>,
): string {
  const { frames, width, height, steps, device, threads } = options
  return `${frames} frames of ${width} x ${height}, ${steps} steps, on ${device} with ${threads} threads`
}

/** `8,992,272 bytes (8.58 MiB)`. */
export function exactly(bytes: number): string {
  return `${grouped(bytes)} bytes (${formatBytes(bytes)})`
}
