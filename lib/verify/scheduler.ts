import { CheckpointError } from '../errors.js'
import { readJson } from '../io/weight-index.js'
import { createScheduler, type SchedulerConfig, type SchedulerStep } from '../schedulers/index.js'
import { Recording } from './case.js'
import { compare, type Difference, worse } from './compare.js'

/**
 * Follows a recorded scheduler: NAME.json holds `scheduler` (a class), `config` and `steps`; NAME.safetensors beside it
 * `timesteps`, `init_noise_sigma`, `init`, and for each step `scaled.i`, `model.i`, `sample.i`, and `noise.i` where noise is drawn.
 * The trajectory is our own from the start on, so errors add up as they would in a run. Each output is the worst of its steps.
 * @throws CheckpointError for a malformed record, OptionError for a scheduler that is not known
 */
export async function checkScheduler(
  path: string,
): Promise<{ scheduler: string; outputs: Difference[] }> {
  const { scheduler: className, config, steps } = readJson(path)
  if (
    typeof className !== 'string' ||
    typeof config !== 'object' ||
    config === null ||
    typeof steps !== 'number'
  ) {
    throw new CheckpointError(
      `${path}: expected scheduler, config and steps, got ${Object.keys(readJson(path)).join(', ')}; record it again`,
      path,
    )
  }
  const recording = Recording.open(path.replace(/\.json$/, '.safetensors'))
  const values = async (key: string) => (await recording.floats(key)).data
  // A config of another class is switched, as a checkpoint's is by name.
  const own = { _class_name: className, ...config } as SchedulerConfig
  const scheduler = createScheduler(own, steps, { name: className })

  let sample = Float64Array.from(await values('init'), value => value * scheduler.initNoiseSigma)
  const held = Array.from({ length: scheduler.slots }, () => sample.map(() => 0))
  const worst = new Map<string, Difference>()
  const note = (difference: Difference) => {
    const known = worst.get(difference.output)
    worst.set(difference.output, known ? worse(known, difference) : difference)
  }
  note(compare('timesteps', scheduler.timesteps, await values('timesteps')))
  note(compare('init_noise_sigma', [scheduler.initNoiseSigma], await values('init_noise_sigma')))
  for (let i = 0; i < scheduler.timesteps.length; i++) {
    const scale = scheduler.inputScale(i)
    note(
      compare(
        'scaled',
        sample.map(value => value * scale),
        await values(`scaled.${i}`),
      ),
    )
    const model = await values(`model.${i}`)
    const step = scheduler.step(i)
    const noise = step.noise === 0 ? undefined : await values(`noise.${i}`)
    sample = applyStep(step, sample, model, held, noise)
    note(compare('sample', sample, await values(`sample.${i}`)))
  }
  return { scheduler: scheduler.name, outputs: [...worst.values()] }
}

/** The step in float64, element by element; `held` takes the new prediction. */
export function applyStep(
  step: SchedulerStep,
  sample: Float64Array<ArrayBuffer>,
  output: ArrayLike<number>,
  held: Float64Array[],
  noise?: ArrayLike<number>,
): Float64Array<ArrayBuffer> {
  const { convert, predictions } = step
  held[step.slot] = sample.map((x, i) => convert.sample * x + convert.output * output[i]!)
  return sample.map((x, i) => {
    const look = predictions.reduce((sum, c, slot) => sum + c * held[slot]![i]!, 0)
    return step.sample * x + look + step.noise * (noise?.[i] ?? 0)
  })
}
