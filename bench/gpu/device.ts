/** What is known of the device that is measured. */
import { spawnSync } from 'node:child_process'
import { DeviceError } from '../../lib/errors.js'
import type { NativeDevice } from '../../lib/runtime/addon-types.js'
import { devices } from '../../lib/runtime/device.js'
import { native } from '../../lib/runtime/native.js'

export const gpu = 'cuda:0'

/** The device. @throws DeviceError that says why there is none */
export function found(): NativeDevice {
  const device = devices().find(({ id }) => id === gpu)
  if (device) return device
  const { cuda = 'no reason is given' } = native().missing()
  throw new DeviceError(`${gpu}: expected a device, got none; ${cuda}`)
}

/** Variables that change what is computed, or how. */
const settings = ['SLUICE_CUDA_WGMMA', 'SLUICE_CUDA_OVERLAP', 'SLUICE_CUDA_GRAPHS']

/** What results are of: the device and what is set about it. */
export function describe({ name, detail }: NativeDevice, small: boolean): string {
  const set = settings
    .filter(variable => process.env[variable] !== undefined)
    .map(variable => `${variable}=${process.env[variable]}`)
  return [name, detail, ...set, ...(small ? ['small'] : [])].join(', ')
}

export const freeBytes = (): number => found().freeBytes

/** Whether the device is the emulated one, on which only what is small can run. */
export const isEmulated = ({ name }: { name: string }): boolean => name.startsWith('emulated')

export interface DriverView {
  readonly name: string
  readonly driver: string
  readonly usedBytes: number
}

/** The first GPU as the driver's own tool sees it; undefined where that is not installed. */
export function driverView(): DriverView | undefined {
  const query = '--query-gpu=name,driver_version,memory.used'
  const { status, stdout } = spawnSync(
    'nvidia-smi',
    [query, '--format=csv,noheader,nounits', '-i', '0'],
    { encoding: 'utf8' },
  )
  if (status !== 0) return undefined
  const [name = '', driver = '', used = ''] = stdout.trim().split(', ')
  return { name, driver, usedBytes: Number(used) * 2 ** 20 }
}
