import { meanMap, type SimilarityMap, sampleValues, similarityOf } from './similarity.js'

/** Collects the features of runs, step by step, and makes their mean maps. Holds samples of one run at a time. */
export class MapRecorder {
  private run = new Map<string, Float32Array[]>()
  private readonly maps = new Map<string, SimilarityMap[]>()

  /** A feature's values at the next step of the run. */
  readonly record = (feature: string, values: Float32Array): void => {
    const steps = this.run.get(feature)
    if (steps) steps.push(sampleValues(values))
    else this.run.set(feature, [sampleValues(values)])
  }

  /** Ends a run: only its maps are kept. */
  endRun(): void {
    for (const [feature, steps] of this.run) {
      const map = similarityOf(steps)
      this.maps.set(feature, [...(this.maps.get(feature) ?? []), map])
    }
    this.run = new Map()
  }

  /** The mean map of each feature. @throws OptionError where runs had different numbers of steps */
  means(): Record<string, SimilarityMap> {
    return Object.fromEntries([...this.maps].map(([feature, maps]) => [feature, meanMap(maps)]))
  }
}
