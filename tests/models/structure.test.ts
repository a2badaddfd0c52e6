import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readSafetensorsHeader } from '../../lib/io/safetensors.js'
import {
  alternativeVaeKeys,
  clipText,
  clipTextConfig,
  unetMotion,
  unetMotionConfig,
  vaeConfig,
  vaeDecoder,
  vaeEncoder,
} from '../../lib/models/index.js'
import type { Program } from '../../lib/program/index.js'
import { verifyProgram } from '../../lib/program/index.js'
import { fixture, root } from '../support/recorded.js'
import { readCase } from '../support/seeded.js'

type Json = Record<string, unknown>
const json = (path: string): Json => JSON.parse(readFileSync(path, 'utf8')) as Json

/** `component/key [shape]` of every weight that the programs ask for, sorted. */
function asked(...programs: Program[]): string[] {
  const found = new Set<string>()
  for (const { weights } of programs)
    for (const { name, shape } of weights) found.add(`${name} [${shape.join(', ')}]`)
  return [...found].sort()
}

/** The same of what a checkpoint has, less what no inference reads. */
function had(components: Record<string, Iterable<readonly [string, readonly number[]]>>): string[] {
  return Object.entries(components)
    .flatMap(([component, tensors]) =>
      [...tensors].map(([key, shape]) => `${component}/${key} [${shape.join(', ')}]`),
    )
    .filter(line => !line.includes('position_ids'))
    .sort()
}

function recorded(name: string): { configs: Record<string, Json>; tensors: string[] } {
  const { modules } = readCase(fixture(name))
  const entries = Object.entries(modules)
  return {
    configs: Object.fromEntries(entries.map(([folder, { config }]) => [folder, config])),
    tensors: had(
      Object.fromEntries(entries.map(([folder, { tensors }]) => [folder, Object.entries(tensors)])),
    ),
  }
}

/** All programs of a checkpoint's configs. */
function programs(configs: Record<string, Json>, prefix: '' | 'text_model.' = ''): Program[] {
  const found: Program[] = []
  if (configs.text_encoder)
    found.push(clipText(clipTextConfig(configs.text_encoder), { tokens: 5, prefix }))
  if (configs.unet) {
    const config = unetMotionConfig(configs.unet, configs.motion_adapter)
    found.push(unetMotion(config, { frames: 2, rows: 8, cols: 8, tokens: 5 }))
  }
  if (configs.vae) {
    const config = vaeConfig(configs.vae)
    found.push(
      vaeDecoder(config, { frames: 1, rows: 4, cols: 4 }),
      vaeEncoder(config, { frames: 1, rows: 16, cols: 16 }),
    )
  }
  for (const program of found) verifyProgram(program)
  return found
}

const folderConfigs = (folder: string): Record<string, Json> =>
  Object.fromEntries(
    ['text_encoder', 'unet', 'motion_adapter', 'vae'].map(name => [
      name,
      json(`${folder}/${name}/config.json`),
    ]),
  )

const cases = [
  'clip-text',
  'clip-text-gelu',
  'vae',
  'vae-plain',
  'unet-motion',
  'unet-motion-whole',
  'unet-motion-mid',
]
for (const name of cases) {
  test(`${name}: asks for exactly the recorded weights`, () => {
    const { configs, tensors } = recorded(name)
    assert.ok(tensors.length > 30)
    assert.equal(asked(...programs(configs)), tensors)
  })
}

test('the embedded checkpoint: asks for exactly the stored weights', () => {
  const folder = `${root}models/moving-shapes`
  const stored = (name: string, file = 'diffusion_pytorch_model') =>
    [...readSafetensorsHeader(`${folder}/${name}/${file}.safetensors`).tensors].map(
      ([key, { shape }]) => [key, shape] as const,
    )
  const components = {
    text_encoder: stored('text_encoder', 'model'),
    unet: stored('unet'),
    motion_adapter: stored('motion_adapter'),
    vae: stored('vae'),
  }
  assert.equal(asked(...programs(folderConfigs(folder))), had(components))
})

const sd15 = folderConfigs(fixture('configs/animatediff-sd15'))
const sizeOf = (program: Program, component: string): number =>
  program.weights
    .filter(({ name }) => name.startsWith(`${component}/`))
    .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)

test('Stable Diffusion 1.5 with a motion adapter has the known number of parameters', () => {
  const size = { frames: 16, rows: 64, cols: 64, tokens: 77 }
  const start = performance.now()
  const v2 = unetMotion(unetMotionConfig(sd15.unet!, sd15.motion_adapter), size)
  console.log(`traced ${v2.nodes.length} ops in ${(performance.now() - start).toFixed(0)} ms`)
  assert.is(sizeOf(v2, 'unet'), 859_520_964)
  assert.is(sizeOf(v2, 'motion_adapter'), 417_700_800)
  assert.equal(v2.outputs.sample!.shape, [16, 64, 64, 4])

  const v1 = unetMotion(
    unetMotionConfig(sd15.unet!, { ...sd15.motion_adapter, use_motion_mid_block: true }),
    size,
  )
  assert.is(sizeOf(v1, 'motion_adapter'), 453_813_440)

  const config = vaeConfig(sd15.vae!)
  const decoder = vaeDecoder(config, { frames: 1, rows: 64, cols: 64 })
  const encoder = vaeEncoder(config, { frames: 1, rows: 512, cols: 512 })
  assert.is(sizeOf(decoder, 'vae'), 49_490_199)
  assert.is(sizeOf(decoder, 'vae') + sizeOf(encoder, 'vae'), 83_653_863)
  assert.equal(decoder.outputs.image!.shape, [1, 512, 512, 3])
  assert.equal(encoder.outputs.moments!.shape, [1, 64, 64, 8])
  assert.is(
    sizeOf(clipText(clipTextConfig(sd15.text_encoder!), { tokens: 77 }), 'text_encoder'),
    123_060_480,
  )
})

