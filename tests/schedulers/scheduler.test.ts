import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { OptionError } from '../../lib/errors.js'
import { readFloats, readSafetensorsHeader } from '../../lib/io/safetensors.js'
import { readJson } from '../../lib/io/weight-index.js'
import { betaQuantile, incompleteBeta } from '../../lib/schedulers/beta-quantile.js'
import {
  createScheduler,
  type SchedulerConfig,
  schedulerNames,
} from '../../lib/schedulers/index.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const folder = `${root}tests/fixtures/schedulers/`

interface Recorded {
  className: string
  config: SchedulerConfig
  steps: number
  values(key: string): Promise<Float32Array>
}

function recorded(name: string): Recorded {
  const { scheduler, config, steps } = readJson(`${folder}${name}.json`)
  const { tensors } = readSafetensorsHeader(`${folder}${name}.safetensors`)
  return {
    className: scheduler as string,
    config: { _class_name: scheduler, ...(config as object) } as SchedulerConfig,
    steps: steps as number,
    values: key => readFloats(tensors.get(key)!),
  }
}

/** Largest difference over the largest expected magnitude. */
function distance(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert.is(got.length, expected.length)
  let difference = 0
  let scale = 0
  for (let i = 0; i < got.length; i++) {
    difference = Math.max(difference, Math.abs(got[i]! - expected[i]!))
    scale = Math.max(scale, Math.abs(expected[i]!))
  }
  return scale === 0 ? difference : difference / scale
}

const records = readdirSync(folder)
  .filter(file => file.endsWith('.json'))
  .map(file => file.slice(0, -5))

for (const name of records) {
  test(`${name} follows the record step by step`, async () => {
    const { className, config, steps, values } = recorded(name)
    const scheduler = createScheduler(config, steps, { name: className })
    assert.is(scheduler.name, className)
    assert.ok(distance(scheduler.timesteps, await values('timesteps')) < 1e-6)
    const [sigma] = await values('init_noise_sigma')
    assert.ok(Math.abs(scheduler.initNoiseSigma / sigma! - 1) < 1e-6)

    let sample = Float64Array.from(await values('init'), x => x * scheduler.initNoiseSigma)
    // What is not written yet must not be read.
    const held = Array.from({ length: scheduler.slots }, () => sample.map(() => 1e9))
    for (let i = 0; i < scheduler.timesteps.length; i++) {
      const scale = scheduler.inputScale(i)
      const scaled = sample.map(x => x * scale)
      assert.ok(distance(scaled, await values(`scaled.${i}`)) < 1e-5, `scaled.${i}`)
      const output = await values(`model.${i}`)
      const { slot, convert, predictions, ...step } = scheduler.step(i)
      const noise = step.noise === 0 ? undefined : await values(`noise.${i}`)
      held[slot] = sample.map((x, j) => convert.sample * x + convert.output * output[j]!)
      sample = sample.map((x, j) => {
        let next = step.sample * x + step.noise * (noise?.[j] ?? 0)
        for (const [s, factor] of predictions.entries()) next += factor * held[s]![j]!
        return next
      })
      const difference = distance(sample, await values(`sample.${i}`))
      assert.ok(difference < 1e-5, `sample.${i}: ${difference}`)
    }
  })
}

test('every scheduler has records', () => {
  const classes = records.map(name => recorded(name).className)
  assert.equal(new Set(classes).size, schedulerNames.length)
  assert.ok(records.length >= 36)
})

for (const run of ['ad-red-circle', 'ad-blue-square', 'ad-wide']) {
  test(`${run}: the time steps of the recorded run, switched by name`, async () => {
    const config = JSON.parse(
      readFileSync(`${root}models/moving-shapes/scheduler/scheduler_config.json`, 'utf8'),
    )
    const { tensors, metadata } = readSafetensorsHeader(
      `${root}tests/fixtures/golden/${run}.safetensors`,
    )
    const { steps, scheduler: name } = JSON.parse(metadata.case!)
    const expected = await readFloats(tensors.get('timesteps')!)
    assert.equal([...createScheduler(config, steps, { name }).timesteps], [...expected])
  })
}

