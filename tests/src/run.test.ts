import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  absent,
  actCode,
  binaryCode,
  CommandWriter,
  dtypeCode,
} from '../../lib/planner/commands.js'
import { native } from '../../lib/runtime/native.js'
import { rejectsCode, rows, runChild, throwsCode, unaryStream } from './support.js'

const none = new Float64Array(0)

test('commands run in order, over bound slots and weights, whatever the threads', async () => {
  const tokens = 37
  const channels = 19
  const bytes = tokens * channels * 4
  const writer = new CommandWriter()
  const extents = [1, 1, tokens, channels] as const
  const common = { extents, bChannelStride: 1, t: absent }
  writer.binary(0, 0, {
    ...common,
    op: binaryCode.mul,
    a: rows(0, channels, 3),
    b: { ...rows(0, 0, 1), strides: [0, 0, 0] },
    out: rows(0, channels),
  })
  writer.binary(1, 0, {
    ...common,
    op: binaryCode.add,
    a: rows(0, channels),
    b: rows(0, channels, 3),
    out: rows(0, channels, 4),
  })
  const slots = Float64Array.of(bytes, channels * 4, 0, bytes, bytes)
  const stream = native().loadStream('cpu', writer.finish(), slots)
  const arena = native().createBlock('cpu', 4 * bytes)
  const weights = native().createBlock('cpu', channels * 4)
  const input = Float32Array.from({ length: tokens * channels }, (_, i) => Math.fround(Math.sin(i)))
  const factors = Float32Array.from({ length: channels }, (_, i) => i - 7)
  arena.write(bytes, input)
  weights.write(0, factors)

  for (const threads of [1, 2, 3, 64, 1024]) {
    arena.fill(2 * bytes, bytes, 0xff)
    const result = await stream.run(arena, weights, Float64Array.of(bytes, 2 * bytes), threads).done
    assert.is(result.commands, 2)
    assert.is(result.arenaHighWater, 3 * bytes)
    assert.ok(result.nanoseconds > 0)
    const out = new Float32Array(tokens * channels)
    arena.read(2 * bytes, out)
    out.forEach((value, i) => {
      const product = Math.fround(input[i]! * factors[i % channels]!)
      assert.is(value, Math.fround(product + input[i]!))
    })
  }
  arena.release()
  weights.release()
})

test('the high-water mark is the last byte claimed, scratch of idle threads included', async () => {
  const writer = new CommandWriter()
  const view = (offset: number, channels: number) => rows(offset, channels)
  writer.conv(0, 0, {
    extents: [1, 1, 2, 16],
    kernel: [1, 1],
    stride: 1,
    inSize: [1, 2],
    physSize: [1, 2],
    origin: [0, 0],
    sourceOrigin: [0, 0],
    sourceSize: [1, 2],
    sourceChannels: [16],
    sources: [view(0, 16)],
    out: view(128, 16),
    weight: { slot: 1, dtype: 0, offset: 0, strides: [0, 0, 0] },
    bias: absent,
    vector: absent,
    residual: absent,
    affine: absent,
    prologueAct: actCode.silu, // otherwise the source is read in place, without scratch
    act: 0,
    outputs: 16,
    compute: 0,
    tile: [1, 2, 16],
    scratch: view(256, 0),
    scratchBytes: 128,
  })
  const threads = 7
  const end = 256 + threads * 128
  const stream = native().loadStream('cpu', writer.finish(), Float64Array.of(end, 1024, 0))
  const arena = native().createBlock('cpu', end)
  const weights = native().createBlock('cpu', 1024)
  arena.fill(0, arena.tileBytes, 0xa5)
  const { arenaHighWater } = await stream.run(arena, weights, none, threads).done
  assert.is(arenaHighWater, end)
  assert.is(arena.lastDifferent(0, 0xa5), end)
  arena.release()
  weights.release()
})

