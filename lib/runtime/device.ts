import { DeviceError, MemoryError, OptionError } from '../errors.js'
import type { Target } from '../program/op.js'
import type { DType } from '../program/tensor.js'
import { formatBytes } from '../units.js'
import type { NativeDevice } from './addon-types.js'
import { native } from './native.js'

/** Devices of this machine: the CPU, and GPUs through the CUDA plug-in. */
export function devices(): NativeDevice[] {
  return native().devices()
}

/**
 * Checks a device and thread count.
 * @param name `auto` (a GPU where there is one, else the CPU), `cpu`, `cuda:0`
 * @param threads default: what the cgroup quota and affinity grant
 * @throws DeviceError when there is no such device, with the reason; OptionError for the thread count.
 */
export function resolveDevice(name = 'auto', threads?: number): { device: string; target: Target } {
  const known = devices()
  const device =
    name === 'auto'
      ? (known.find(({ id }) => id !== 'cpu') ?? known[0])
      : known.find(({ id }) => id === name)
  if (!device) {
    const why = Object.entries(native().missing()).map(
      ([backend, reason]) => `${backend}: ${reason}`,
    )
    throw new DeviceError(
      `device: expected one of ${known.map(({ id }) => id).join(', ')}, got ${name}; ${why.join('; ') || 'run `sluice doctor`'}`,
    )
  }
  const granted = native().cpu().threads
  const count = threads ?? granted
  if (!Number.isInteger(count) || count < 1 || count > 256)
    throw new OptionError(`threads: expected 1 to 256, got ${threads}`)
  return { device: device.id, target: { backend: device.id.split(':')[0]!, threads: count } }
}

/** How a backend stores activations where nobody says: its kernels' own precision. */
export function defaultActivations(target: Target): DType {
  return target.backend === 'cpu' ? 'f32' : 'f16'
}

/** @throws DeviceError for activations that the device's kernels do not read */
export function checkActivations(device: string, activations: DType): void {
  if (device !== 'cpu' || activations === 'f32') return
  throw new DeviceError(
    `dtype: expected f32, the only one that cpu computes with, got ${activations}; leave it out, or plan alone`,
  )
}

/** @throws MemoryError for a peak that the whole device could not hold, before any work is spent on it. */
export function checkMemory(device: string, peakBytes: number): void {
  const memory = devices().find(({ id }) => id === device)?.memoryBytes
  if (memory === undefined || peakBytes <= memory) return
  throw new MemoryError(
    `${device}: expected a peak within its ${formatBytes(memory)}, got ${formatBytes(peakBytes)}; give a budget, fewer frames or a smaller picture`,
  )
}
