import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The emulated CUDA plug-in, which `npm test` builds. */
export const emulatedPlugin = fileURLToPath(
  new URL('../../../build/emulation/sluice_cuda_emulated.so', import.meta.url),
)

/** The emulated device. */
export const gpu = 'cuda:0'

/**
 * Makes the emulated plug-in the one that the addon loads. Before the first use of a device in this process.
 * @throws Error where it is not built
 */
export function useEmulation(): void {
  if (!existsSync(emulatedPlugin))
    throw new Error(`expected ${emulatedPlugin}, got none; run node scripts/setup.mjs --emulation`)
  process.env.SLUICE_CUDA_BACKEND = emulatedPlugin
}
