import { OptionError } from '../errors.js'

/** How alike a feature is at two steps, for every pair: [i][j], step i against step j. */
export interface SimilarityMap {
  /** Cosine of the angle between the two as vectors; symmetric, 1 on the diagonal. */
  readonly cosine: readonly (readonly number[])[]
  /** Sum of |a_i - a_j| over the sum of |a_j|. */
  readonly relativeL1: readonly (readonly number[])[]
}

/** Values of a feature at most that are compared; of larger ones as many at equal distances. */
export const sampledValues = 1 << 16

/** At most `most` values of a feature, at equal distances. */
export function sampleValues(values: Float32Array, most = sampledValues): Float32Array {
  if (values.length <= most) return values
  return Float32Array.from(
    { length: most },
    (_, i) => values[Math.floor((i * values.length) / most)]!,
  )
}

/** The map of one run. @param steps the feature at each step, of one length */
export function similarityOf(steps: readonly Float32Array[]): SimilarityMap {
  const norms = steps.map(values => Math.sqrt(sum(values, x => x * x)))
  const sizes = steps.map(values => sum(values, Math.abs))
  const cosine = square(steps.length, () => 1)
  const relativeL1 = square(steps.length, () => 0)
  for (let i = 0; i < steps.length; i++) {
    for (let j = 0; j < i; j++) {
      const [dot, distance] = compare(steps[i]!, steps[j]!)
      const angle = dot / (norms[i]! * norms[j]! || 1)
      cosine[i]![j] = angle
      cosine[j]![i] = angle
      relativeL1[i]![j] = distance / (sizes[j]! || 1)
      relativeL1[j]![i] = distance / (sizes[i]! || 1)
    }
  }
  return { cosine, relativeL1 }
}

/** The mean of maps of as many steps each. @throws OptionError for none, or different numbers of steps */
export function meanMap(maps: readonly SimilarityMap[]): SimilarityMap {
  const first = maps[0]
  const steps = first?.cosine.length
  if (!first || maps.some(({ cosine }) => cosine.length !== steps))
    throw new OptionError(
      `similarity: expected maps of one number of steps, got ${maps.map(({ cosine }) => cosine.length).join(', ') || 'none'}`,
    )
  const mean = (of: (map: SimilarityMap) => readonly (readonly number[])[]) =>
    square(
      first.cosine.length,
      (i, j) => maps.reduce((total, map) => total + of(map)[i]![j]!, 0) / maps.length,
    )
  return { cosine: mean(map => map.cosine), relativeL1: mean(map => map.relativeL1) }
}

function compare(a: Float32Array, b: Float32Array): [dot: number, distance: number] {
  let dot = 0
  let distance = 0
  for (let i = 0; i < a.length; i++) {
    dot += a[i]! * b[i]!
    distance += Math.abs(a[i]! - b[i]!)
  }
  return [dot, distance]
}

function sum(values: Float32Array, of: (x: number) => number): number {
  let total = 0
  for (let i = 0; i < values.length; i++) total += of(values[i]!)
  return total
}

function square(size: number, value: (i: number, j: number) => number): number[][] {
  return Array.from({ length: size }, (_, i) => Array.from({ length: size }, (_, j) => value(i, j)))
}
