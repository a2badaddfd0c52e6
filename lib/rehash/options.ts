import { OptionError } from '../errors.js'
import { type Storage, storages } from './programs.js'

/** How a run decides which steps are full: see lib/rehash/policies. */
export const policyNames = ['paper', 'every-n', 'forecast', 'threshold'] as const
export type PolicyName = (typeof policyNames)[number]

/** Reuse of features between denoising steps, as a user asks for it. */
export interface RehashOptions {
  /**
   * `paper`: a list from a similarity map; `every-n`: evenly spread; `forecast`: a list, with the feature forecast between; `threshold`:
   * decided while it runs. Default: `threshold` where one is given, else `forecast`.
   */
  policy?: PolicyName
  /** How many steps run in full. */
  fullSteps?: number
  /** Which steps run in full, from 0. */
  at?: readonly number[]
  /** Error at which a step runs in full, with the policy `threshold`: 0.05 is careful, 0.2 is bold. */
  threshold?: number
  /** How many times faster denoising shall be, by operations: the most full steps that reach it. */
  speedup?: number
  /** Path of the module whose output is kept. Default: `conv_out`, the prediction. */
  feature?: string
  /** How the feature is stored. Default: `f32`, and narrower where the budget asks. */
  storage?: Storage
  /** File of a similarity map, of `sluice rehash measure`, that lists are made from. */
  map?: string
}

/** Options with their policy. */
export type CheckedOptions = RehashOptions & { readonly policy: PolicyName }

/** What may stand for the options: their text (see parseRehash), or false for none. */
export type RehashWish = RehashOptions | string | false

const amounts = ['fullSteps', 'at', 'threshold', 'speedup'] as const

/**
 * Reads the command line's form: `POLICY[:COUNT][,KEY=VALUE]…`, `COUNT`, `KEY=VALUE[,…]` or `off`. Keys are `full`, `at` (steps with `/`
 * between), `threshold`, `speedup`, `feature`, `storage` and `map`. Examples: `13`, `paper:13`, `threshold=0.08`, `forecast,speedup=2`,
 * `every-n:9,feature=up_blocks.2.motion_modules.1,storage=f16`, `paper,at=0/1/4/9/24`.
 * @returns undefined for no rehash
 * @throws OptionError
 */
export function parseRehash(wish: RehashWish | undefined): CheckedOptions | undefined {
  if (wish === undefined || wish === false) return undefined
  if (typeof wish === 'object' && wish !== null) return checked(wish)
  if (typeof wish !== 'string')
    throw new OptionError(`rehash: expected options, a text or false, got ${typeof wish}`)
  const parts = wish.split(',').map(part => part.trim())
  if (parts.length === 1 && parts[0] === 'off') return undefined
  const options: Record<string, unknown> = {}
  for (const [i, part] of parts.entries()) {
    const [key, value] = split(part, '=')
    if (value === undefined) {
      if (i > 0) throw unknown(part)
      Object.assign(options, head(part))
      continue
    }
    const name = key === 'full' ? 'fullSteps' : key
    if (Object.hasOwn(options, name))
      throw new OptionError(`rehash: expected ${key} once, got it twice`)
    options[name] = readValue(key, value)
  }
  return checked(options as RehashOptions)
}

/** `13`, `paper`, `paper:13`, `threshold:0.08`. */
function head(part: string): RehashOptions {
  if (/^\d+$/.test(part)) return { fullSteps: Number(part) }
  const [name, amount] = split(part, ':')
  const policy = policyNames.find(known => known === name)
  if (!policy) throw unknown(part)
  if (amount === undefined) return { policy }
  const key = policy === 'threshold' ? 'threshold' : 'fullSteps'
  return { policy, [key]: numberOf(key, amount) }
}

function split(text: string, by: string): [string, string | undefined] {
  const at = text.indexOf(by)
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)]
}

function readValue(key: string, text: string): unknown {
  switch (key) {
    case 'full':
    case 'threshold':
    case 'speedup':
      return numberOf(key, text)
    case 'at':
      return text.split('/').map(step => numberOf(key, step))
    case 'policy':
    case 'feature':
    case 'storage':
    case 'map':
      return text
    default:
      throw unknown(`${key}=${text}`)
  }
}

function numberOf(key: string, text: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text)
  if (!Number.isFinite(value))
    throw new OptionError(`rehash ${key}: expected a number, got ${text}`)
  return value
}

function unknown(got: string): OptionError {
  return new OptionError(
    `rehash: expected ${policyNames.join(', ')}, a number of full steps, off, or full, at, threshold, speedup, feature, storage or map ` +
      `with a value, got ${got}; such as paper:13 or threshold=0.08`,
  )
}

/** The options with their policy, and what excludes each other refused. */
function checked(options: RehashOptions): CheckedOptions {
  for (const key of Object.keys(options)) {
    if (![...amounts, 'policy', 'feature', 'storage', 'map'].includes(key)) throw unknown(key)
  }
  const policy = options.policy ?? (options.threshold === undefined ? 'forecast' : 'threshold')
  const refuse = (name: string, expected: string, got: unknown) => {
    throw new OptionError(`rehash ${name}: expected ${expected}, got ${got}`)
  }
  if (!policyNames.includes(policy)) refuse('policy', policyNames.join(', '), policy)
  const given = amounts.filter(name => options[name] !== undefined)
  if (given.length > 1) refuse('options', `one of ${amounts.join(', ')}`, given.join(' and '))
  if (policy === 'threshold' && given[0] !== 'threshold')
    refuse('threshold', 'a threshold with the policy threshold', given[0] ?? 'none')
  if (policy !== 'threshold' && given[0] === 'threshold')
    refuse('policy', 'threshold where a threshold is given', policy)
  const { threshold, speedup, fullSteps, at, storage, feature, map } = options
  if (threshold !== undefined && !(threshold >= 0 && Number.isFinite(threshold)))
    refuse('threshold', 'a number of at least 0', threshold)
  if (speedup !== undefined && !(speedup >= 1 && Number.isFinite(speedup)))
    refuse('speedup', 'a number of at least 1', speedup)
  if (fullSteps !== undefined && !(Number.isSafeInteger(fullSteps) && fullSteps >= 1))
    refuse('fullSteps', 'an integer of at least 1', fullSteps)
  if (at !== undefined && !isRising(at))
    refuse('at', 'steps in rising order, the first 0', Array.isArray(at) ? at.join('/') : at)
  if (storage !== undefined && !storages.includes(storage))
    refuse('storage', storages.join(', '), storage)
  for (const [name, value] of Object.entries({ feature, map })) {
    if (value !== undefined && (typeof value !== 'string' || value === ''))
      refuse(name, 'a name', value)
  }
  return { ...options, policy }
}

function isRising(at: unknown): boolean {
  return (
    Array.isArray(at) &&
    at[0] === 0 &&
    at.every((step, i) => Number.isSafeInteger(step) && (i === 0 || step > at[i - 1]))
  )
}

/** The one text that stands for the options: `parseRehash` reads it back. */
export function formatRehash(options: RehashOptions | undefined): string {
  if (!options) return 'off'
  const { policy, fullSteps, at, threshold, speedup, feature, storage, map } = checked(options)
  const keys = { full: fullSteps, at: at?.join('/'), threshold, speedup, feature, storage, map }
  const pairs = Object.entries(keys).filter(([, value]) => value !== undefined)
  return [policy, ...pairs.map(([key, value]) => `${key}=${value}`)].join(',')
}
