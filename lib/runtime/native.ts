import { createRequire } from 'node:module'
import {
  AbortError,
  CheckpointError,
  DeviceError,
  MemoryError,
  NativeError,
  OptionError,
  SluiceError,
} from '../errors.js'
import { packageRoot } from '../package-root.js'
import { commandVersion } from '../planner/commands.js'
import type { Addon } from './addon-types.js'

/** Must equal SLUICE_BACKEND_VERSION in src/core/backend.h. */
const backendVersion = 8

let loaded: Addon | undefined

/**
 * The addon, loaded on first use: the build of this checkout, or the prebuilt binary of this platform.
 * @throws NativeError when there is none, it does not load, it was built from other sources, or lacks the instructions that SLUICE_ISA names;
 * says what to do.
 */
export function native(): Addon {
  loaded ??= load(packageRoot())
  return loaded
}

function load(root: string): Addon {
  let addon: Addon
  try {
    const find = createRequire(import.meta.url)('node-gyp-build') as (root: string) => Addon
    addon = find(root)
  } catch (cause) {
    throw new NativeError(loadFailure(root, cause), { cause })
  }
  if (addon.commandVersion !== commandVersion || addon.backendVersion !== backendVersion) {
    throw new NativeError(
      `native addon: expected commands ${commandVersion} and backends ${backendVersion}, got ` +
        `${addon.commandVersion} and ${addon.backendVersion}; build it again: npm run build:native in ${root}`,
    )
  }
  const { SLUICE_ISA: wanted } = process.env
  const { available, selected } = addon.cpu()
  if (wanted && selected !== wanted)
    throw new NativeError(
      `SLUICE_ISA: expected one of ${available.join(', ')}, got ${wanted}, which this processor or build lacks; leave it out`,
    )
  return addon
}

function loadFailure(root: string, cause: unknown): string {
  const reason = cause instanceof Error ? cause.message.trim() : String(cause)
  return [
    `native addon: expected one for ${process.platform}-${process.arch} in ${root}, got: ${reason}`,
    'Possible solutions:',
    '- in a checkout: npm run build:native (needs CMake 3.24 or newer and a C++20 compiler)',
    '- installed with --ignore-scripts, or by pnpm or bun: run `npm rebuild sluice` or allow its install script',
    '- moved to another system or C library: install again there; node_modules cannot be copied',
    '- in a bundle: mark `sluice` as external',
  ].join('\n')
}

/** An error of the addon as one of the classes of errors.ts; anything else comes back as it is. */
export function toSluiceError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof SluiceError) return error
  const { message } = error
  const { code, path = '' } = error as { code?: unknown; path?: string }
  const options = { cause: error }
  switch (code) {
    case 'out-of-memory':
      return new MemoryError(message, options)
    case 'device-lost':
      return new DeviceError(message, options)
    case 'aborted':
      return new AbortError(message, options)
    case 'io':
      return new CheckpointError(message, path, options)
    case 'bad-data':
    case 'argument':
      return new OptionError(message, options)
    case 'bad-command':
      return new NativeError(message, options)
    default:
      return error
  }
}
