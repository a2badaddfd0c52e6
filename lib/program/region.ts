/** A region: start (inclusive) and stop (exclusive) for each axis of a tensor. */
export type Region = readonly (readonly [start: number, stop: number])[]

export function wholeRegion(shape: readonly number[]): Region {
  return shape.map(extent => [0, extent] as const)
}

export function regionShape(region: Region): number[] {
  return region.map(([start, stop]) => stop - start)
}

export function regionVolume(region: Region): number {
  return region.reduce((volume, [start, stop]) => volume * Math.max(0, stop - start), 1)
}

export function isEmpty(region: Region): boolean {
  return region.some(([start, stop]) => stop <= start)
}

export function sameRegion(a: Region, b: Region): boolean {
  return (
    a.length === b.length &&
    a.every(([start, stop], axis) => start === b[axis]![0] && stop === b[axis]![1])
  )
}

export function intersect(a: Region, b: Region): Region {
  return a.map(
    ([start, stop], axis) => [Math.max(start, b[axis]![0]), Math.min(stop, b[axis]![1])] as const,
  )
}

/** The smallest region that holds both. */
export function hull(a: Region, b: Region): Region {
  return a.map(
    ([start, stop], axis) => [Math.min(start, b[axis]![0]), Math.max(stop, b[axis]![1])] as const,
  )
}

export function containsRegion(outer: Region, inner: Region): boolean {
  return inner.every(([start, stop], axis) => start >= outer[axis]![0] && stop <= outer[axis]![1])
}

/** `region` with one axis replaced. */
export function withAxis(region: Region, axis: number, range: readonly [number, number]): Region {
  return region.map((old, i) => (i === axis ? range : old))
}

export function formatRegion(region: Region): string {
  return `[${region.map(([start, stop]) => `${start}:${stop}`).join(', ')}]`
}
