import { roofline } from '../../lib/planner/cost.js'
import { lower } from '../../lib/planner/lower.js'
import { planStage } from '../../lib/planner/plan.js'
import { aligned } from '../../lib/planner/storage.js'
import { type Program, tensorBytes } from '../../lib/program/index.js'
import { type Compute, resolveDevice } from '../../lib/runtime/device.js'
import { native } from '../../lib/runtime/native.js'

/** Small numbers in every float type, so that pages are real and sums finite. */
const fillByte = 0x3c

/** A program with memory behind it, planned unsliced, its commands ready to run any number of times. */
export interface Prepared {
  /** Seconds of one pass over the program's commands, the mean of `repeats`. */
  time(repeats: number): Promise<number>
  release(): void
}

export function prepare(program: Program, threads: number, compute?: Compute): Prepared {
  const { target } = resolveDevice('cpu', threads, compute)
  const tensors = Object.entries({ ...program.inputs, ...program.outputs })
  const state = Object.fromEntries(
    tensors.map(([name, { shape, dtype }]) => [name, { shape, dtype }]),
  )
  const plan = planStage(
    { name: 'bench', state, programs: { main: program } },
    { target, weightDtype: () => 'f32', slices: 1, cost: roofline(target) },
  )
  const addon = native()
  const arena = addon.createBlock('cpu', plan.arenaBytes)
  const block = plan.weights.bytes > 0 ? addon.createBlock('cpu', plan.weights.bytes) : null
  arena.fill(0, plan.arenaBytes, fillByte)
  block?.fill(0, plan.weights.bytes, fillByte)
  const { words } = lower(plan.programs.main!, plan.weights, aligned(plan.stateBytes))
  const slots = Float64Array.of(
    plan.arenaBytes,
    plan.weights.bytes,
    0,
    ...tensors.map(([, tensor]) => tensorBytes(tensor)),
  )
  const bindings = Float64Array.from(tensors, ([name]) => plan.state[name]!.offset)
  const streams = new Map<number, ReturnType<typeof addon.loadStream>>()
  return {
    async time(repeats) {
      let stream = streams.get(repeats)
      if (!stream) {
        const repeated = new Int32Array(words.length * repeats)
        for (let i = 0; i < repeats; i++) repeated.set(words, i * words.length)
        stream = addon.loadStream('cpu', repeated, slots)
        streams.set(repeats, stream)
      }
      const { nanoseconds } = await stream.run(arena, block, bindings, threads).done
      return nanoseconds / 1e9 / repeats
    },
    release() {
      arena.release()
      block?.release()
    },
  }
}

/** Operations per second of multiply-adds in registers alone. */
export async function peakRate(threads: number): Promise<number> {
  const { operations, nanoseconds } = await native().multiplyAdds(threads, 1_500_000).done
  return operations / (nanoseconds / 1e9)
}
