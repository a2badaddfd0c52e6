import { gaussian } from '../io/random.js'
import type { Stage } from '../runtime/stage.js'
import type { Scheduler } from '../schedulers/index.js'
import { channelsLast } from './layout.js'
import type { Progress } from './progress.js'
import { predictionOf, stepBindings, stepValues } from './step-program.js'

/**
 * The loop over a scheduler's evaluations in a stage with the program `unet` and those of `solverParts`; every tensor stays in the arena.
 * Evaluation i of a scheduler that draws noise takes stream i + 1 of the seed (stream 0 is the start).
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
  // A factor of 0 on what no evaluation has written yet must find a number there.
  for (let slot = 1; slot < scheduler.slots; slot++)
    stage.write(predictionOf(slot), new Float32Array(latents!.bytes / 4))
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
    const outputs = { sample: predictionOf(scheduler.step(step).slot) }
    await stage.run('unet', { inputs, outputs }, progress(halves - 1))

    for (const { name, values } of stepValues(scheduler, step)) stage.write(name, values)
    if (noise) {
      const channels = latents!.shape[3]!
      stage.write('noise', channelsLast(gaussian(seed, noise.bytes / 4, step + 1), channels))
    }
    await stage.run('step', stepBindings(scheduler, step))
  }
}
