import { readFileSync } from 'node:fs'
import { OptionError, PlanError } from '../errors.js'
import { asFileError } from '../io/atomic.js'
import type { PlanOptions as StageOptions, StagePlan, StageSpec } from '../planner/plan.js'
import { decodeStage, openDocument, type PlanDocument } from '../planner/plan-file.js'
import type { RehashSummary } from './rehash-summary.js'

/** A pipeline's plan as data: what `PipelinePlan.toJSON` gives and a saved file holds. */
export interface PipelineDocument extends PlanDocument {
  readonly peakBytes: number
  readonly budget?: number
  /** Sizes, steps, device and threads that it was made for. */
  readonly options: Readonly<Record<string, number | string | boolean | undefined>>
  readonly rehash?: RehashSummary
  /** Where its times come from. */
  readonly cost: string
}

/** Reads a saved plan and checks that the file is whole. @throws FileError, PlanError */
export function readPlan(path: string): PipelineDocument {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw asFileError(error, path, 'read')
  }
  return openDocument(text, path) as unknown as PipelineDocument
}

/** The stages of a document, for those traced anew. @throws PlanError */
export function decodeStages(
  { stages }: PlanDocument,
  specs: readonly StageSpec[],
  options: StageOptions,
): StagePlan[] {
  if (!Array.isArray(stages) || stages.length !== specs.length) {
    const names = specs.map(({ name }) => name).join(', ')
    throw new PlanError(`plan: expected stages ${names}, got others; make the plan again`)
  }
  return specs.map((spec, i) => decodeStage(stages[i]!, spec, options))
}

interface Planned {
  /** Fields of the pipeline's shape, by name. */
  shape: Record<string, unknown>
  device?: string
  threads?: number
}

/**
 * The options that a plan was made for.
 * @param names of the fields of the pipeline's shape
 * @throws OptionError for a given one that contradicts it
 */
export function planned(
  { options }: Pick<PipelineDocument, 'options'>,
  given: object,
  names: readonly string[],
): Planned {
  const known = (options ?? {}) as Readonly<Record<string, unknown>>
  const shape = Object.fromEntries(names.map(name => [name, known[name]]))
  // Sliced as planned, whatever is asked for beside it: it could not be kept.
  for (const [name, expected] of Object.entries({
    ...shape,
    slices: undefined,
    recompute: undefined,
    streaming: undefined,
    spill: undefined,
  })) {
    const got = (given as Record<string, unknown>)[name]
    if (got !== undefined && got !== expected)
      throw new OptionError(
        `${name}: expected ${expected ?? 'nothing'} as in the plan, got ${got}; leave it out, or plan for it`,
      )
  }
  const { device, threads } = known as Pick<Planned, 'device' | 'threads'>
  return { shape, device, threads }
}
