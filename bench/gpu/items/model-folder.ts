/** The checkpoint of a comparison: of true size, or with `small` one that an emulated GPU and a CPU get through. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { embedded } from '../../../tests/support/checkpoints.js'
import { svdCheckpoint } from '../../../tests/support/svd-checkpoint.js'
import { type ModelName, trueSize } from '../checkpoint.js'

/** @param place for the checkpoints of all calls @returns its folder */
export async function modelFolder(
  model: ModelName,
  small: boolean,
  place: string,
): Promise<string> {
  if (!small) return trueSize(model, join(place, model))
  if (model === 'animatediff') return embedded
  const folder = join(place, 'small-svd')
  return existsSync(folder) ? folder : svdCheckpoint(folder)
}
