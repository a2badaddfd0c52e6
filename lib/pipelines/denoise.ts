import { gaussian } from '../io/random.js'
import type { Stage } from '../runtime/stage.js'
import type { Scheduler } from '../schedulers/index.js'
import { channelsLast } from './layout.js'
import type { Progress } from './progress.js'

/**
 * The loop over timesteps in a stage with the programs `unet`, `step` and, where the scheduler scales its input, `scale`; every tensor
 * stays in the arena. Step i of a scheduler that draws noise takes stream i + 1 of the seed (stream 0 is the start).
 */
export async function denoise(
  stage: Stage,
  scheduler: Scheduler,
  guided: boolean,
  seed: number,
  onProgress?: (progress: Progress) => void,
): Promise<void> {
  const { scaled, noise, latents } = stage.plan.state
  const steps = scheduler.timesteps.length
  const halves = guided ? 2 : 1
  const sample = scaled ? 'scaled' : 'latents'
  for (let step = 0; step < steps; step++) {
    const progress = (half: number) => (done: number, total: number) =>
      onProgress?.({
        stage: 'denoise',
        phase: 'run',
        done: (step * halves + half) * total + done,
        total: steps * halves * total,
        step,
        steps,
      })
    stage.write('timestep', Float32Array.of(scheduler.timesteps[step]!))
    if (scaled) {
      stage.write('inputScale', Float32Array.of(scheduler.inputScale(step)))
      await stage.run('scale')
    }
    if (guided) {
      const inputs = { sample, encoder_hidden_states: 'unconditional' }
      await stage.run(
        'unet',
        { inputs, outputs: { sample: 'predictedUnconditional' } },
        progress(0),
      )
    }
    const inputs = { sample, encoder_hidden_states: 'conditional' }
    await stage.run('unet', { inputs, outputs: { sample: 'predicted' } }, progress(halves - 1))

    const {
      sample: keep,
      predictions: [output = 0],
      noise: fresh,
    } = scheduler.step(step)
    stage.write('coefficients', Float32Array.of(keep, output, ...(noise ? [fresh] : [])))
    if (noise) {
      const channels = latents!.shape[3]!
      stage.write('noise', channelsLast(gaussian(seed, noise.bytes / 4, step + 1), channels))
    }
    await stage.run('step')
  }
}
