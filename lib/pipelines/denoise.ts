import { gaussian } from '../io/random.js'
import type { RehashRun } from '../rehash/resolve.js'
import type { Stage } from '../runtime/stage.js'
import type { Scheduler } from '../schedulers/index.js'
import type { Generation } from './generation.js'
import type { LatentExtents, LatentOrder } from './layout.js'
import { type Half, predictorOf } from './predictor.js'

/**
 * The loop over timesteps in a stage with the programs `unet`, `step` and, where the scheduler scales its input, `scale`; every tensor
 * stays in the arena. Step i of a scheduler that draws noise takes stream i + 1 of the seed (stream 0 is the start).
 * @param halves run one after the other at each step: the unconditional one, where there is guidance, and the conditional one
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
  for (let step = 0; step < steps; step++) {
    stage.write('timestep', Float32Array.of(scheduler.timesteps[step]!))
    if (scaled) {
      stage.write('inputScale', Float32Array.of(scheduler.inputScale(step)))
      await stage.run('scale')
    }
    await predictor.predict(
      step,
      halves,
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
    const { sample: keep, output, noise: fresh } = scheduler.step(step)
    stage.write('coefficients', Float32Array.of(keep, output, ...(noise ? [fresh] : [])))
    if (noise) {
      const extents = latents!.shape as unknown as LatentExtents
      stage.write('noise', order.read(gaussian(seed, noise.bytes / 4, step + 1), extents))
    }
    await stage.run('step')
  }
}
