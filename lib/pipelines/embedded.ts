import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CheckpointError } from '../errors.js'

/** Folder of a checkpoint that ships with the package. @throws CheckpointError when the package is incomplete. */
export function embeddedModel(name = 'moving-shapes'): string {
  // dist/lib/pipelines when built; models/ stands beside dist/.
  let folder = dirname(fileURLToPath(import.meta.url))
  for (let i = 0; i < 5; i++, folder = dirname(folder)) {
    const path = join(folder, 'models', name)
    if (existsSync(join(path, 'model_index.json'))) return path
  }
  throw new CheckpointError(
    `${name}: expected the embedded checkpoint in the package's folder models, got none; reinstall sluice`,
    name,
  )
}
