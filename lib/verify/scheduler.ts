import { CheckpointError } from '../errors.js'
import { readJson } from '../io/weight-index.js'
import { createScheduler, type SchedulerConfig } from '../schedulers/index.js'
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
  const scheduler = createScheduler({ _class_name: className, ...config } as SchedulerConfig, steps)

  let sample = Float64Array.from(await values('init'), value => value * scheduler.initNoiseSigma)
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
    sample = sample.map(
      (value, j) => step.sample * value + step.output * model[j]! + step.noise * (noise?.[j] ?? 0),
    )
    note(compare('sample', sample, await values(`sample.${i}`)))
  }
  return { scheduler: scheduler.name, outputs: [...worst.values()] }
}