test('a step on the clean path lands on the clean path', () => {
  // x = signal·x0 + sigma·e with the true prediction must go to the next time step's signal·x0 + sigma·e.
  for (const prediction_type of ['epsilon', 'sample', 'v_prediction']) {
    for (const beta_schedule of ['linear', 'scaled_linear', 'squaredcos_cap_v2']) {
      const config = {
        _class_name: 'DDIMScheduler',
        prediction_type,
        beta_schedule,
        clip_sample: false,
      }
      const scheduler = createScheduler(config, 10)
      const [x0, e] = [0.7, -1.3]
      const bars = alphas(config)
      for (let i = 0; i < 10; i++) {
        const [a, s] = [
          Math.sqrt(bars[scheduler.timesteps[i]!]!),
          Math.sqrt(1 - bars[scheduler.timesteps[i]!]!),
        ]
        const output = { epsilon: e, sample: x0, v_prediction: a * e - s * x0 }[prediction_type]!
        const next = i === 9 ? 1 : bars[scheduler.timesteps[i + 1]!]!
        const step = scheduler.step(i)
        const got = step.sample * (a * x0 + s * e) + step.predictions[0]! * output
        assert.ok(
          Math.abs(got - (Math.sqrt(next) * x0 + Math.sqrt(1 - next) * e)) < 1e-4,
          `${prediction_type} ${beta_schedule} ${i}`,
        )
      }
    }
  }
})

/** Cumulative products in float64, written apart from the scheduler's. */
function alphas({ beta_schedule }: { beta_schedule: string }): number[] {
  const bar = (t: number) => Math.cos(((t + 0.008) / 1.008) * (Math.PI / 2)) ** 2
  let product = 1
  return Array.from({ length: 1000 }, (_, i) => {
    const at = i / 999
    const beta =
      beta_schedule === 'linear'
        ? 1e-4 + at * (0.02 - 1e-4)
        : beta_schedule === 'scaled_linear'
          ? (0.01 + at * (Math.sqrt(0.02) - 0.01)) ** 2
          : Math.min(0.999, 1 - bar((i + 1) / 1000) / bar(i / 1000))
    product *= 1 - beta
    return product
  })
}

test('spacings give the time steps of diffusers', () => {
  const at = (timestep_spacing: string, steps: number, extra = {}) => [
    ...createScheduler(
      { _class_name: 'DDIMScheduler', clip_sample: false, timestep_spacing, ...extra },
      steps,
    ).timesteps,
  ]
  assert.equal(at('leading', 5, { steps_offset: 1 }), [801, 601, 401, 201, 1])
  assert.equal(at('linspace', 5), [999, 749, 500, 250, 0])
  assert.equal(at('trailing', 5), [999, 799, 599, 399, 199])
  // Ties round to even: 1000 - 62.5 = 937.5 -> 938, 812.5 -> 812.
  assert.equal(at('trailing', 16).slice(0, 4), [999, 937, 874, 811])
  assert.equal(at('linspace', 1), [0])
  assert.is(at('trailing', 1000).at(-1), 0)
  const euler = createScheduler({ _class_name: 'EulerDiscreteScheduler' }, 5).timesteps
  assert.equal([...euler], [999, 749.25, 499.5, 249.75, 0])
})

test('every kind of sigmas falls from the first to the last', () => {
  const kinds = [
    {},
    { use_karras_sigmas: true },
    { use_exponential_sigmas: true },
    { use_beta_sigmas: true },
    { interpolation_type: 'log_linear' },
  ]
  for (const kind of kinds) {
    const scheduler = createScheduler({ _class_name: 'EulerDiscreteScheduler', ...kind }, 8)
    const scales = Array.from({ length: 8 }, (_, i) => scheduler.inputScale(i))
    for (let i = 1; i < 8; i++) assert.ok(scales[i]! > scales[i - 1]!, JSON.stringify(kind))
    for (let i = 0; i < 8; i++) assert.ok(scheduler.step(i).predictions[0]! < 0)
    for (let i = 1; i < 8; i++) assert.ok(scheduler.timesteps[i]! < scheduler.timesteps[i - 1]!)
  }
})