test('progress rises to the number of commands, and ends there', async () => {
  const stream = unaryStream(400, 500, 640, 'gelu')
  const arena = native().createBlock('cpu', 2 * 500 * 640 * 4)
  const seen: number[] = []
  const result = await stream.run(arena, null, none, 2, done => seen.push(done)).done
  assert.is(result.commands, 400)
  assert.is(seen.at(-1), 400)
  assert.equal(
    seen,
    [...new Set(seen)].sort((a, b) => a - b),
  )
  arena.release()
})

test('an empty stream is done at once', async () => {
  const stream = native().loadStream('cpu', new Int32Array(0), Float64Array.of(0, 0, 0))
  const arena = native().createBlock('cpu', 1)
  const result = await stream.run(arena, null, none, 2).done
  assert.is(result.commands, 0)
  assert.is(result.arenaHighWater, 0)
  arena.release()
})

test('abort stops between commands, the event loop stays free, the pool empties', async () => {
  const before = native().pool()
  const stream = unaryStream(1_000_000, 100, 320, 'gelu')
  const arena = native().createBlock('cpu', 2 * 100 * 320 * 4)
  let ticks = 0
  const timer = setInterval(() => ticks++, 1)
  const job = stream.run(arena, null, none, 2, () => {
    if (ticks > 3) job.abort()
  })
  await rejectsCode(job.done, 'aborted', /aborted after \d+ of 1000000 commands/)
  clearInterval(timer)
  job.abort()
  assert.ok(ticks > 3)
  arena.release()
  const after = native().pool()
  assert.is(after.bytes, before.bytes)
  assert.is(after.blocks, before.blocks)
})

test('a run keeps a released arena until it has ended', async () => {
  const before = native().pool().bytes
  const stream = unaryStream(200, 500, 640, 'gelu')
  const arena = native().createBlock('cpu', 2 * 500 * 640 * 4)
  const { done } = stream.run(arena, null, none, 2)
  arena.release()
  assert.ok(native().pool().bytes > before)
  await done
  assert.is(native().pool().bytes, before)
})

test('several runs share the pool', async () => {
  const stream = unaryStream(300, 50, 64, 'gelu')
  const bytes = 50 * 64 * 4
  const outputs = await Promise.all(
    [1, 2, 3, 4, 5].map(async threads => {
      const arena = native().createBlock('cpu', 2 * bytes)
      arena.write(
        0,
        Float32Array.from({ length: 3200 }, (_, i) => i / 100 - 16),
      )
      await stream.run(arena, null, none, threads).done
      const out = new Float32Array(3200)
      arena.read(bytes, out)
      arena.release()
      return out
    }),
  )
  for (const out of outputs) assert.equal(out, outputs[0])
  assert.ok(Math.abs(outputs[0]![3199]! - 15.99) < 1e-3)
})

test('an arena takes one run at a time', async () => {
  const stream = unaryStream(3000, 500, 64, 'gelu')
  const arena = native().createBlock('cpu', 2 * 500 * 64 * 4)
  const { done } = stream.run(arena, null, none, 1)
  throwsCode(() => stream.run(arena, null, none, 1), 'argument', /in use by another run/)
  await done
  await stream.run(arena, null, none, 1).done
  arena.release()
})

test('a token id outside its table fails the command, and says which', async () => {
  const writer = new CommandWriter()
  writer.embedding(42, 0, {
    tokens: 3,
    channels: 4,
    tableRows: 10,
    token0: 0,
    positionRows: 0,
    ids: { slot: 3, dtype: dtypeCode.i32, offset: 0, strides: [0, 0, 0] },
    table: rows(0, 4, 1),
    positions: absent,
    out: rows(0, 4),
  })
  const stream = native().loadStream('cpu', writer.finish(), Float64Array.of(64, 160, 0, 12))
  const arena = native().createBlock('cpu', 128)
  const weights = native().createBlock('cpu', 160)
  const table = Float32Array.from({ length: 40 }, (_, i) => i)
  weights.write(0, table)
  for (const bad of [10, -1, 2 ** 31 - 1, -(2 ** 31)]) {
    arena.write(64, Int32Array.of(1, bad, 2))
    const { done } = stream.run(arena, weights, Float64Array.of(64), 2)
    await rejectsCode(done, 'bad-data', /command 0 \(embedding, node 42\): expected token ids/)
  }
  arena.write(64, Int32Array.of(1, 9, 0))
  await stream.run(arena, weights, Float64Array.of(64), 2).done
  const out = new Float32Array(12)
  arena.read(0, out)
  assert.equal([...out], [4, 5, 6, 7, 36, 37, 38, 39, 0, 1, 2, 3])
  arena.release()
  weights.release()
})

