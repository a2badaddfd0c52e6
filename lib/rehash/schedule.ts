import { OptionError } from '../errors.js'

/** A similarity between steps, [i][j], or a function that gives it. */
export type Similarity = readonly (readonly number[])[]

/**
 * The steps that run in full, by the paper's algorithm 1: step 0; walking on from the last full step j, step i is skipped while
 * S[i][j] >= gamma, else it is full and the walk goes on from it; the last step always.
 * @throws OptionError unless the map is square
 */
export function fullStepsOf(similarity: Similarity, gamma: number): number[] {
  const steps = checkSquare(similarity)
  const full = [0]
  for (let i = 1; i < steps; i++) {
    const last = full[full.length - 1]!
    if (i === steps - 1 || !(similarity[i]![last]! >= gamma)) full.push(i)
  }
  return full
}

export interface Schedule {
  readonly gamma: number
  readonly full: number[]
}

/**
 * Exactly `count` full steps: the lowest gamma of the map that gives as many; where its counts jump over the number, the nearest one
 * below, and then the steps that are least like the full step before them.
 * @throws OptionError for a count that is no integer from 1 to the number of steps, or 1 where there are more steps
 */
export function scheduleOf(similarity: Similarity, count: number): Schedule {
  const steps = checkSquare(similarity)
  checkCount(count, steps)
  // Between two neighbouring values of the map every gamma gives the same list.
  const values = similarity.flatMap((row, i) => row.slice(0, i))
  const gammas = [...new Set(values)].sort((a, b) => a - b)
  let best: Schedule = {
    gamma: Number.NEGATIVE_INFINITY,
    full: fullStepsOf(similarity, Number.NEGATIVE_INFINITY),
  }
  for (const gamma of [...gammas, Number.POSITIVE_INFINITY]) {
    const full = fullStepsOf(similarity, gamma)
    if (full.length <= count && full.length > best.full.length) best = { gamma, full }
    if (best.full.length === count) return best
  }
  const full = [...best.full]
  while (full.length < count) {
    const next = leastLike(similarity, full)
    full.push(next)
    full.sort((a, b) => a - b)
  }
  return { gamma: best.gamma, full }
}

/** The step between full ones that is least like the full step before it. */
function leastLike(similarity: Similarity, full: readonly number[]): number {
  let found = -1
  let least = Number.POSITIVE_INFINITY
  for (let i = 1, last = 0; i < similarity.length; i++) {
    if (full.includes(i)) last = i
    else if (similarity[i]![last]! < least || found < 0) {
      found = i
      least = similarity[i]![last]!
    }
  }
  return found
}

/** Every `steps / count`-th step: multiples of one interval where there is one that gives the count (DeepCache), else spread evenly. */
export function evenSteps(steps: number, count: number): number[] {
  const interval = Math.ceil(steps / count)
  const regular = Math.ceil(steps / interval) === count
  return Array.from({ length: count }, (_, k) =>
    regular ? k * interval : Math.ceil((k * steps) / count),
  )
}

/** Evenly from the first step to the last, both full. */
export function spreadSteps(steps: number, count: number): number[] {
  return denser(steps, count, 1)
}

/**
 * Where no map was measured for a checkpoint: from the first step to the last, denser towards the end, as the paper reports of Stable
 * Video Diffusion (its early steps are alike, its late ones are not) and as the embedded checkpoint's map is.
 */
export function ruledSteps(steps: number, count: number): number[] {
  return denser(steps, count, 1.2)
}

/** Step (steps - 1) · (1 - (1 - k / (count - 1))^power), each at least one after the one before. */
function denser(steps: number, count: number, power: number): number[] {
  if (count === 1) return [0]
  const full: number[] = []
  for (let k = 0; k < count; k++) {
    const wanted = Math.round((steps - 1) * (1 - (1 - k / (count - 1)) ** power))
    const least = k === 0 ? 0 : full[k - 1]! + 1
    full.push(Math.min(Math.max(wanted, least), steps - count + k))
  }
  return full
}

/** @throws OptionError */
export function checkCount(count: number, steps: number): void {
  const least = steps > 1 ? 2 : 1
  if (!Number.isSafeInteger(count) || count < least || count > steps)
    throw new OptionError(
      `rehash: expected ${least} to ${steps} full steps of ${steps}, as the first and the last are always full, got ${count}`,
    )
}

function checkSquare(similarity: Similarity): number {
  const steps = similarity.length
  if (steps < 1 || similarity.some(row => row.length !== steps))
    throw new OptionError('similarity map: expected a row and a column for each step, got others')
  return steps
}
