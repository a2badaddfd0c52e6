import { OptionError } from '../errors.js'
import { createDdim } from './ddim.js'
import { createDpmMultistep } from './dpm-multistep.js'
import { createEuler, createEulerAncestral } from './euler.js'
import { createLcm } from './lcm.js'
import { createPndm } from './pndm.js'
import type { Scheduler, SchedulerConfig } from './scheduler.js'
import { sigmaKinds } from './sigmas.js'
import { spacings } from './spacing.js'

export type { Scheduler, SchedulerConfig, SchedulerStep } from './scheduler.js'

interface Solver {
  /** For `--scheduler`. */
  readonly name: string
  /** diffusers' class. */
  readonly className: string
  readonly create: (config: SchedulerConfig, steps: number) => Scheduler
  /** Whether its time steps follow `timestep_spacing`. */
  readonly spaced: boolean
  /** Whether it has Karras sigmas. */
  readonly karras: boolean
}

const solvers: readonly Solver[] = [
  {
    name: 'ddim',
    className: 'DDIMScheduler',
    create: createDdim,
    spaced: true,
    karras: false,
  },
  {
    name: 'euler',
    className: 'EulerDiscreteScheduler',
    create: createEuler,
    spaced: true,
    karras: true,
  },
  {
    name: 'euler-ancestral',
    className: 'EulerAncestralDiscreteScheduler',
    create: createEulerAncestral,
    spaced: true,
    karras: false,
  },
  {
    name: 'dpmpp-2m',
    className: 'DPMSolverMultistepScheduler',
    create: createDpmMultistep,
    spaced: true,
    karras: true,
  },
  {
    name: 'lcm',
    className: 'LCMScheduler',
    create: createLcm,
    spaced: false,
    karras: false,
  },
  {
    name: 'pndm',
    className: 'PNDMScheduler',
    create: createPndm,
    spaced: true,
    karras: false,
  },
]

/** Names for `--scheduler`. */
export const schedulerNames: readonly string[] = solvers.map(solver => solver.name)

/** Names for `--spacing`. */
export const spacingNames: readonly string[] = spacings

/** What a caller sets over the checkpoint's config: the solver by `name`, and any key of `scheduler_config.json`. */
export interface SchedulerOverride {
  name?: string
  /** `timestep_spacing`: leading, linspace, trailing. */
  spacing?: string
  /** Karras sigmas instead of what the config says, or without them. */
  karras?: boolean
  [key: string]: unknown
}

/**
 * A scheduler for `steps` steps from a checkpoint's `scheduler_config.json`. Another solver asked for by name keeps the
 * checkpoint's values, and takes its own defaults for the rest (diffusers' `from_config`).
 * @throws OptionError for an unknown class or name, a wrong value, what the solver does not have, steps out of range.
 */
export function createScheduler(
  config: SchedulerConfig,
  steps: number,
  override: SchedulerOverride = {},
): Scheduler {
  const { name, spacing, karras, ...keys } = override
  const asked = name ?? config._class_name
  const solver = solvers.find(s => s.name === asked || s.className === asked)
  if (!solver) {
    const known = solvers.map(s => `${s.name} (${s.className})`).join(', ')
    throw new OptionError(
      `scheduler: expected one of ${known}, got ${JSON.stringify(asked)}; name one with the scheduler option`,
    )
  }
  const kept = solver.className === config._class_name ? config : withoutDefaults(config)
  const spaced = spacingKeys(solver, spacing)
  const scheduler = solver.create(
    { ...kept, ...spaced, ...karrasKeys(solver, karras), ...keys },
    steps,
  )
  checkFinite(scheduler, steps)
  return scheduler
}

function spacingKeys(solver: Solver, spacing: string | undefined): SchedulerConfig {
  if (spacing === undefined) return {}
  if (!spacingNames.includes(spacing))
    throw new OptionError(
      `spacing: expected one of ${spacingNames.join(', ')}, got ${JSON.stringify(spacing)}; name one of these`,
    )
  if (!solver.spaced)
    throw new OptionError(
      `spacing: expected none with ${solver.name}, which has time steps of its own, got ${spacing}; leave it out, or choose another scheduler`,
    )
  return { timestep_spacing: spacing }
}

function karrasKeys(solver: Solver, karras: boolean | undefined): SchedulerConfig {
  if (karras === undefined) return {}
  if (typeof karras !== 'boolean')
    throw new OptionError(`karras: expected true or false, got ${JSON.stringify(karras)}`)
  if (!solver.karras && karras) {
    const able = solvers.filter(s => s.karras).map(s => s.name)
    throw new OptionError(
      `karras: expected one of the schedulers ${able.join(', ')}, got ${solver.name}; choose one, or leave karras out`,
    )
  }
  // Asked for, it takes the place of what else the config has; not wanted, the others stay.
  const others = karras ? sigmaKinds.map(kind => [kind, false]) : []
  return { ...Object.fromEntries(others), use_karras_sigmas: karras }
}

/** Steps so many that two fall on one time step divide by zero in some solvers. */
function checkFinite(scheduler: Scheduler, steps: number): void {
  scheduler.timesteps.forEach((t, i) => {
    const { convert, sample, predictions, noise } = scheduler.step(i)
    const all = [t, scheduler.inputScale(i), convert.sample, convert.output, sample, noise]
    if ([...all, ...predictions].every(Number.isFinite)) return
    throw new OptionError(
      `steps: expected finite coefficients of ${scheduler.name} at time step ${t}, got ${[sample, ...predictions, noise].join(', ')} with ${steps} steps; ask for fewer steps`,
    )
  })
}

/** A config in memory lists the keys that were the first class's defaults: they do not carry over to another class. */
function withoutDefaults(config: SchedulerConfig): SchedulerConfig {
  const defaults = config._use_default_values
  if (!Array.isArray(defaults)) return config
  return Object.fromEntries(Object.entries(config).filter(([key]) => !defaults.includes(key)))
}
