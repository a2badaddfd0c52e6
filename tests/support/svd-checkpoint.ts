/**
 * A small Stable Video Diffusion checkpoint with seeded weights, from the recorded cases of its networks. As a program:
 *   node dist/tests/support/svd-checkpoint.js FOLDER
 */
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fixture } from './recorded.js'
import { type CaseModule, materialise, type RecordedCase, readCase } from './seeded.js'

/** The recorded image encoder for pictures of 224 x 224 in patches of 32, as diffusers' pipeline has them. */
function imageEncoder(): CaseModule {
  const module = readCase(fixture('clip-vision')).modules.image_encoder!
  // Transformers refuses its own factor of 1.0 where it is written as 1.
  const { initializer_factor: _, ...recorded } = module.config
  const config = { ...recorded, image_size: 224, patch_size: 32 }
  const width = recorded.hidden_size as number
  const tensors = {
    ...module.tensors,
    'vision_model.embeddings.patch_embedding.weight': [width, 3, 32, 32],
    'vision_model.embeddings.position_embedding.weight': [50, width],
  }
  return { ...module, config, tensors }
}

/** Writes the checkpoint. @returns folder */
export async function svdCheckpoint(folder: string): Promise<string> {
  const recorded: RecordedCase = {
    component: 'stable-video-diffusion',
    note: '',
    modules: {
      image_encoder: imageEncoder(),
      unet: readCase(fixture('unet-spatio-temporal')).modules.unet!,
      vae: readCase(fixture('vae-temporal')).modules.vae!,
    },
  }
  const cases = mkdtempSync(join(tmpdir(), 'sluice-svd-'))
  try {
    writeFileSync(join(cases, 'case.json'), JSON.stringify(recorded))
    mkdirSync(folder, { recursive: true })
    await materialise(cases, folder)
  } finally {
    rmSync(cases, { recursive: true })
  }
  for (const name of ['model_index.json', 'scheduler', 'feature_extractor'])
    cpSync(join(fixture('configs/svd'), name), join(folder, name), { recursive: true })
  return folder
}

if (process.argv[1]?.endsWith('svd-checkpoint.js')) await svdCheckpoint(process.argv[2]!)
