import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { CheckpointError } from '../errors.js'
import { packageRoot } from '../package-root.js'

/** Folder of a checkpoint that ships with the package. @throws CheckpointError when the package is incomplete. */
export function embeddedModel(name = 'moving-shapes'): string {
  const path = join(packageRoot(), 'models', name)
  if (existsSync(join(path, 'model_index.json'))) return path
  throw new CheckpointError(
    `${name}: expected the embedded checkpoint in the package's folder models, got none; reinstall sluice`,
    name,
  )
}
