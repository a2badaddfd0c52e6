import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import * as assert from 'uvu/assert'
import { finished } from '../support/process.js'

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

/** What a program of planted defects says of each launch, by its name. */
export async function launchesOf(
  program: string,
  seeds: readonly string[],
  env: Record<string, string> = {},
): Promise<[string, string][]> {
  const { code, output } = await finished(program, seeds, env)
  assert.is(code, 0, output)
  return output.split('\n').map(line => {
    const end = line.indexOf(': ', line.startsWith('sound: ') ? 7 : 0)
    return [line.slice(0, end), line.slice(end + 2)]
  })
}

/**
 * Runs a family's command tests of the CPU's kernels on the emulated GPU.
 * @throws where one fails, or none ran
 */
export async function rerun(family: string, env: Record<string, string> = {}): Promise<void> {
  const file = fileURLToPath(new URL(`../src/${family}.test.js`, import.meta.url))
  const device = { SLUICE_CUDA_BACKEND: emulatedPlugin, SLUICE_TEST_DEVICE: gpu }
  const { code, output } = await finished(process.execPath, [file], { ...device, ...env })
  assert.is(code, 0, output)
  assert.match(output, /Total: +[1-9]/)
}
