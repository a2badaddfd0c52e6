/** Times of our kernels of one kind by the device's clock: `kernels.js KIND [--small]`. */
import { CommandWriter } from '../../../lib/planner/commands.js'
import { native } from '../../../lib/runtime/native.js'
import { randomNumbers } from '../../../tests/support/random-program.js'
import { tell } from '../child.js'
import { gpu } from '../device.js'
import { type KernelCase, kernelCases, smallKernelCases, workOf } from '../kernel-cases.js'
import { Layout, prepare } from '../kernel-commands.js'

const [kind] = process.argv.slice(2)
const small = process.argv.includes('--small')
const cases = (small ? smallKernelCases : kernelCases).filter(c => c.kind === kind)
/** Inputs are taken from so many bytes in turn, more than caches hold. */
const rotatedBytes = small ? 0 : 200e6
const mostSets = 8
/** Work of one timed run: long beside the gaps between launches. */
const runFlops = small ? 0 : 4e12
const runBytes = small ? 0 : 40e9
const rounds = small ? 1 : 7

/** float16 values from -1 to 1, not two of 4 MiB alike: zeros, and few values, would take less power and so less time. */
function randomHalves(count: number): Uint16Array {
  const next = randomNumbers(17)
  return Uint16Array.from({ length: count }, () => {
    const sign = next() < 0.5 ? 0 : 0x8000
    const exponent = 15 - Math.min(8, Math.floor(-Math.log2(next() + 1e-9)) + 1)
    return sign | (exponent << 10) | Math.floor(next() * 1024)
  })
}

const halves = randomHalves(small ? 1 << 12 : 1 << 21)

async function time(c: KernelCase): Promise<{ milliseconds: number; sets: number }> {
  const { flops, bytes } = workOf(c)
  const sets = Math.max(1, Math.min(mostSets, Math.ceil(rotatedBytes / bytes)))
  const layout = new Layout()
  const writes = Array.from({ length: sets }, () => prepare(c, layout))
  const repeats = Math.max(
    sets,
    Math.min(512, Math.ceil(Math.min(runFlops / flops, runBytes / bytes))),
  )
  const writer = new CommandWriter()
  for (let i = 0; i < repeats; i++) writes[i % sets]!(writer)
  const stream = native().loadStream(gpu, writer.finish(), Float64Array.of(layout.bytes, 0, 0))
  const arena = native().createBlock(gpu, layout.bytes)
  try {
    // All operands at once, float32 vectors too: two halves of which make some number of moderate size.
    for (let at = 0; at < layout.bytes; at += halves.byteLength)
      arena.write(at, halves.subarray(0, Math.min(halves.length, (layout.bytes - at) / 2)))
    const times: number[] = []
    // The first run loads the kernels, the second makes graphs.
    for (let round = -2; round < rounds; round++) {
      const { nanoseconds } = await stream.run(arena, null, new Float64Array(0), 1).done
      if (round >= 0) times.push(nanoseconds / 1e6 / repeats)
    }
    return { milliseconds: times.sort((a, b) => a - b)[times.length >> 1]!, sets }
  } finally {
    arena.release()
  }
}

const results: (KernelCase & { milliseconds: number; sets: number })[] = []
for (const c of cases) results.push({ ...c, ...(await time(c)) })
tell({ passed: true, detail: `${results.length} cases`, values: results })
