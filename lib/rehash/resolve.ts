import { OptionError } from '../errors.js'
import type { Program } from '../program/graph.js'
import type { Scheduler } from '../schedulers/index.js'
import { flopsOf, predictionFeature } from './feature.js'
import type { MapDocument } from './map-file.js'
import type { CheckedOptions, PolicyName, RehashOptions } from './options.js'
import { forecast } from './policies/forecast.js'
import { listed } from './policies/listed.js'
import type { Policy } from './policies/policy.js'
import { threshold } from './policies/threshold.js'
import { type RehashPrograms, rehashPrograms, type Storage } from './programs.js'
import { checkCount, evenSteps, ruledSteps, scheduleOf, spreadSteps } from './schedule.js'

/** What a run will do: every choice made. */
export interface RehashRun {
  readonly policy: PolicyName
  readonly steps: number
  /** The full steps; undefined: the policy decides while it runs. */
  readonly at?: readonly number[]
  readonly threshold?: number
  readonly feature: string
  readonly storage: Storage
  readonly slots: 1 | 2
  /** Operations of a skipped step over those of a full one. */
  readonly skippedShare: number
}

export interface Resolved {
  readonly run: RehashRun
  readonly programs: RehashPrograms
}

/** Full steps of a run that is asked for none in particular: the paper's 13 of 25. */
const usualShare = 13 / 25

/**
 * Makes every choice that the options leave open.
 * @param unet the network, traced
 * @param map the checkpoint's own similarity map, where it has one
 * @throws OptionError
 */
export function resolveRehash(
  options: CheckedOptions,
  unet: Program,
  scheduler: Pick<Scheduler, 'name' | 'timesteps'>,
  map?: MapDocument,
): Resolved {
  const { policy, feature = predictionFeature, storage = 'f32' } = options
  const slots = policy === 'forecast' ? 2 : 1
  const programs = rehashPrograms(unet, { feature, storage, slots })
  const skippedShare = flopsOf(programs.skipped) / flopsOf(programs.full)
  const steps = scheduler.timesteps.length
  const common = { policy, steps, feature, storage, slots, skippedShare } as const
  if (policy === 'threshold') return { run: { ...common, threshold: options.threshold! }, programs }
  const at = options.at
    ? checkedSteps(options.at, steps)
    : listOf(policy, countOf(options, steps, skippedShare), feature, scheduler, map)
  return { run: { ...common, at }, programs }
}

/** A policy for one run. */
export function policyOf({ policy, at, threshold: limit }: RehashRun): Policy {
  if (policy === 'threshold') return threshold(limit!)
  return policy === 'forecast' ? forecast(at!) : listed(at!)
}

/** The options that stand for these choices, and resolve to them again. */
export function fixedOptions(run: RehashRun): RehashOptions {
  const { policy, at, threshold: limit, feature, storage } = run
  return { policy, feature, storage, ...(at ? { at } : { threshold: limit! }) }
}

function countOf(options: RehashOptions, steps: number, skippedShare: number): number {
  const { fullSteps, speedup } = options
  if (fullSteps !== undefined) return fullSteps
  if (speedup === undefined) return Math.max(Math.min(2, steps), Math.round(steps * usualShare))
  // steps / speedup = full + (steps - full) share
  const count = Math.floor((steps / speedup - steps * skippedShare) / (1 - skippedShare) + 1e-9)
  const least = Math.min(2, steps)
  if (count >= least) return Math.min(count, steps)
  const most = steps / (least + (steps - least) * skippedShare)
  throw new OptionError(
    `rehash speedup: expected at most ${most.toFixed(2)} with ${steps} steps, got ${speedup}; ask for less, or for more steps`,
  )
}

function listOf(
  policy: PolicyName,
  count: number,
  feature: string,
  scheduler: Pick<Scheduler, 'name' | 'timesteps'>,
  map: MapDocument | undefined,
): number[] {
  const steps = scheduler.timesteps.length
  checkCount(count, steps)
  if (policy === 'every-n') return evenSteps(steps, count)
  // Lines through unevenly placed points go further astray than the map's shape is worth: see bench/results/rehash.md.
  if (policy === 'forecast') return spreadSteps(steps, count)
  const similarity = map && fits(map, scheduler) ? map.features[feature]?.cosine : undefined
  return similarity ? scheduleOf(similarity, count).full : ruledSteps(steps, count)
}

/** Whether a map was measured under this scheduler, with these time steps. */
function fits(map: MapDocument, scheduler: Pick<Scheduler, 'name' | 'timesteps'>): boolean {
  return (
    map.scheduler === scheduler.name &&
    map.timesteps.length === scheduler.timesteps.length &&
    map.timesteps.every((t, i) => Math.abs(t - scheduler.timesteps[i]!) <= 1e-3 * (1 + Math.abs(t)))
  )
}

function checkedSteps(at: readonly number[], steps: number): readonly number[] {
  const last = at[at.length - 1]!
  if (last < steps) return at
  throw new OptionError(`rehash at: expected steps below ${steps}, got ${last}`)
}
