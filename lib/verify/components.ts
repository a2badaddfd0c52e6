import { CheckpointError } from '../errors.js'
import {
  type ClipTextOutput,
  type ConfigJson,
  clipText,
  clipTextConfig,
  clipVision,
  clipVisionConfig,
  pooledIndex,
  splitMoments,
  unetMotion,
  unetMotionConfig,
  unetSpatioTemporal,
  unetSpatioTemporalConfig,
  type VaeConfig,
  type VaeSize,
  vaeConfig,
  vaeDecoder,
  vaeEncoder,
  vaeTemporalConfig,
  vaeTemporalDecoder,
} from '../models/index.js'
import { channelsFirst, channelsLast } from '../pipelines/layout.js'
import type { Program } from '../program/index.js'
import type { ParityCase } from './case.js'
import type { VerifySession } from './session.js'

type Check = (recorded: ParityCase, session: VerifySession) => Promise<void>

/** Components by their name in case.json. */
export const checks: Readonly<Record<string, Check>> = {
  'clip-text': checkClipText,
  'clip-vision': checkClipVision,
  'unet-motion': checkUnetMotion,
  'unet-spatio-temporal': checkUnetSpatioTemporal,
  vae: (recorded, session) => checkVae(recorded, session, vaeConfig, vaeDecoder),
  'vae-temporal': (recorded, session) =>
    checkVae(recorded, session, vaeTemporalConfig, vaeTemporalDecoder),
}

/** One element of the batch [count, ...]. */
function element<T extends Float32Array | Int32Array>(data: T, index: number, count: number): T {
  const size = data.length / count
  return data.subarray(index * size, (index + 1) * size) as T
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const result = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    result.set(part, at)
    at += part.length
  }
  return result
}

/** Applies a change of layout to each element of [count, ...]. */
function each(
  data: Float32Array,
  count: number,
  change: (values: Float32Array) => Float32Array,
): Float32Array {
  return joined(Array.from({ length: count }, (_, i) => change(element(data, i, count))))
}

/** input_ids [B, T] to last_hidden_state and penultimate [B, T, C], pooled [B, C]. */
async function checkClipText(recorded: ParityCase, session: VerifySession): Promise<void> {
  const { golden } = recorded
  golden.checkAxes('in.input_ids', ['batch', 'tokens'])
  const { shape, data } = await golden.ints('in.input_ids')
  const [batch, tokens] = shape as [number, number]
  const config = clipTextConfig(recorded.folder('text_encoder').config)
  const names: ClipTextOutput[] = ['last_hidden_state', 'penultimate', 'pooled']
  const outputs = names.filter(name => golden.has(`out.${name}`))
  const found = new Map(outputs.map(name => [name, [] as Float32Array[]]))
  await session.program(clipText(config, { tokens, outputs }), async call => {
    for (let b = 0; b < batch; b++) {
      const ids = element(data, b, batch)
      const pooled = outputs.includes('pooled') && {
        last_token: Int32Array.of(pooledIndex(ids, config)),
      }
      const states = await call({ input_ids: ids, ...pooled })
      for (const name of outputs) found.get(name)!.push(states[name]!)
    }
  })
  for (const [name, states] of found) {
    session.compare(name, joined(states), (await golden.floats(`out.${name}`)).data)
  }
}

/** sample [B, C, F, h, w], encoder_hidden_states [B, T, D], timestep [n] to sample.i [B, C, F, h, w] for timestep i. */
async function checkUnetMotion(recorded: ParityCase, session: VerifySession): Promise<void> {
  const { golden } = recorded
  golden.checkAxes('in.sample', ['batch', 'channels', 'frames', 'rows', 'cols'])
  golden.checkAxes('in.encoder_hidden_states', ['batch', 'tokens', 'channels'])
  const { shape, data } = await golden.floats('in.sample')
  const [batch, channels, frames, rows, cols] = shape as [number, number, number, number, number]
  const context = await golden.floats('in.encoder_hidden_states')
  const timesteps = (await golden.floats('in.timestep')).data
  const adapter = recorded.has('motion_adapter') ? recorded.folder('motion_adapter') : undefined
  const config = unetMotionConfig(recorded.folder('unet').config, adapter?.config)
  const program = unetMotion(config, { frames, rows, cols, tokens: context.shape[1]! })
  const found = Array.from(timesteps, () => [] as Float32Array[])
  await session.program(program, async call => {
    for (const [i, timestep] of timesteps.entries()) {
      for (let b = 0; b < batch; b++) {
        const { sample } = await call({
          sample: channelsLast(element(data, b, batch), channels),
          timestep: Float32Array.of(timestep),
          encoder_hidden_states: element(context.data, b, batch),
        })
        found[i]!.push(channelsFirst(sample!, config.outChannels))
      }
    }
  })
  for (const [i, samples] of found.entries()) {
    session.compare(`sample.${i}`, joined(samples), (await golden.floats(`out.sample.${i}`)).data)
  }
}