test('final_sigmas_type zero ends on the prediction, sigma_min above it', () => {
  const config = { _class_name: 'EulerDiscreteScheduler', prediction_type: 'sample' }
  const { sample, predictions } = createScheduler(config, 4).step(3)
  assert.equal([sample, predictions], [0, [1]])
  const step = createScheduler(config, 4, {
    final_sigmas_type: 'sigma_min',
    timestep_spacing: 'trailing',
  }).step(3)
  assert.ok(step.sample > 0 && step.sample < 1)
})

test('switching by name keeps the values of the checkpoint, not the defaults of its class', () => {
  const config = {
    _class_name: 'DDIMScheduler',
    beta_end: 0.01,
    prediction_type: 'v_prediction',
    timestep_spacing: 'trailing',
  }
  const switched = createScheduler(config, 6, { name: 'euler' })
  const direct = createScheduler({ ...config, _class_name: 'EulerDiscreteScheduler' }, 6)
  assert.is(switched.name, 'EulerDiscreteScheduler')
  assert.equal(switched.timesteps, direct.timesteps)
  assert.equal(switched.step(2), direct.step(2))
  const defaulted = createScheduler({ ...config, _use_default_values: ['timestep_spacing'] }, 6, {
    name: 'euler',
  })
  assert.equal(
    [...defaulted.timesteps][1],
    createScheduler({ _class_name: 'EulerDiscreteScheduler' }, 6).timesteps[1],
  )
  assert.is(createScheduler(config, 6, { name: 'ddim', clip_sample: false }).name, 'DDIMScheduler')
})

test('zero terminal signal runs with velocity and refuses epsilon', () => {
  const config = {
    _class_name: 'DDIMScheduler',
    clip_sample: false,
    rescale_betas_zero_snr: true,
    timestep_spacing: 'trailing',
  }
  assert.throws(
    () => createScheduler(config, 4),
    (e: Error) => e instanceof OptionError && /v_prediction/.test(e.message),
  )
  for (let i = 0; i < 4; i++) {
    assert.ok(
      Number.isFinite(
        createScheduler({ ...config, prediction_type: 'v_prediction' }, 4).step(i).sample,
      ),
    )
  }
  assert.ok(
    createScheduler({ ...config, _class_name: 'EulerDiscreteScheduler' }, 4).initNoiseSigma > 4000,
  )
})

