import { OptionError } from '../errors.js'

export const spacings = ['leading', 'linspace', 'trailing'] as const
export type Spacing = (typeof spacings)[number]

/**
 * Time steps in falling order, float64. `linspace` is not rounded here: DDIM rounds, Euler interpolates.
 * @throws OptionError when steps is no integer in 1..trainSteps.
 */
export function spacedTimesteps(
  spacing: Spacing,
  steps: number,
  trainSteps: number,
  offset: number,
): Float64Array {
  checkSteps(steps, 1, trainSteps)
  const times = new Float64Array(steps)
  switch (spacing) {
    case 'leading': {
      const ratio = Math.floor(trainSteps / steps)
      for (let i = 0; i < steps; i++) times[i] = (steps - 1 - i) * ratio + offset
      break
    }
    case 'linspace': {
      const ratio = (trainSteps - 1) / (steps - 1)
      for (let i = 0; i < steps; i++)
        times[i] = i === 0 && steps > 1 ? trainSteps - 1 : steps > 1 ? (steps - 1 - i) * ratio : 0
      break
    }
    case 'trailing': {
      // numpy.arange adds multiples of (start - ratio) - start, which is not exactly -ratio: it decides ties of the rounding.
      const delta = trainSteps - trainSteps / steps - trainSteps
      for (let i = 0; i < steps; i++) times[i] = roundHalfEven(trainSteps + i * delta) - 1
      break
    }
  }
  return times
}

/** @throws OptionError when steps is no integer in least..most; `why` tells where the bound comes from. */
export function checkSteps(steps: number, least: number, most: number, why = ''): void {
  if (Number.isSafeInteger(steps) && steps >= least && steps <= most) return
  throw new OptionError(`steps: expected an integer from ${least} to ${most}${why}, got ${steps}`)
}

export function roundHalfEven(x: number): number {
  const low = Math.floor(x)
  const rest = x - low
  if (rest !== 0.5) return Math.round(x)
  return low % 2 === 0 ? low : low + 1
}
