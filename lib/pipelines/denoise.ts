import { gaussian } from '../io/random.js'
import type { Bindings, Stage } from '../runtime/stage.js'
import type { Scheduler } from '../schedulers/index.js'
import type { Generation } from './generation.js'
import type { LatentExtents, LatentOrder } from './layout.js'
import { predictionOf, stepBindings, stepValues } from './step-program.js'

/** The network for one element of the batch: what its inputs besides `sample` are bound to, and which prediction it makes. */
export interface Half {
  readonly inputs: NonNullable<Bindings['inputs']>
  readonly outputs: { readonly sample: 'predicted' | 'predictedUnconditional' }
}

/**
 * The loop over a scheduler's evaluations in a stage with the program `unet` and those of `solverParts`; every tensor stays in the arena.
 * Evaluation i of a scheduler that draws noise takes stream i + 1 of the seed (stream 0 is the start).
 * @param halves run one after the other at each evaluation: the unconditional one, where there is guidance, and the conditional one
 */
export async function denoise(
  stage: Stage,
  scheduler: Scheduler,
  halves: readonly Half[],
  order: LatentOrder,
  { seed, onProgress }: Pick<Generation, 'seed' | 'onProgress'>,
): Promise<void> {
  const { scaled, noise, latents } = stage.plan.state
  const steps = scheduler.timesteps.length
  const sample = scaled ? 'scaled' : 'latents'
  // A factor of 0 on what no evaluation has written yet must find a number there.
  for (let slot = 1; slot < scheduler.slots; slot++)
    stage.write(predictionOf(slot), new Float32Array(latents!.bytes / 4))
  for (let step = 0; step < steps; step++) {
    stage.write('timestep', Float32Array.of(scheduler.timesteps[step]!))
    if (scaled) {
      stage.write('inputScale', Float32Array.of(scheduler.inputScale(step)))
      await stage.run('scale')
    }
    const { slot } = scheduler.step(step)
    for (const [half, { inputs, outputs }] of halves.entries()) {
      const to = outputs.sample === 'predicted' ? predictionOf(slot) : outputs.sample
      const bindings = { inputs: { ...inputs, sample }, outputs: { sample: to } }
      await stage.run('unet', bindings, (done, total) =>
        onProgress?.({
          stage: 'denoise',
          phase: 'run',
          done: (step * halves.length + half) * total + done,
          total: steps * halves.length * total,
          step,
          steps,
        }),
      )
    }
    for (const { name, values } of stepValues(scheduler, step)) stage.write(name, values)
    if (noise) {
      const extents = latents!.shape as unknown as LatentExtents
      stage.write('noise', order.read(gaussian(seed, noise.bytes / 4, step + 1), extents))
    }
    await stage.run('step', stepBindings(scheduler, step))
  }
}