test('wrong configurations are refused with the reason', () => {
  const ddim = { _class_name: 'DDIMScheduler', clip_sample: false }
  const euler = { _class_name: 'EulerDiscreteScheduler' }
  const dpm = { _class_name: 'DPMSolverMultistepScheduler' }
  const lcm = { _class_name: 'LCMScheduler' }
  const pndm = { _class_name: 'PNDMScheduler' }
  const cases: [SchedulerConfig, number, RegExp][] = [
    [{ _class_name: 'DDIMScheduler' }, 4, /clip_sample: expected false.*clamped/],
    [{ ...ddim, thresholding: true }, 4, /thresholding: expected false/],
    [
      { _class_name: 'UniPCMultistepScheduler' },
      4,
      /expected one of ddim \(DDIMScheduler\), euler .*pndm \(PNDMScheduler\), got "UniPC/,
    ],
    [{}, 4, /expected one of/],
    [ddim, 0, /steps: expected an integer from 1 to 1000, got 0/],
    [ddim, 2.5, /steps/],
    [ddim, 1001, /steps/],
    [{ ...ddim, steps_offset: 1 }, 1000, /steps_offset/],
    [{ ...ddim, beta_schedule: 'sigmoid' }, 4, /beta_schedule: expected one of linear/],
    [{ ...ddim, beta_start: '0.1' }, 4, /beta_start: expected a finite number/],
    [{ ...ddim, trained_betas: [0.1, 0.2] }, 4, /trained_betas: expected 1000 numbers/],
    [{ ...ddim, prediction_type: 'flow' }, 4, /prediction_type/],
    [{ ...euler, use_karras_sigmas: true, use_beta_sigmas: true }, 4, /at most one kind of sigmas/],
    [
      { ...euler, use_karras_sigmas: true, sigma_min: 2, sigma_max: 1 },
      4,
      /sigma_min <= sigma_max/,
    ],
    [{ ...euler, timestep_spacing: 'random' }, 4, /timestep_spacing/],
    [{ ...dpm, solver_order: 3 }, 4, /solver_order: expected 1 or 2, got 3/],
    [{ ...dpm, algorithm_type: 'deis' }, 4, /algorithm_type: expected one of dpmsolver\+\+/],
    [{ ...dpm, algorithm_type: 'dpmsolver' }, 4, /final_sigmas_type: expected sigma_min/],
    [{ ...dpm, use_flow_sigmas: true }, 4, /use_flow_sigmas: expected false/],
    [{ ...dpm, variance_type: 'learned' }, 4, /variance_type: expected null/],
    [{ ...dpm, thresholding: true }, 4, /thresholding: expected false/],
    [{ ...dpm, lambda_min_clipped: 'low' }, 4, /lambda_min_clipped: expected a number/],
    [dpm, 0, /steps: expected an integer from 1 to 1000/],
    [{ ...dpm, timestep_spacing: 'leading' }, 1000, /steps: expected finite/],
    [lcm, 51, /steps: expected an integer from 1 to 50, the original_inference_steps/],
    [{ ...lcm, original_inference_steps: 1001 }, 4, /original_inference_steps: .* to 1000/],
    [{ ...lcm, clip_sample: true }, 4, /clip_sample: expected false/],
    [{ ...lcm, rescale_betas_zero_snr: true }, 4, /prediction_type: expected v_prediction/],
    [{ ...pndm, prediction_type: 'sample' }, 4, /prediction_type: expected one of epsilon, v/],
    [pndm, 3, /steps: expected an integer from 4 to 1000 \(skip_prk_steps/],
    [{ ...pndm, skip_prk_steps: true }, 0, /steps: expected an integer from 1/],
    [{ ...pndm, steps_offset: 1 }, 1000, /steps_offset/],
  ]
  for (const [config, steps, message] of cases) {
    assert.throws(
      () => createScheduler(config, steps),
      (e: Error) => e instanceof OptionError && message.test(e.message),
    )
  }
  assert.equal(schedulerNames, ['ddim', 'euler', 'euler-ancestral', 'dpmpp-2m', 'lcm', 'pndm'])
})

test('spacing and karras replace what the config says, and are refused where they mean nothing', () => {
  const config = {
    _class_name: 'EulerDiscreteScheduler',
    timestep_spacing: 'leading',
    use_exponential_sigmas: true,
  }
  const trailing = createScheduler(
    { _class_name: config._class_name, timestep_spacing: 'trailing', use_karras_sigmas: true },
    4,
  )
  const asked = createScheduler(config, 4, { spacing: 'trailing', karras: true })
  assert.equal(asked.timesteps, trailing.timesteps)
  assert.equal(asked.step(1), trailing.step(1))
  const without = { ...config, use_exponential_sigmas: false, use_karras_sigmas: true }
  assert.equal(
    createScheduler(without, 4, { karras: false }).timesteps,
    createScheduler({ ...without, use_karras_sigmas: false }, 4).timesteps,
  )
  // What stands in the config without being asked for is no mistake of the caller.
  const kept = createScheduler({ ...config, use_karras_sigmas: true }, 4, { name: 'pndm' })
  assert.is(kept.timesteps.length, 13)
  for (const [override, message] of [
    [{ spacing: 'even' }, /spacing: expected one of leading, linspace, trailing, got "even"/],
    [{ spacing: 'trailing', name: 'lcm' }, /spacing: expected none with lcm/],
    [{ karras: true, name: 'ddim' }, /karras: expected one of .*euler, dpmpp-2m, got ddim/],
    [{ karras: 'yes' as unknown as boolean }, /karras: expected true or false/],
  ] as const) {
    assert.throws(
      () => createScheduler(config, 4, override),
      (e: Error) => e instanceof OptionError && message.test(e.message),
    )
  }
  assert.is(
    createScheduler(config, 4, { karras: false, name: 'ddim', clip_sample: false }).slots,
    1,
  )
})

test('evaluations and predictions held: one a step, or as the multistep solvers need', () => {
  const shape = (name: string, steps: number, keys = {}) => {
    const { timesteps, slots } = createScheduler({ clip_sample: false, ...keys }, steps, { name })
    return [timesteps.length, slots]
  }
  for (const name of ['ddim', 'euler', 'euler-ancestral', 'lcm'])
    assert.equal(shape(name, 9), [9, 1])
  assert.equal(shape('dpmpp-2m', 9), [9, 2])
  assert.equal(shape('dpmpp-2m', 1), [1, 1])
  assert.equal(shape('dpmpp-2m', 9, { solver_order: 1 }), [9, 1])
  assert.equal(shape('pndm', 9), [18, 6])
  assert.equal(shape('pndm', 4), [13, 6])
  assert.equal(shape('pndm', 9, { skip_prk_steps: true }), [10, 4])
  assert.equal(shape('pndm', 2, { skip_prk_steps: true }), [3, 2])
})

test('a multistep solver is exact where its polynomial is', () => {
  // With the same prediction at every evaluation, all orders agree with one first-order step over the whole way.
  const make = (name: string, keys: object) =>
    createScheduler({ beta_schedule: 'scaled_linear', ...keys }, 12, { name })
  for (const scheduler of [
    make('dpmpp-2m', { prediction_type: 'sample', solver_type: 'heun' }),
    make('dpmpp-2m', { prediction_type: 'sample', use_karras_sigmas: true }),
    make('pndm', { skip_prk_steps: true, set_alpha_to_one: true }),
    make('pndm', { set_alpha_to_one: true }),
  ]) {
    const output = 0.6
    let sample = 1.7
    const held = new Array<number>(scheduler.slots).fill(0)
    const bar = alphas({ beta_schedule: 'scaled_linear' })[scheduler.timesteps[0]!]!
    const noise = scheduler.name === 'PNDMScheduler'
    const expected = noise ? (sample - Math.sqrt(1 - bar) * output) / Math.sqrt(bar) : output
    for (let i = 0; i < scheduler.timesteps.length; i++) {
      const step = scheduler.step(i)
      held[step.slot] = step.convert.sample * sample + step.convert.output * output
      sample = step.predictions.reduce((sum, c, s) => sum + c * held[s]!, step.sample * sample)
    }
    assert.ok(Math.abs(sample - expected) < 1e-3, `${scheduler.name}: ${sample}, ${expected}`)
  }
})

test('trained_betas replace the schedule', () => {
  const trained_betas = Array.from({ length: 50 }, (_, i) => 0.001 + i * 0.002)
  const scheduler = createScheduler(
    { _class_name: 'DDIMScheduler', clip_sample: false, num_train_timesteps: 50, trained_betas },
    50,
  )
  const bar = trained_betas.reduce((a, b) => a * (1 - b), 1)
  const before = bar / (1 - trained_betas[49]!)
  assert.ok(Math.abs(scheduler.step(0).sample - Math.sqrt(before / bar)) < 1e-6)
})

test('the beta quantile inverts the incomplete beta function', () => {
  // I_x(1, b) = 1 - (1 - x)^b; I_x(1/2, 1/2) = 2/pi asin(sqrt x).
  assert.ok(Math.abs(incompleteBeta(0.3, 1, 4) - (1 - 0.7 ** 4)) < 1e-13)
  assert.ok(
    Math.abs(incompleteBeta(0.2, 0.5, 0.5) - (2 / Math.PI) * Math.asin(Math.sqrt(0.2))) < 1e-13,
  )
  for (const p of [0.01, 0.25, 0.5, 0.9])
    assert.ok(Math.abs(incompleteBeta(betaQuantile(p, 0.6, 0.6), 0.6, 0.6) - p) < 1e-12)
  assert.ok(Math.abs(betaQuantile(0.5, 0.6, 0.6) - 0.5) < 1e-12)
  assert.equal([betaQuantile(0, 0.6, 0.6), betaQuantile(1, 0.6, 0.6)], [0, 1])
})

test.run()
