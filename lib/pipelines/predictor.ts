import { gaugeShape, rootMeanSquare } from '../rehash/gauge.js'
import { policyOf, type RehashRun } from '../rehash/resolve.js'
import type { Bindings, Stage } from '../runtime/stage.js'
import type { RunOptions } from './options.js'
import { cacheOf, observedState } from './rehash-stage.js'

/** The network for one element of the batch: what its inputs and its output are bound to, besides `sample`. */
export type Half = Required<Bindings>

/** Called with the half that runs. */
export type HalfProgress = (half: number) => (done: number, total: number) => void

/** Gives a step's predictions: afterwards each stands where its half's output `sample` is bound to. */
export interface Predictor {
  /** Steps so far that ran the whole network. */
  readonly fullSteps: readonly number[]
  /** @param sample state that the network reads @throws AbortError */
  predict(
    step: number,
    halves: readonly Half[],
    sample: string,
    progress: HalfProgress,
  ): Promise<void>
}

/** @param onFeature takes the features that the stage was planned to hand out */
export function predictorOf(
  stage: Stage,
  rehash: RehashRun | undefined,
  onFeature?: RunOptions['onFeature'],
): Predictor {
  return rehash ? new RehashPredictor(stage, rehash) : new PlainPredictor(stage, onFeature)
}

/** The whole network, at every step. */
class PlainPredictor implements Predictor {
  readonly fullSteps: number[] = []

  private readonly features: readonly string[]

  constructor(
    private readonly stage: Stage,
    private readonly onFeature: RunOptions['onFeature'],
  ) {
    const { outputs } = stage.plan.programs.unet!.program
    this.features = Object.keys(outputs).filter(name => name !== 'sample')
  }

  async predict(
    step: number,
    halves: readonly Half[],
    sample: string,
    progress: HalfProgress,
  ): Promise<void> {
    const { stage, features, onFeature } = this
    const observed = Object.fromEntries(features.map(name => [name, observedState(name)]))
    const values = new Map<string, Float32Array>()
    for (const [half, { inputs, outputs }] of halves.entries()) {
      const bindings = { inputs: { ...inputs, sample }, outputs: { ...observed, ...outputs } }
      await stage.run('unet', bindings, progress(half))
      for (const name of onFeature ? features : []) {
        const own = stage.read(observedState(name))
        const other = values.get(name)
        values.set(name, other ? guidedValues(other, own, stage.read('guidance')) : own)
      }
    }
    for (const [name, combined] of values) onFeature?.(name, combined, step)
    this.fullSteps.push(step)
  }
}

/**
 * What guidance makes of a feature of both halves: unconditional + g · (conditional - unconditional).
 * @param guidance one g, or as many for each frame
 */
function guidedValues(
  unconditional: Float32Array,
  conditional: Float32Array,
  guidance: Float32Array,
): Float32Array {
  const perScale = unconditional.length / guidance.length
  return unconditional.map(
    (u, i) => u + guidance[Math.floor(i / perScale)]! * (conditional[i]! - u),
  )
}

/** The whole network or what follows the kept feature, as the policy says. */
class RehashPredictor implements Predictor {
  readonly fullSteps: number[] = []
  private readonly policy
  /** Commands of the whole network, which progress is counted in. */
  private commands = 1

  constructor(
    private readonly stage: Stage,
    private readonly run: RehashRun,
  ) {
    this.policy = policyOf(run)
  }

  async predict(
    step: number,
    halves: readonly Half[],
    sample: string,
    progress: HalfProgress,
  ): Promise<void> {
    const { policy, stage } = this
    if (policy.moved) {
      if (step > 0)
        policy.moved(step, { latents: (await this.gauge(sample, 'sampleBefore')).change })
      await this.keep(sample, 'sampleBefore')
    }
    if (!policy.isFull(step)) return this.skip(step, halves, sample, progress)
    for (const [half, { inputs, outputs }] of halves.entries()) {
      const cache = cacheOf(half, this.fullSteps.length % this.run.slots)
      await stage.run(
        'unet',
        { inputs: { ...inputs, sample }, outputs: { ...outputs, cache } },
        (done, total) => {
          this.commands = total
          progress(half)(done, total)
        },
      )
    }
    this.fullSteps.push(step)
    if (policy.ran) {
      // The conditional half, which is always there and last.
      const prediction = halves[halves.length - 1]!.outputs.sample!
      const { size, change } = await this.gauge(prediction, 'predictionBefore')
      policy.ran(step, { size, ...(this.fullSteps.length > 1 && { change }) })
      await this.keep(prediction, 'predictionBefore')
    }
  }

  private async skip(
    step: number,
    halves: readonly Half[],
    sample: string,
    progress: HalfProgress,
  ): Promise<void> {
    const { stage, run, fullSteps } = this
    if (run.slots > 1) stage.write('cacheWeights', Float32Array.from(this.policy.weights(step)))
    const latest = fullSteps.length - 1
    // What was never written is never read: with one feature so far, it stands for the one before too.
    const slot = (age: number) => Math.max(0, latest - age) % run.slots
    for (const [half, { inputs, outputs }] of halves.entries()) {
      const caches = { cache0: cacheOf(half, slot(0)), cache1: cacheOf(half, slot(1)) }
      await stage.run('skipped', { inputs: { ...inputs, sample, ...caches }, outputs })
      progress(half)(this.commands, this.commands)
    }
  }

  /** Root mean squares of a tensor, and of its difference to what was kept. */
  private async gauge(now: string, before: string): Promise<{ size: number; change: number }> {
    const { stage } = this
    await stage.run('gauge', {
      inputs: { now, before },
      outputs: { size: 'gaugeSize', change: 'gaugeChange' },
    })
    const shape = stage.plan.state[now]!.shape
    const values =
      shape.reduce((a, b) => a * b, 1) / (gaugeShape(shape).reduce((a, b) => a * b, 1) / 2)
    return {
      size: rootMeanSquare(stage.read('gaugeSize'), values),
      change: rootMeanSquare(stage.read('gaugeChange'), values),
    }
  }

  private async keep(now: string, kept: string): Promise<void> {
    await this.stage.run('keep', { inputs: { now }, outputs: { kept } })
  }
}
