/** A way over a segment of the order, from position `first` to `end`, that needs so many bytes at the least. */
export interface Edge {
  readonly bytes: number
  readonly first: number
  readonly end: number
}

/** Edges of the fewest bytes first; of equals the one that ends farthest, of these the longest. A binary heap. */
export class EdgeQueue<T extends Edge> {
  private readonly heap: T[] = []

  push(edge: T): void {
    const { heap } = this
    let at = heap.push(edge) - 1
    for (let above = (at - 1) >> 1; at > 0 && before(edge, heap[above]!); above = (at - 1) >> 1) {
      heap[at] = heap[above]!
      at = above
    }
    heap[at] = edge
  }

  pop(): T | undefined {
    const { heap } = this
    const first = heap[0]
    const last = heap.pop()
    if (!last || heap.length === 0) return first
    let at = 0
    for (let below = 1; below < heap.length; below = 2 * at + 1) {
      if (below + 1 < heap.length && before(heap[below + 1]!, heap[below]!)) below++
      if (!before(heap[below]!, last)) break
      heap[at] = heap[below]!
      at = below
    }
    heap[at] = last
    return first
  }
}

function before(a: Edge, b: Edge): boolean {
  return (a.bytes - b.bytes || b.end - a.end || a.first - b.first) < 0
}
