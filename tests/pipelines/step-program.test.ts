import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaussian } from '../../lib/io/random.js'
import { denoise } from '../../lib/pipelines/denoise.js'
import { framesOutside, type LatentExtents } from '../../lib/pipelines/layout.js'
import type { Half } from '../../lib/pipelines/predictor.js'
import { solverParts } from '../../lib/pipelines/step-program.js'
import { planStage, type StageSpec, type StateSpec } from '../../lib/planner/plan.js'
import { add, program, silu } from '../../lib/program/index.js'
import { resolveDevice } from '../../lib/runtime/device.js'
import { Stage } from '../../lib/runtime/stage.js'
import { weightsFromValues } from '../../lib/runtime/weights.js'
import { createScheduler, type Scheduler, schedulerNames } from '../../lib/schedulers/index.js'
import { applyStep } from '../../lib/verify/scheduler.js'

const extents: LatentExtents = [3, 4, 5, 4]
const count = 240
const seed = 3

/** A network of one line: silu(sample) + bias, the bias telling the halves apart. */
function stageOf(scheduler: Scheduler, guidance: StateSpec | undefined): StageSpec {
  const latents: StateSpec = { shape: extents, dtype: 'f32' }
  const solver = solverParts(scheduler, latents, guidance)
  return {
    name: 'denoise',
    state: {
      latents,
      timestep: { shape: [1], dtype: 'f32' },
      low: latents,
      high: latents,
      ...solver.state,
    },
    programs: {
      unet: program('unet', trace => {
        const sample = trace.input('sample', extents)
        return { sample: add(silu(sample), trace.input('bias', extents)) }
      }),
      ...solver.programs,
    },
    runs: solver.runs,
  }
}

const halves: readonly Half[] = [
  { inputs: { bias: 'low' }, outputs: { sample: 'predictedUnconditional' } },
  { inputs: { bias: 'high' }, outputs: { sample: 'predicted' } },
]
const biases = { low: gaussian(7, count), high: gaussian(8, count) }

/** A scale for each value, as each way of guidance has it. */
const guidances = {
  none: undefined,
  one: [2.5],
  frames: [1, 2, 3].flatMap(g => [g, g, g, g]),
} as const

async function run(
  scheduler: Scheduler,
  scales: readonly number[] | undefined,
  slices: number,
): Promise<Float32Array> {
  const shape = scales && (scales.length === 1 ? [1] : [3, 4])
  const guidance: StateSpec | undefined = shape && { shape, dtype: 'f32' }
  const { target } = resolveDevice('cpu', 2)
  const plan = planStage(stageOf(scheduler, guidance), { target, weightDtype: () => 'f32', slices })
  await using stage = await Stage.open(plan, {
    device: 'cpu',
    weights: weightsFromValues({}),
    poison: true,
  })
  const start = gaussian(seed, count).map(x => x * scheduler.initNoiseSigma)
  stage.write('latents', start)
  for (const [name, bias] of Object.entries(biases)) stage.write(name, bias)
  if (scales) stage.write('guidance', Float32Array.from(scales))
  const own = scales ? halves : halves.slice(1)
  await denoise(stage, scheduler, own, framesOutside, {
    seed,
    onProgress: undefined,
    fullSteps: [],
  })
  const result = stage.read('latents')
  assert.is(stage.close().peakBytes, plan.peakBytes)
  return result
}

/** The same in float64, from the scheduler's words alone. */
function expected(scheduler: Scheduler, scales: readonly number[] | undefined): Float64Array {
  let sample = Float64Array.from(gaussian(seed, count), x => x * scheduler.initNoiseSigma)
  const held = Array.from({ length: scheduler.slots }, () => sample.map(() => 0))
  for (let i = 0; i < scheduler.timesteps.length; i++) {
    const scale = scheduler.inputScale(i)
    const network = (x: number, bias: number) => (x * scale) / (1 + Math.exp(-x * scale)) + bias
    const output = sample.map((x, j) => {
      const high = network(x, biases.high[j]!)
      if (!scales) return high
      const low = network(x, biases.low[j]!)
      const g = scales.length === 1 ? scales[0]! : scales[4 * Math.floor(j / 80) + (j % 4)]!
      return low + g * (high - low)
    })
    const noise = framesOutside.read(gaussian(seed, count, i + 1), extents)
    sample = applyStep(scheduler.step(i), sample, output, held, noise)
  }
  return sample
}

const sd = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: 'scaled_linear' }
for (const name of [...schedulerNames, 'plms', 'sde']) {
  const solver = { plms: 'pndm', sde: 'dpmpp-2m' }[name] ?? name
  const keys = { plms: { skip_prk_steps: true }, sde: { algorithm_type: 'sde-dpmsolver++' } }[name]
  for (const [kind, scales] of Object.entries(guidances)) {
    test(`${name}, guidance ${kind}: as in float64, and the same bits in any slices`, async () => {
      const config = { ...sd, clip_sample: false, prediction_type: 'v_prediction', ...keys }
      const scheduler = createScheduler(config, 5, { name: solver })
      const whole = await run(scheduler, scales, 1)
      const wanted = expected(scheduler, scales)
      const largest = wanted.reduce((most, x) => Math.max(most, Math.abs(x)), 0)
      whole.forEach((x, i) => {
        const difference = Math.abs(x - wanted[i]!) / largest
        assert.ok(difference < 1e-5, `${i}: ${x}, expected ${wanted[i]}`)
      })
      for (const slices of [2, 3]) assert.equal(await run(scheduler, scales, slices), whole)
    })
  }
}

test.run()
