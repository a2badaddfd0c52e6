import { gaussian } from '../io/random.js'
import type { RehashRun } from '../rehash/resolve.js'
import type { Stage } from '../runtime/stage.js'
import type { Scheduler } from '../schedulers/index.js'
import type { Generation } from './generation.js'
import type { LatentExtents, LatentOrder } from './layout.js'
import { type Half, predictorOf } from './predictor.js'
import { predictionOf, stepBindings, stepValues } from './step-program.js'

/**
 * The loop over a scheduler's evaluations in a stage with the program `unet` and those of `solverParts`; every tensor stays in the arena.
 * Evaluation i of a scheduler that draws noise takes stream i + 1 of the seed (stream 0 is the start).
 * @param halves run one after the other at each evaluation: the unconditional one, where there is guidance, and the conditional one
 * @param rehash what the stage was planned with
 */
export async function denoise(
  stage: Stage,
  scheduler: Scheduler,
  halves: readonly Half[],
  order: LatentOrder,
  generation: Pick<Generation, 'seed' | 'onProgress' | 'onFeature' | 'fullSteps'>,
  rehash?: RehashRun,
): Promise<void> {
  const { seed, onProgress } = generation
  const predictor = predictorOf(stage, rehash, generation.onFeature)
  generation.fullSteps = predictor.fullSteps
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
    await predictor.predict(
      step,
      halves.map(half => inSlot(half, slot)),
      sample,
      half => (done, total) =>
        onProgress?.({
          stage: 'denoise',
          phase: 'run',
          done: (step * halves.length + half) * total + done,
          total: steps * halves.length * total,
          step,
          steps,
        }),
    )
    for (const { name, values } of stepValues(scheduler, step)) stage.write(name, values)
    if (noise) {
      const extents = latents!.shape as unknown as LatentExtents
      stage.write('noise', order.read(gaussian(seed, noise.bytes / 4, step + 1), extents))
    }
    await stage.run('step', stepBindings(scheduler, step))
  }
}

/** A half whose prediction goes to a slot of the solver, where it goes to `predicted`. */
function inSlot(half: Half, slot: number): Half {
  const { sample } = half.outputs
  return sample === 'predicted' ? { ...half, outputs: { sample: predictionOf(slot) } } : half
}
