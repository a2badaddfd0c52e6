import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { BudgetError } from '../../lib/errors.js'
import { vaeRecompute } from '../../lib/pipelines/options.js'
import { type ProgramPlan, planStage, prepareStage } from '../../lib/planner/plan.js'
import { alignment } from '../../lib/planner/storage.js'
import type { DType } from '../../lib/program/tensor.js'
import { networks } from '../support/networks.js'
import { fixture } from '../support/recorded.js'

/**
 * A network, frames x rows x columns of the picture, how activations are stored, and the memory for the arena: any, so many MB (10^6
 * bytes), or the least. At 576 x 1024 the numbers are those that a plan must reach.
 */
type Case = readonly [
  network: string,
  shape: readonly [number, number, number],
  activations: DType,
  memory: 'any' | 'least' | number,
]

const cases: readonly Case[] = [
  ['animatediff unet', [8, 256, 256], 'f32', 'any'],
  ['animatediff unet', [8, 256, 256], 'f32', 71],
  ['animatediff unet', [8, 256, 256], 'f32', 48],
  ['animatediff unet', [16, 512, 512], 'f32', 'any'],
  ['animatediff unet', [16, 512, 512], 'f32', 500],
  ['animatediff unet', [16, 576, 1024], 'f16', 'any'],
  ['animatediff unet', [16, 576, 1024], 'f16', 430],
  ['animatediff unet', [16, 576, 1024], 'f16', 375],
  ['svd unet', [14, 256, 512], 'f16', 'any'],
  ['svd unet', [14, 256, 512], 'f16', 120],
  ['svd unet', [14, 576, 1024], 'f16', 'any'],
  ['svd unet', [14, 576, 1024], 'f16', 340],
  ['svd-xt unet', [25, 576, 1024], 'f16', 'any'],
  ['svd-xt unet', [25, 576, 1024], 'f16', 600],
  ['vae decoder', [1, 256, 256], 'f32', 'any'],
  ['vae decoder', [1, 256, 256], 'f32', 100],
  ['vae decoder', [1, 256, 256], 'f32', 'least'],
  ['vae decoder', [1, 512, 512], 'f16', 'any'],
  ['vae decoder', [1, 512, 512], 'f16', 180],
  ['vae decoder', [1, 576, 1024], 'f16', 'any'],
  ['vae decoder', [1, 576, 1024], 'f16', 330],
  ['vae encoder', [1, 512, 512], 'f16', 'any'],
  ['vae encoder', [1, 576, 1024], 'f16', 330],
  ['temporal decoder', [4, 256, 384], 'f16', 'any'],
  ['temporal decoder', [4, 256, 384], 'f16', 300],
  ['temporal decoder', [4, 256, 384], 'f16', 'least'],
  ['temporal decoder', [14, 576, 1024], 'f16', 'any'],
  ['temporal decoder', [14, 576, 1024], 'f16', 2700],
  ['temporal decoder', [2, 576, 1024], 'f16', 'least'],
  ['clip text', [1, 64, 64], 'f32', 'least'],
]

/** Least memory that is only kept from rising: planned once, not again for its offsets. */
const leastOnly: readonly Case[] = [
  ['animatediff unet', [16, 576, 1024], 'f16', 'least'],
  ['vae encoder', [1, 576, 1024], 'f16', 'least'],
]

const nameOf = ([network, shape, activations, memory]: Case): string =>
  `${network} ${shape.join('x')} ${activations} ${memory}`

/** Plans of a case's network, with `arena` bytes beside the weights. */
function planner([network, [frames, rows, cols], activations]: Case) {
  const programs = { main: networks[network]!({ frames, rows, cols }) }
  const recompute = network.endsWith('unet') ? 0.02 : vaeRecompute
  const spec = { name: network, state: {}, programs, recompute }
  const target = { backend: 'cpu', threads: 2 }
  const streaming = 'never' as const
  const options = { target, weightDtype: () => 'f16' as const, activations, streaming }
  const weights = prepareStage(spec, options).weights.bytes
  const within = (arena?: number): ProgramPlan =>
    planStage(spec, { ...options, budget: arena && arena + weights }).programs.main!
  const least = (): number => {
    try {
      return planStage(spec, { ...options, budget: weights }).programs.main!.bytes
    } catch (error) {
      if (!(error instanceof BudgetError)) throw error
      return error.needed - weights
    }
  }
  return { within, least }
}

/** Bytes by case, of the cases without a limit and of the least. */
const peaks: Record<string, number> = {}

test('arenas of 30 plans are within 0.5 % of their lower bound', () => {
  assert.is(cases.length, 30)
  for (const of of cases) {
    const memory = of[3]
    const { within, least } = planner(of)
    const arena = memory === 'any' ? undefined : memory === 'least' ? least() : memory * 1e6
    const { bytes, lowerBound } = within(arena)
    assert.ok(bytes <= (arena ?? bytes), `${nameOf(of)}: ${bytes}`)
    assert.ok(bytes <= 1.005 * lowerBound, `${nameOf(of)}: ${bytes} for ${lowerBound}`)
    // The bound rounds every size up, the last one too.
    assert.ok(bytes > lowerBound - alignment, `${nameOf(of)}: ${bytes} for ${lowerBound}`)
    if (typeof memory !== 'number') peaks[nameOf(of)] = bytes
  }
  for (const of of leastOnly) peaks[nameOf(of)] = planner(of).least()
})

/**
 * The recorded peaks. `SLUICE_WRITE_PEAKS=1 node scripts/test.mjs planner/arena-ratio` writes what is found now, to be read before it is
 * committed: a number that rises is memory lost.
 */
test('no peak rises above the recorded one', () => {
  const path = fixture('peaks.json')
  if (process.env.SLUICE_WRITE_PEAKS === '1')
    writeFileSync(path, `${JSON.stringify(peaks, undefined, 2)}\n`)
  const recorded = JSON.parse(readFileSync(path, 'utf8')) as Record<string, number>
  assert.equal(Object.keys(peaks).sort(), Object.keys(recorded).sort())
  for (const [name, bytes] of Object.entries(peaks)) {
    assert.ok(bytes <= recorded[name]!, `${name}: ${bytes}, recorded ${recorded[name]}`)
    if (bytes < recorded[name]!) console.log(`${name}: ${bytes}, recorded ${recorded[name]}`)
  }
})

test.run()
