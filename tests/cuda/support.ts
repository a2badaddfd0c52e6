import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The emulated CUDA plug-in, which `npm test` builds. */
export const emulatedPlugin = fileURLToPath(
  new URL('../../../build/emulation/sluice_cuda_emulated.so', import.meta.url),
)

export const gpu = 'cuda:0'

/** Whether a real device is tested, by `npm run gpu:check`, instead of the emulated one. */
export const isReal = process.env.SLUICE_TEST_DEVICE === gpu && !process.env.SLUICE_CUDA_BACKEND
/** Bytes that a driver may keep for itself beside what it is asked for: pages of its tables, a stream's own memory. */
export const driverSlack = isReal ? 64 << 20 : 0

/**
 * Makes the emulated plug-in the one that the addon loads, where no real device is tested. Before the first use of a device in this process.
 * @throws Error where it is not built
 */
export function useEmulation(): void {
  if (isReal) return
  if (!existsSync(emulatedPlugin))
    throw new Error(`expected ${emulatedPlugin}, got none; run node scripts/setup.mjs --emulation`)
  process.env.SLUICE_CUDA_BACKEND = emulatedPlugin
}
