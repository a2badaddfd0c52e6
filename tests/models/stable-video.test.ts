import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  clipVision,
  clipVisionConfig,
  splitMoments,
  unetSpatioTemporal,
  unetSpatioTemporalConfig,
  vaeEncoder,
  vaeTemporalConfig,
  vaeTemporalDecoder,
} from '../../lib/models/index.js'
import type { Program, Tensor } from '../../lib/program/index.js'
import { elementCount } from '../../lib/program/tensor.js'
import { type CompileOptions, compile } from '../../lib/runtime/executable.js'
import { interpret } from '../support/interpreter.js'
import {
  difference,
  fixture,
  type Recorded,
  readTensors,
  select,
  transpose,
} from '../support/recorded.js'
import { readCase, seededTensor } from '../support/seeded.js'

/** Largest difference over the standard deviation of the expected output. */
const tolerance = 2e-4

// SLUICE_SLOW=1: every element of the batch at every timestep; else one of each.
const slow = Boolean(process.env.SLUICE_SLOW)

type Inputs = Record<string, Float32Array>
type Results = Record<string, Float32Array>

/** Seeded values of a checkpoint's weight; the key's component is no part of the name, and computed tables are no part of it. */
function seeded(tensor: Tensor): Float32Array | undefined {
  if ((tensor as { fallback?: unknown }).fallback) return undefined
  return seededTensor(tensor.name.slice(tensor.name.indexOf('/') + 1), tensor.shape)
}

function close(name: string, actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  const { max, relative } = difference(actual, expected)
  const message = `${name}: largest difference ${max.toExponential(2)}, over the standard deviation ${relative.toExponential(2)}`
  console.log(message)
  assert.ok(relative <= tolerance, message)
}

/** A program, its recorded inputs, and a comparison of its results. */
interface Case {
  name: string
  program: Program
  inputs: Inputs
  compare(runner: string, results: Results): void
}

const golden = (name: string): Promise<Record<string, Recorded>> =>
  readTensors(`${fixture(name)}/golden.safetensors`)
const floats = (recorded: Recorded): Float32Array => recorded.values as Float32Array
const channelsLast = (image: Recorded): Float32Array => floats(transpose(image, [0, 2, 3, 1]))
const configOf = (name: string, module: string) => readCase(fixture(name)).modules[module]!.config

async function unetCases(): Promise<Case[]> {
  const recorded = await golden('unet-spatio-temporal')
  const samples = recorded['in.sample']!
  const [batch, frames, , rows, cols] = samples.shape as [number, number, number, number, number]
  const config = unetSpatioTemporalConfig(configOf('unet-spatio-temporal', 'unet'))
  const program = unetSpatioTemporal(config, { frames, rows, cols })
  const timesteps = recorded['in.timestep']!.values
  const cases: Case[] = []
  for (let i = 0; i < (slow ? timesteps.length : 1); i++) {
    for (let b = 0; b < (slow ? batch : 1); b++) {
      cases.push({
        name: `sample ${i} of element ${b}`,
        program,
        inputs: {
          sample: channelsLast(select(samples, b)),
          timestep: Float32Array.of(timesteps[i]!),
          encoder_hidden_states: floats(select(recorded['in.encoder_hidden_states']!, b)),
          added_time_ids: floats(select(recorded['in.added_time_ids']!, b)),
        },
        compare(runner, { sample }) {
          const expected = channelsLast(select(recorded[`out.sample.${i}`]!, b))
          close(`${runner}: ${this.name}`, sample!, expected)
        },
      })
    }
  }
  return cases
}

async function vaeCases(): Promise<Case[]> {
  const recorded = await golden('vae-temporal')
  const config = vaeTemporalConfig(configOf('vae-temporal', 'vae'))
  const size = ({ shape }: Recorded) => ({ frames: shape[0]!, rows: shape[2]!, cols: shape[3]! })
  return [
    {
      name: 'decoded frames',
      program: vaeTemporalDecoder(config, size(recorded['in.latents']!)),
      inputs: { latents: channelsLast(recorded['in.latents']!) },
      compare(runner, { image }) {
        close(`${runner}: ${this.name}`, image!, channelsLast(recorded['out.image']!))
      },
    },
    {
      name: 'moments',
      program: vaeEncoder(config, size(recorded['in.image']!)),
      inputs: { image: channelsLast(recorded['in.image']!) },
      compare(runner, { moments }) {
        const { mean, logvar } = splitMoments(moments!, config.latentChannels)
        close(`${runner}: latent_mean`, mean, channelsLast(recorded['out.latent_mean']!))
        close(`${runner}: latent_logvar`, logvar, channelsLast(recorded['out.latent_logvar']!))
      },
    },
  ]
}

async function visionCases(): Promise<Case[]> {
  const recorded = await golden('clip-vision')
  const images = recorded['in.pixel_values']!
  const config = clipVisionConfig(configOf('clip-vision', 'image_encoder'))
  const program = clipVision(config)
  return Array.from({ length: images.shape[0]! }, (_, b) => ({
    name: `image_embeds ${b}`,
    program,
    inputs: { pixel_values: floats(transpose(select(images, b), [1, 2, 0])) },
    compare(runner: string, { image_embeds: embeds }: Results) {
      close(
        `${runner}: image_embeds ${b}`,
        embeds!,
        floats(select(recorded['out.image_embeds']!, b)),
      )
    },
  }))
}

const components = {
  'unet-spatio-temporal': unetCases,
  'vae-temporal': vaeCases,
  'clip-vision': visionCases,
}

for (const [component, cases] of Object.entries(components)) {
  test(`${component}: the interpreter gives the recorded outputs of the smallest case`, async () => {
    const size = ({ program }: Case) => elementCount(Object.values(program.outputs)[0]!.shape)
    const [smallest] = (await cases()).sort((a, b) => size(a) - size(b))
    const { program, inputs } = smallest!
    smallest!.compare('interpreter', interpret(program, { inputs, weights: seeded }))
  })

  test(`${component}: the kernels give the recorded outputs, whole and sliced alike`, async () => {
    for (const { name, program, inputs, compare } of await cases()) {
      const whole = await execute(program, inputs, { slices: 1 })
      compare.call({ name } as Case, 'kernels', whole)
      for (const options of [{ slices: 100, threads: 3 }, { slices: 2 }]) {
        const sliced = await execute(program, inputs, options)
        for (const [output, values] of Object.entries(whole)) {
          const same = Buffer.compare(
            Buffer.from(sliced[output]!.buffer),
            Buffer.from(values.buffer),
          )
          assert.is(same, 0, `${name} ${output} ${JSON.stringify(options)}`)
        }
      }
    }
  })
}

const made = new Map<Program, Record<string, Float32Array>>()
function weightsOf(program: Program): Record<string, Float32Array> {
  const known = made.get(program)
  if (known) return known
  const weights: Record<string, Float32Array> = {}
  for (const tensor of program.weights) {
    const values = seeded(tensor)
    if (values) weights[tensor.name] = values
  }
  made.set(program, weights)
  return weights
}

/** Runs natively in poisoned memory, and holds the measured peak to the predicted one. */
async function execute(
  program: Program,
  inputs: Inputs,
  options: CompileOptions,
): Promise<Results> {
  const weights = weightsOf(program)
  await using executable = await compile(program, {
    device: 'cpu',
    weights,
    poison: true,
    ...options,
  })
  const results = await executable.run(inputs)
  const { peakBytes } = executable.plan
  assert.is(executable.close().peakBytes, peakBytes)
  return results
}

test.run()
