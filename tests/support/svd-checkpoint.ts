/**
 * Small Stable Video Diffusion checkpoints with seeded weights. As a program, that of the recorded run:
 *   node dist/tests/support/svd-checkpoint.js FOLDER
 */
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { StableVideoDiffusion } from '../../lib/index.js'
import { writeSafetensors } from '../../lib/io/safetensors-writer.js'
import { fixture } from './recorded.js'
import {
  type CaseModule,
  materialise,
  type RecordedCase,
  readCase,
  seededTensor,
} from './seeded.js'

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

/** Writes the checkpoint of the recorded run: the networks of the recorded cases. @returns folder */
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
  return copyRest(folder)
}

function copyRest(folder: string): string {
  for (const name of ['model_index.json', 'scheduler', 'feature_extractor'])
    cpSync(join(fixture('configs/svd'), name), join(folder, name), { recursive: true })
  return folder
}

const tiny = {
  image_encoder: {
    ...readCase(fixture('clip-vision')).modules.image_encoder!.config,
    image_size: 32,
    num_hidden_layers: 1,
  },
  unet: {
    ...readCase(fixture('unet-spatio-temporal')).modules.unet!.config,
    block_out_channels: [32, 32],
    layers_per_block: 1,
    num_attention_heads: [2, 2],
    num_frames: 3,
    sample_size: 12,
    down_block_types: ['CrossAttnDownBlockSpatioTemporal', 'DownBlockSpatioTemporal'],
    up_block_types: ['UpBlockSpatioTemporal', 'CrossAttnUpBlockSpatioTemporal'],
  },
  vae: {
    ...readCase(fixture('vae-temporal')).modules.vae!.config,
    block_out_channels: [32, 32],
    layers_per_block: 1,
    down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D'],
  },
}

/** Writes configurations of two levels each, which plan in no time: 3 frames of 32 x 20 where nothing is said. @returns folder */
export function tinySvdConfigs(folder: string): string {
  for (const [name, config] of Object.entries(tiny)) {
    mkdirSync(join(folder, name), { recursive: true })
    writeFileSync(join(folder, name, 'config.json'), JSON.stringify(config))
  }
  return copyRest(folder)
}

/** Writes tinySvdConfigs with the weights that they ask for. @returns folder */
export async function tinySvd(folder: string): Promise<string> {
  const { stages } = (await StableVideoDiffusion.load(tinySvdConfigs(folder))).plan()
  for (const name of Object.keys(tiny)) {
    const tensors = stages
      .flatMap(({ weights }) => weights.weights)
      .filter(({ tensor }) => tensor.name.startsWith(`${name}/`) && !tensor.fallback)
      .map(({ tensor: { name: key, shape } }) => {
        const own = key.slice(name.length + 1)
        return [own, { shape, data: seededTensor(own, shape) }] as const
      })
    await writeSafetensors(join(folder, name, 'model.safetensors'), Object.fromEntries(tensors))
  }
  return folder
}

if (process.argv[1]?.endsWith('svd-checkpoint.js')) await svdCheckpoint(process.argv[2]!)
