// On the emulated GPU a copy moves its bytes as late as it may, so that a join that is missing shows.
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { actCode, CommandWriter, slotHost } from '../../lib/planner/commands.js'
import { native } from '../../lib/runtime/native.js'
import { rejectsCode, rows } from '../src/support.js'
import { gpu, useEmulation } from './support.js'

useEmulation()

const channels = 64
const extents = [1, 1, 1, channels] as const
const bytes = 4 * channels
/** Where things lie in the arena. */
const [source, landing, out] = [0, bytes, 2 * bytes]

type Write = (writer: CommandWriter) => void
const fetch =
  (ticket: number): Write =>
  writer =>
    writer.copy(ticket, 0, {
      ticket,
      extents,
      source: rows(0, channels, slotHost),
      out: rows(landing, channels),
    })
const store =
  (ticket: number): Write =>
  writer =>
    writer.copy(ticket, 0, {
      ticket,
      extents,
      source: rows(source, channels),
      out: rows(bytes, channels, slotHost),
    })
const join =
  (ticket: number): Write =>
  writer =>
    writer.join(0, 0, ticket)
const silu =
  (from: number, to: number): Write =>
  writer =>
    writer.unary(9, 0, {
      act: actCode.silu,
      extents,
      source: rows(from, channels),
      out: rows(to, channels),
    })

const input = Float32Array.from({ length: channels }, (_, i) => i / 7 - 3)
const activated = input.map(x => x / (1 + Math.exp(-x)))

/** Runs commands three times: launched, captured, replayed. Gives the arena's and the host's last floats. */
async function execute(...commands: Write[]) {
  const writer = new CommandWriter()
  for (const write of commands) write(writer)
  const slots = Float64Array.of(3 * bytes, 0, 2 * bytes)
  const stream = native().loadStream(gpu, writer.finish(), slots)
  const arena = native().createBlock(gpu, 3 * bytes)
  const host = native().createBlock(gpu, 2 * bytes, true)
  const [result, kept] = [new Float32Array(channels), new Float32Array(channels)]
  try {
    for (let round = 0; round < 3; round++) {
      host.write(0, input)
      host.fill(bytes, bytes, 0)
      arena.write(source, input)
      arena.fill(landing, 2 * bytes, 0)
      await stream.run(arena, null, new Float64Array(0), 1, undefined, { host }).done
      arena.read(out, result)
      host.read(bytes, kept)
    }
    return { result, kept }
  } finally {
    arena.release()
    host.release()
  }
}

function near(actual: Float32Array, expected: Float32Array): void {
  actual.forEach((value, i) => assert.ok(Math.abs(value - expected[i]!) < 1e-6, `${i}: ${value}`))
}

test('what comes after the join sees the copy, also as a graph', async () => {
  const { result } = await execute(fetch(1), silu(source, source), join(1), silu(landing, out))
  near(result, activated)
  near((await execute(fetch(1), fetch(2), join(2), silu(landing, out))).result, activated)
  near((await execute(fetch(0), silu(landing, out))).result, activated)
})

test('a kernel that reads what a copy still writes is found', async () => {
  const missing = execute(fetch(1), silu(landing, out))
  await rejectsCode(
    missing,
    'device-lost',
    /reads what copy on another stream writes: a wait is missing/,
  )
  const early = execute(join(1), fetch(1), silu(landing, out))
  await rejectsCode(early, 'device-lost', /a wait is missing/)
  const other = execute(fetch(1), fetch(2), join(1), silu(landing, out))
  await rejectsCode(other, 'device-lost', /a wait is missing/)
})

test('a kernel that writes what a copy still reads is found', async () => {
  near((await execute(store(1), join(1), silu(source, source))).kept, input)
  const missing = execute(store(1), silu(source, source), join(1))
  await rejectsCode(
    missing,
    'device-lost',
    /writes what copy on another stream reads: a wait is missing/,
  )
})

test('the end of a run waits for its copies', async () => {
  near((await execute(store(1))).kept, input)
})

test.run()