test('blocks, bindings and threads of a run are checked', () => {
  const writer = new CommandWriter()
  writer.unary(0, 0, {
    act: actCode.none,
    extents: [1, 1, 1, 4],
    source: rows(0, 4, 3),
    out: rows(0, 4),
  })
  const stream = native().loadStream('cpu', writer.finish(), Float64Array.of(16, 8, 0, 16))
  const arena = native().createBlock('cpu', 64)
  const small = native().createBlock('cpu', 4)
  const bound = Float64Array.of(16)
  const bad = (message: RegExp, ...args: unknown[]) =>
    throwsCode(() => stream.run(...(args as Parameters<typeof stream.run>)), 'argument', message)
  bad(/arena: expected 16 bytes/, small, arena, bound, 1)
  bad(/weights: expected 8 bytes or more, got 0/, arena, null, bound, 1)
  bad(/weights: expected 8 bytes or more, got 4/, arena, small, bound, 1)
  bad(/bindings: expected 1, got 0/, arena, arena, none, 1)
  bad(/bindings\[0\]: expected a multiple of 4/, arena, arena, Float64Array.of(49), 1)
  bad(/bindings\[0\]/, arena, arena, Float64Array.of(52), 1)
  bad(/bindings\[0\]/, arena, arena, Float64Array.of(-4), 1)
  bad(/bindings\[0\]/, arena, arena, Float64Array.of(2 ** 53), 1)
  bad(/threads: expected an integer from 1 to 1024/, arena, arena, bound, 0)
  bad(/threads/, arena, arena, bound, 1025)
  bad(/onProgress: expected a function/, arena, arena, bound, 1, 'x')
  bad(/expected a block/, undefined, arena, bound, 1)
  arena.release()
  bad(/released/, arena, null, bound, 1)
  small.release()
})

test('an error thrown by onProgress aborts the run and comes out of it', async () => {
  const stream = unaryStream(1_000_000, 100, 320)
  const arena = native().createBlock('cpu', 2 * 100 * 320 * 4)
  const { done } = stream.run(arena, null, none, 2, () => {
    throw new RangeError('from the callback')
  })
  const error = await done.catch(thrown => thrown)
  assert.instance(error, RangeError)
  assert.is(error.message, 'from the callback')
  arena.release()
})

test('200 runs leave no memory behind', async () => {
  const { code, output } = await runChild('leak', {}, ['--expose-gc'])
  assert.is(code, 0, output)
  const grown = Number(output)
  assert.ok(grown < 5 * 2 ** 20, `resident memory grew by ${grown} bytes`)
})

test('threads that were moved apart may run anywhere again', async () => {
  if (!existsSync('/proc/self/task')) return
  const stream = unaryStream(3, 500, 640)
  const arena = native().createBlock('cpu', 2 * 500 * 640 * 4)
  for (let i = 0; i < 30; i++) {
    await stream.run(arena, null, none, native().cpu().threads).done
    await sleep(3)
  }
  arena.release()
  const allowed = (task: string) =>
    /^Cpus_allowed:\s*(\S+)/m.exec(readFileSync(`/proc/self/task/${task}/status`, 'utf8'))?.[1]
  for (const task of readdirSync('/proc/self/task'))
    assert.is(allowed(task), allowed(`${process.pid}`), `thread ${task}`)
})

test.run()
