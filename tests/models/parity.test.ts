import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  clipText,
  clipTextConfig,
  pooledIndex,
  splitMoments,
  unetMotion,
  unetMotionConfig,
  vaeConfig,
  vaeDecoder,
  vaeEncoder,
} from '../../lib/models/index.js'
import type { Program, Tensor } from '../../lib/program/index.js'
import { interpret, type TensorValues } from '../support/interpreter.js'
import {
  difference,
  fixture,
  type Recorded,
  readTensors,
  root,
  select,
  transpose,
} from '../support/recorded.js'
import { readCase, seededTensor } from '../support/seeded.js'

/** Largest difference over the standard deviation of the expected output. */
const tolerance = 2e-4

// SLUICE_SLOW=1: every element of the batch at every timestep; else one of each.
const slow = Boolean(process.env.SLUICE_SLOW)

/** Seeded values of a weight; the key's component is no part of the name. */
const seeded = (tensor: Tensor): Float32Array =>
  seededTensor(tensor.name.slice(tensor.name.indexOf('/') + 1), tensor.shape)

function run(program: Program, inputs: Record<string, TensorValues>): Record<string, Float32Array> {
  return interpret(program, { inputs, weights: seeded })
}

function close(name: string, actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  const { max, relative } = difference(actual, expected)
  const message = `${name}: largest difference ${max.toExponential(2)}, over the standard deviation ${relative.toExponential(2)}`
  console.log(message)
  assert.ok(relative <= tolerance, message)
}

const golden = (name: string): Promise<Record<string, Recorded>> =>
  readTensors(`${fixture(name)}/golden.safetensors`)
const channelsLast = (image: Recorded): Recorded => transpose(image, [0, 2, 3, 1])

for (const name of ['clip-text', 'clip-text-gelu']) {
  test(`${name}: the recorded states`, async () => {
    const recorded = await golden(name)
    const config = clipTextConfig(readCase(fixture(name)).modules.text_encoder!.config)
    const [batch, tokens] = recorded['in.input_ids']!.shape as [number, number]
    const program = clipText(config, {
      tokens,
      outputs: ['last_hidden_state', 'penultimate', 'pooled'],
    })
    for (let b = 0; b < batch; b++) {
      const ids = select(recorded['in.input_ids']!, b).values as Int32Array
      const result = run(program, {
        input_ids: ids,
        last_token: Int32Array.of(pooledIndex(ids, config)),
      })
      for (const [output, values] of Object.entries(result)) {
        close(`${name} ${output} ${b}`, values, select(recorded[`out.${output}`]!, b).values)
      }
    }
  })
}

for (const name of ['vae', 'vae-plain']) {
  test(`${name}: the recorded images`, async () => {
    const recorded = await golden(name)
    const latents = channelsLast(recorded['in.latents']!)
    const [frames, rows, cols] = latents.shape as [number, number, number, number]
    const program = vaeDecoder(vaeConfig(readCase(fixture(name)).modules.vae!.config), {
      frames,
      rows,
      cols,
    })
    close(
      `${name} image`,
      run(program, { latents: latents.values }).image!,
      channelsLast(recorded['out.image']!).values,
    )
  })

  test(`${name}: the recorded moments`, async () => {
    const recorded = await golden(name)
    const image = channelsLast(recorded['in.image']!)
    const [frames, rows, cols] = image.shape as [number, number, number, number]
    const config = vaeConfig(readCase(fixture(name)).modules.vae!.config)
    const { moments } = run(vaeEncoder(config, { frames, rows, cols }), { image: image.values })
    const { mean, logvar } = splitMoments(moments!, config.latentChannels)
    close(`${name} latent_mean`, mean, channelsLast(recorded['out.latent_mean']!).values)
    close(`${name} latent_logvar`, logvar, channelsLast(recorded['out.latent_logvar']!).values)
  })
}

for (const name of ['unet-motion', 'unet-motion-whole', 'unet-motion-mid']) {
  test(`${name}: the recorded samples`, async () => {
    const { modules } = readCase(fixture(name))
    const recorded = await golden(name)
    const samples = recorded['in.sample']!
    const [batch, , frames, rows, cols] = samples.shape as [number, number, number, number, number]
    const context = recorded['in.encoder_hidden_states']!
    const config = unetMotionConfig(modules.unet!.config, modules.motion_adapter?.config)
    const program = unetMotion(config, { frames, rows, cols, tokens: context.shape[1]! })
    const timesteps = recorded['in.timestep']!.values
    for (let i = 0; i < (slow ? timesteps.length : 1); i++) {
      for (let b = 0; b < (slow ? batch : 1); b++) {
        const { sample } = run(program, {
          sample: transpose(select(samples, b), [1, 2, 3, 0]).values,
          timestep: Float32Array.of(timesteps[i]!),
          encoder_hidden_states: select(context, b).values,
        })
        const expected = transpose(select(recorded[`out.sample.${i}`]!, b), [1, 2, 3, 0])
        close(`${name} sample ${i} of element ${b}`, sample!, expected.values)
      }
    }
  })
}

test('the embedded checkpoint: text, first step and a frame of a recorded run', async () => {
  const folder = `${root}models/moving-shapes`
  const config = (name: string) => JSON.parse(readFileSync(`${folder}/${name}/config.json`, 'utf8'))
  const stored: Record<string, Record<string, Recorded>> = {}
  for (const name of ['text_encoder', 'unet', 'motion_adapter', 'vae']) {
    const file = name === 'text_encoder' ? 'model' : 'diffusion_pytorch_model'
    stored[name] = await readTensors(`${folder}/${name}/${file}.safetensors`)
  }
  const weights = ({ name }: Tensor) => {
    const slash = name.indexOf('/')
    return stored[name.slice(0, slash)]![name.slice(slash + 1)]!.values as Float32Array
  }
  const run = await readTensors(`${fixture('golden')}/ad-red-circle.safetensors`)

  const text = clipText(clipTextConfig(config('text_encoder')), { tokens: 24 })
  const ids = select(run.input_ids!, 0).values
  const states = interpret(text, { inputs: { input_ids: ids }, weights })
  close('prompt_embeds', states.last_hidden_state!, run.prompt_embeds!.values)

  const noise = transpose(select(run.noise!, 0), [1, 2, 3, 0])
  const [frames, rows, cols] = noise.shape as [number, number, number, number]
  const size = { frames, rows, cols, tokens: 24 }
  const unet = unetMotion(unetMotionConfig(config('unet'), config('motion_adapter')), size)
  const inputs = {
    sample: noise.values,
    timestep: Float32Array.of(run.timesteps!.values[0]!),
    encoder_hidden_states: run.prompt_embeds!.values,
  }
  // The batch is the negative prompt, then the prompt.
  const expected = transpose(select(run.model_999!, 1), [1, 2, 3, 0])
  close('model_999', interpret(unet, { inputs, weights }).sample!, expected.values)

  const vae = vaeConfig(config('vae'))
  const frame = 5
  const last = select(transpose(select(run.latents!, 0), [1, 2, 3, 0]), frame)
  const latents = Float32Array.from(last.values, x => x / vae.scalingFactor)
  const decoder = vaeDecoder(vae, { frames: 1, rows, cols })
  const image = interpret(decoder, { inputs: { latents }, weights }).image!
  close('frame', image, transpose(select(run.video!, frame), [1, 2, 0]).values)
})

test.run()
