import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { OptionError } from '../errors.js'
import type { StageSpec, StateSpec } from '../planner/plan.js'
import { cast, type Program, program, tensorBytes } from '../program/index.js'
import { candidateFeatures } from '../rehash/feature.js'
import { gaugeProgram, gaugeShape } from '../rehash/gauge.js'
import { type MapDocument, readMap } from '../rehash/map-file.js'
import { parseRehash, type RehashWish } from '../rehash/options.js'
import { observedProgram, type Storage, storages } from '../rehash/programs.js'
import { type RehashRun, type Resolved, resolveRehash } from '../rehash/resolve.js'
import type { Shape } from './options.js'
import type { Staged } from './pipeline.js'

/** Rehash of a generation: what it does, and what it adds to the state of the stage `denoise`. */
export interface StagedRehash {
  readonly run: RehashRun
  readonly cacheBytes: number
}

/** State that keeps a half's feature: slots of a half are written in turn. */
export const cacheOf = (half: number, slot: number): string => `cache.${half}.${slot}`

/** Rehash and observed features as a shape asks for them. @throws OptionError, FileError */
export function withReuse(
  staged: Staged,
  halves: number,
  { rehash, observe }: Pick<Shape, 'rehash' | 'observe'>,
  folder: string,
): Staged {
  return withObserved(withRehash(staged, halves, rehash, folder), observe)
}

/**
 * Puts rehash into the stage `denoise`, which has the program `unet`, in whose place stands the one that writes the feature, and
 * besides the program `skipped`. Where the storage is left open and a budget cannot hold the cache, `narrower` says what to plan next:
 * a narrower storage, at last no rehash.
 * @param halves of a step: 2 with guidance
 * @param wish text or options; undefined: none
 * @param folder of the checkpoint, whose own similarity map is `rehash.json` in it
 * @throws OptionError, FileError
 */
export function withRehash(
  staged: Staged,
  halves: number,
  wish: RehashWish | undefined,
  folder: string,
): Staged {
  const options = parseRehash(wish)
  if (!options) return staged
  const denoise = staged.stages.find(({ name }) => name === 'denoise')!
  const map = options.map === undefined ? mapOf(folder) : readMap(options.map)
  const choices: readonly Storage[] = options.storage === undefined ? storages : [options.storage]
  return choices.reduceRight<Staged>((narrower, storage) => {
    const { programs, run } = resolveRehash(
      { ...options, storage },
      denoise.programs.unet!,
      staged.scheduler,
      map,
    )
    const stage = rehashStage(denoise, halves, { programs, run })
    const cacheBytes = bytesOf(stage.state) - bytesOf(denoise.state)
    return {
      ...staged,
      stages: staged.stages.map(other => (other === denoise ? stage : other)),
      rehash: { run, cacheBytes },
      narrower,
    }
  }, staged)
}

/** State that a feature is handed out from. */
export const observedState = (feature: string): string => `observed.${feature}`

/**
 * Makes the network in the stage `denoise` write features, each to a state of its own, besides its prediction.
 * @param features paths of their modules, `all` for every candidate; undefined: none
 * @throws OptionError for an unknown one, or beside rehash
 */
export function withObserved(staged: Staged, features: string | undefined): Staged {
  if (features === undefined) return staged
  if (staged.rehash)
    throw new OptionError('observe: expected no rehash, whose steps are not all computed, got both')
  const denoise = staged.stages.find(({ name }) => name === 'denoise')!
  const network = denoise.programs.unet!
  const names = features === 'all' ? candidateFeatures(network) : features.split(',')
  const unet = observedProgram(network, names)
  const state = Object.fromEntries(
    names.map(name => {
      const { shape, dtype } = unet.outputs[name]!
      return [observedState(name), { shape, dtype }] as const
    }),
  )
  const stage = {
    ...denoise,
    state: { ...denoise.state, ...state },
    programs: { ...denoise.programs, unet },
  }
  return { ...staged, stages: staged.stages.map(other => (other === denoise ? stage : other)) }
}

/** The checkpoint's own map, where it ships one. @throws FileError */
export function mapOf(folder: string): MapDocument | undefined {
  const path = join(folder, 'rehash.json')
  return existsSync(path) ? readMap(path) : undefined
}

function rehashStage(denoise: StageSpec, halves: number, { programs, run }: Resolved): StageSpec {
  const { full, skipped, cache } = programs
  const latents = denoise.state.latents!
  const caches = Array.from({ length: halves }, (_, half) =>
    Array.from({ length: run.slots }, (_, slot) => [cacheOf(half, slot), cache] as const),
  ).flat()
  const watched = run.at === undefined
  const fullSteps = run.at?.length ?? run.steps
  const skips = watched || fullSteps < run.steps
  return {
    ...denoise,
    state: {
      ...denoise.state,
      ...Object.fromEntries(caches),
      ...(run.slots > 1 && { cacheWeights: { shape: [run.slots], dtype: 'f32' } }),
      ...(watched && gaugeState(latents)),
    },
    programs: {
      ...denoise.programs,
      unet: full,
      ...(skips && { skipped }),
      ...(watched && { gauge: gaugeProgram(latents.shape), keep: keepProgram(latents.shape) }),
    },
    runs: {
      ...denoise.runs,
      unet: fullSteps * halves,
      skipped: (run.steps - fullSteps) * halves,
      ...(watched && { gauge: 2 * run.steps - 2, keep: 2 * run.steps }),
    },
  }
}

/** What a policy that watches needs: the sample and the prediction as they were, and partial sums. */
function gaugeState(latents: StateSpec): Record<string, StateSpec> {
  const sums = { shape: gaugeShape(latents.shape), dtype: 'f32' } as const
  return { sampleBefore: latents, predictionBefore: latents, gaugeSize: sums, gaugeChange: sums }
}

function keepProgram(shape: readonly number[]): Program {
  return program('keep', trace => ({ kept: cast(trace.input('now', shape), 'f32') }))
}

function bytesOf(state: StageSpec['state']): number {
  return Object.values(state).reduce((sum, spec) => sum + tensorBytes(spec), 0)
}
