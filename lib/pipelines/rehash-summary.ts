import { type StagePlan, secondsOf } from '../planner/plan.js'
import type { Storage } from '../rehash/programs.js'
import { formatBytes } from '../units.js'
import type { StagedRehash } from './rehash-stage.js'

/** Rehash as tables and JSON show it. */
export interface RehashSummary {
  policy: string
  steps: number
  /** The full steps; absent: the policy decides while it runs. */
  fullSteps?: readonly number[]
  /** Path of the module whose output is kept; absent: rehash is off, as the note says. */
  feature?: string
  storage?: Storage
  /** Bytes that it adds to the state of the stage `denoise`. */
  cacheBytes: number
  /** Predicted time of a skipped step over that of a full one, without the scheduler's. */
  skippedShare: number
  /** Predicted time of denoising without rehash over that with it; 1 where the policy decides. */
  speedup: number
  /** Where the budget changed what was asked. */
  note?: string
}

/** @param got what was planned; undefined: the budget held no cache */
export function rehashSummary(
  asked: StagedRehash,
  got: StagedRehash | undefined,
  plans: readonly StagePlan[],
): RehashSummary {
  const { policy, steps } = asked.run
  if (!got)
    return {
      policy,
      steps,
      cacheBytes: 0,
      skippedShare: 1,
      speedup: 1,
      note: `off: the budget cannot hold its cache of ${formatBytes(asked.cacheBytes)}, nor a narrower one`,
    }
  const denoise = plans.find(({ name }) => name === 'denoise')!
  const { programs } = denoise
  const full = programs.unet!.work.seconds
  const skipped = programs.skipped?.work.seconds ?? full
  const { at, feature, storage } = got.run
  const total = secondsOf(denoise)
  // A skipped step in place of a full one saves the difference, in each half.
  const saved = (programs.skipped?.runs ?? 0) * (full - skipped)
  return {
    policy,
    steps,
    ...(at && { fullSteps: at }),
    feature,
    storage,
    cacheBytes: got.cacheBytes,
    skippedShare: skipped / full,
    speedup: (total + saved) / total,
    ...(storage !== asked.run.storage && {
      note: `kept as ${storage}: the budget cannot hold ${asked.run.storage}`,
    }),
  }
}

/** One line for terminals. */
export function describeRehash(summary: RehashSummary): string {
  const { policy, steps, fullSteps, feature, storage, cacheBytes, speedup, note } = summary
  if (feature === undefined) return `rehash ${policy}: ${note}`
  const amount = fullSteps
    ? `${fullSteps.length} of ${steps} steps in full, predicted ${speedup.toFixed(2)} x as fast`
    : `full steps decided as it runs; times are those without`
  const cache = `${feature} kept as ${storage} in ${formatBytes(cacheBytes)} of the arena`
  return [`rehash ${policy}: ${amount}; ${cache}`, ...(note ? [note] : [])].join('; ')
}
