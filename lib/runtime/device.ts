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

/** How products of convolutions and matrices are computed: `bf16` rounds what they read to bfloat16, and adds up in float32. */
export type Compute = 'f32' | 'bf16'

/**
 * Checks a device, a thread count and how products are computed.
 * @param name `auto` (a GPU where there is one, else the CPU), `cpu`, `cuda:0`
 * @param threads default: what the cgroup quota and affinity grant
 * @throws DeviceError when there is no such device or it does not compute so, with the reason; OptionError for the other two.
 */
export function resolveDevice(
  name = 'auto',
  threads?: number,
  compute: Compute = 'f32',
): { device: string; target: Target } {
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
  const backend = device.id.split(':')[0]!
  checkCompute(backend, compute)
  return {
    device: device.id,
    target: {
      backend,
      threads: count,
      ...(compute === 'bf16' && { compute }),
      ...(device.wgmma && { wgmma: true }),
    },
  }
}

function checkCompute(backend: string, compute: Compute): void {
  if (compute === 'f32') return
  if (compute !== 'bf16') throw new OptionError(`compute: expected f32 or bf16, got ${compute}`)
  const { bf16, selected, model } = native().cpu()
  const got = backend !== 'cpu' ? backend : `${model} (${selected} in use)`
  if (backend !== 'cpu' || !bf16)
    throw new DeviceError(
      `compute: expected a processor with AVX512_BF16 or AMX for bf16, got ${got}; leave it out`,
    )
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