test('ops are counted by the layers', () => {
  const program = unetMotion(unetMotionConfig(sd15.unet!, sd15.motion_adapter), {
    frames: 2,
    rows: 8,
    cols: 8,
    tokens: 77,
  })
  const count = (op: string, end = '') =>
    program.nodes.filter(node => node.op === op && node.name.endsWith(end)).length
  // 16 spatial and 20 + 1 motion transformers of two attentions each: 8 + 12 motion modules, none in the middle.
  assert.is(count('attention'), 2 * (16 + 20))
  assert.is(
    program.nodes.filter(node => node.op === 'attention' && node.attrs.over === 'time').length,
    2 * 20,
  )
  // Two norms in each of 22 residual blocks, one in each transformer, one at the end.
  assert.is(count('group_norm'), 2 * 22 + 16 + 20 + 1)
  assert.is(count('layer_norm'), 3 * (16 + 20))
  assert.is(count('conv2d', 'downsamplers.0.conv.conv2d'), 3)
  assert.is(count('conv2d', 'upsamplers.0.conv.conv2d'), 3)
  assert.is(count('timestep'), 1)
})

test('a motion module norms the whole video, everything else each frame', () => {
  const program = unetMotion(unetMotionConfig(sd15.unet!, sd15.motion_adapter), {
    frames: 2,
    rows: 8,
    cols: 8,
    tokens: 77,
  })
  for (const node of program.nodes.filter(({ op }) => op === 'group_norm')) {
    assert.is(node.attrs.over, node.name.includes('motion_modules') ? 'video' : 'frame', node.name)
  }
})

test('sides that do not halve evenly come back at their size', () => {
  const { configs } = recorded('unet-motion')
  const config = unetMotionConfig(configs.unet!, configs.motion_adapter)
  for (const [frames, rows, cols] of [
    [1, 1, 1],
    [3, 7, 9],
    [2, 5, 64],
    [32, 17, 2],
  ] as const) {
    const program = unetMotion(config, { frames, rows, cols, tokens: 1 })
    verifyProgram(program)
    assert.equal(program.outputs.sample!.shape, [frames, rows, cols, 4])
  }
})

test('the text encoder computes what is asked for and no more', () => {
  const config = clipTextConfig(recorded('clip-text').configs.text_encoder!)
  const nodes = (outputs: ('last_hidden_state' | 'penultimate' | 'pooled')[]) =>
    clipText(config, { tokens: 9, outputs })
  assert.equal(Object.keys(nodes(['pooled']).outputs), ['pooled'])
  assert.equal(nodes(['pooled']).outputs.pooled!.shape, [1, 64])
  assert.is(
    nodes(['penultimate']).weights.some(
      ({ name }) => name.includes('layers.2.') || name.includes('final'),
    ),
    false,
  )
  assert.is('last_token' in nodes(['last_hidden_state']).inputs, false)
})

test('keys of older checkpoints', () => {
  const { configs, tensors } = recorded('clip-text')
  const older = asked(...programs(configs, 'text_model.'))
  assert.equal(
    older,
    tensors.map(line => line.replace('text_encoder/', 'text_encoder/text_model.')).sort(),
  )

  const attention = 'vae/decoder.mid_block.attentions.0.'
  assert.equal(alternativeVaeKeys(`${attention}to_q.weight`), [`${attention}query.weight`])
  assert.equal(alternativeVaeKeys(`${attention}to_k.bias`), [`${attention}key.bias`])
  assert.equal(alternativeVaeKeys(`${attention}to_v.bias`), [`${attention}value.bias`])
  assert.equal(alternativeVaeKeys(`${attention}to_out.0.weight`), [`${attention}proj_attn.weight`])
  assert.equal(alternativeVaeKeys('vae/decoder.conv_in.weight'), [])
})

test('weights carry the dtype of the checkpoint', () => {
  const { configs } = recorded('vae')
  const size = { frames: 1, rows: 4, cols: 4 }
  const half = vaeDecoder(vaeConfig(configs.vae!), size, { dtypes: 'f16' })
  assert.ok(half.weights.every(({ dtype }) => dtype === 'f16'))
  const mixed = vaeDecoder(vaeConfig(configs.vae!), size, {
    dtypes: key => (key.endsWith('.bias') ? 'f32' : 'bf16'),
  })
  assert.is(mixed.weights.find(({ name }) => name === 'vae/decoder.conv_in.bias')?.dtype, 'f32')
  assert.is(mixed.weights.find(({ name }) => name === 'vae/decoder.conv_in.weight')?.dtype, 'bf16')
})

test.run()
