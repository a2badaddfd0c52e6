// Prints by how many bytes the resident memory of this process grew over 200 runs.
import { native } from '../../../lib/runtime/native.js'
import { unaryStream } from '../support.js'

async function runs(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const stream = unaryStream(20, 64, 64)
    const arena = native().createBlock('cpu', 3 << 20)
    arena.fill(0, arena.bytes, i & 255)
    await stream.run(arena, null, new Float64Array(0), 2, () => {}).done
    arena.release()
  }
}

function resident(): number {
  globalThis.gc?.()
  return process.memoryUsage.rss()
}

await runs(500)
const before = resident()
await runs(200)
console.log(resident() - before)