/**
 * sample [B, F, C, h, w], encoder_hidden_states [B, 1, D], added_time_ids [B, ids], timestep [n] to sample.i [B, F, C, h, w] for
 * timestep i.
 */
async function checkUnetSpatioTemporal(
  recorded: ParityCase,
  session: VerifySession,
): Promise<void> {
  const { golden } = recorded
  golden.checkAxes('in.sample', ['batch', 'frames', 'channels', 'rows', 'cols'])
  const { shape, data } = await golden.floats('in.sample')
  const [batch, frames, channels, rows, cols] = shape as [number, number, number, number, number]
  const context = await golden.floats('in.encoder_hidden_states')
  const added = await golden.floats('in.added_time_ids')
  const timesteps = (await golden.floats('in.timestep')).data
  const config = unetSpatioTemporalConfig(recorded.folder('unet').config)
  const found = Array.from(timesteps, () => [] as Float32Array[])
  await session.program(unetSpatioTemporal(config, { frames, rows, cols }), async call => {
    for (const [i, timestep] of timesteps.entries()) {
      for (let b = 0; b < batch; b++) {
        const { sample } = await call({
          sample: each(element(data, b, batch), frames, frame => channelsLast(frame, channels)),
          timestep: Float32Array.of(timestep),
          encoder_hidden_states: element(context.data, b, batch),
          added_time_ids: element(added.data, b, batch),
        })
        found[i]!.push(each(sample!, frames, frame => channelsFirst(frame, config.outChannels)))
      }
    }
  })
  for (const [i, samples] of found.entries()) {
    session.compare(`sample.${i}`, joined(samples), (await golden.floats(`out.sample.${i}`)).data)
  }
}

/** pixel_values [B, 3, S, S] to image_embeds [B, D]. */
async function checkClipVision(recorded: ParityCase, session: VerifySession): Promise<void> {
  const { golden } = recorded
  golden.checkAxes('in.pixel_values', ['batch', 'channels', 'rows', 'cols'])
  const { shape, data } = await golden.floats('in.pixel_values')
  const [batch, channels] = shape as [number, number]
  const config = clipVisionConfig(recorded.folder('image_encoder').config)
  const embeds: Float32Array[] = []
  await session.program(clipVision(config), async call => {
    for (let b = 0; b < batch; b++) {
      const pixels = channelsLast(element(data, b, batch), channels)
      embeds.push((await call({ pixel_values: pixels })).image_embeds!)
    }
  })
  session.compare('image_embeds', joined(embeds), (await golden.floats('out.image_embeds')).data)
}

/** image [1, 3, H, W] to latent_mean and latent_logvar; latents [N, 4, h, w] to image [N, 3, H, W]. */
async function checkVae(
  recorded: ParityCase,
  session: VerifySession,
  configOf: (json: ConfigJson) => VaeConfig,
  decoder: (config: VaeConfig, size: VaeSize) => Program,
): Promise<void> {
  const { golden } = recorded
  const config = configOf(recorded.folder('vae').config)
  const { latentChannels, imageChannels, outChannels } = config
  let ran = false
  if (golden.has('in.image')) {
    ran = true
    golden.checkAxes('in.image', ['frames', 'channels', 'rows', 'cols'])
    const { shape, data } = await golden.floats('in.image')
    const [frames, , rows, cols] = shape as [number, number, number, number]
    await session.program(vaeEncoder(config, { frames, rows, cols }), async call => {
      const { moments } = await call({
        image: each(data, frames, image => channelsLast(image, imageChannels)),
      })
      const { mean, logvar } = splitMoments(moments!, latentChannels)
      const recordedLayout = (values: Float32Array) =>
        each(values, frames, latent => channelsFirst(latent, latentChannels))
      session.compare(
        'latent_mean',
        recordedLayout(mean),
        (await golden.floats('out.latent_mean')).data,
      )
      session.compare(
        'latent_logvar',
        recordedLayout(logvar),
        (await golden.floats('out.latent_logvar')).data,
      )
    })
  }
  if (golden.has('in.latents')) {
    ran = true
    golden.checkAxes('in.latents', ['frames', 'channels', 'rows', 'cols'])
    const { shape, data } = await golden.floats('in.latents')
    const [frames, , rows, cols] = shape as [number, number, number, number]
    await session.program(decoder(config, { frames, rows, cols }), async call => {
      const { image } = await call({
        latents: each(data, frames, latent => channelsLast(latent, latentChannels)),
      })
      session.compare(
        'image',
        each(image!, frames, pixels => channelsFirst(pixels, outChannels)),
        (await golden.floats('out.image')).data,
      )
    })
  }
  if (!ran) {
    throw new CheckpointError(
      `${golden.path}: expected in.image or in.latents, got neither; record the case again`,
      golden.path,
    )
  }
}
