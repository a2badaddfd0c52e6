/** A binary heap: what `compare` puts first comes out first. */
export class Heap<T> {
  private readonly items: T[] = []
  constructor(private readonly compare: (a: T, b: T) => number) {}

  push(item: T): void {
    const { items } = this
    let at = items.push(item) - 1
    while (at > 0) {
      const up = (at - 1) >> 1
      if (this.compare(items[up]!, item) <= 0) break
      items[at] = items[up]!
      at = up
    }
    items[at] = item
  }

  pop(): T | undefined {
    const { items } = this
    const top = items[0]
    const last = items.pop()
    if (items.length === 0 || last === undefined) return top
    let at = 0
    for (;;) {
      let down = 2 * at + 1
      if (down >= items.length) break
      if (down + 1 < items.length && this.compare(items[down + 1]!, items[down]!) < 0) down++
      if (this.compare(items[down]!, last) >= 0) break
      items[at] = items[down]!
      at = down
    }
    items[at] = last
    return top
  }
}
