import { OptionError } from '../errors.js'
import { createDdim } from './ddim.js'
import { createEuler, createEulerAncestral } from './euler.js'
import type { Scheduler, SchedulerConfig } from './scheduler.js'

export type { Scheduler, SchedulerConfig, SchedulerStep } from './scheduler.js'

type Create = (config: SchedulerConfig, steps: number) => Scheduler

/** Each solver under its short name and diffusers' class name. */
const solvers: readonly { name: string; className: string; create: Create }[] = [
  { name: 'ddim', className: 'DDIMScheduler', create: createDdim },
  { name: 'euler', className: 'EulerDiscreteScheduler', create: createEuler },
  {
    name: 'euler-ancestral',
    className: 'EulerAncestralDiscreteScheduler',
    create: createEulerAncestral,
  },
]

/** Names for `--scheduler`. */
export const schedulerNames: readonly string[] = solvers.map(solver => solver.name)

/** What a caller sets over the checkpoint's config: the solver by `name`, and any key of `scheduler_config.json`. */
export interface SchedulerOverride {
  name?: string
  [key: string]: unknown
}

/**
 * A scheduler for `steps` steps from a checkpoint's `scheduler_config.json`. Another solver asked for by name keeps the
 * checkpoint's values, and takes its own defaults for the rest (diffusers' `from_config`).
 * @throws OptionError for an unknown class or name, a wrong value, steps out of range.
 */
export function createScheduler(
  config: SchedulerConfig,
  steps: number,
  override: SchedulerOverride = {},
): Scheduler {
  const { name, ...keys } = override
  const asked = name ?? config._class_name
  const solver = solvers.find(s => s.name === asked || s.className === asked)
  if (!solver) {
    const known = solvers.map(s => `${s.name} (${s.className})`).join(', ')
    throw new OptionError(
      `scheduler: expected one of ${known}, got ${JSON.stringify(asked)}; name one with the scheduler option`,
    )
  }
  const kept = solver.className === config._class_name ? config : withoutDefaults(config)
  return solver.create({ ...kept, ...keys }, steps)
}

/** A config in memory lists the keys that were the first class's defaults: they do not carry over to another class. */
function withoutDefaults(config: SchedulerConfig): SchedulerConfig {
  const defaults = config._use_default_values
  if (!Array.isArray(defaults)) return config
  return Object.fromEntries(Object.entries(config).filter(([key]) => !defaults.includes(key)))
}
