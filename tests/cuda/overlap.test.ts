import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { scratch } from '../io/scratch.js'
import { runChild } from '../src/support.js'
import { finished } from '../support/process.js'
import { emulatedPlugin, launchesOf } from './support.js'

const built = (name: string) =>
  fileURLToPath(new URL(`../../../build/emulation/${name}`, import.meta.url))
const program = built('emulation_overlap')
const { path, clean } = scratch('overlap')
test.after(clean)

test('commands that meet are in order on two streams, others beside each other', async () => {
  const seeds = Array.from({ length: 20 }, (_, i) => `${i}`)
  const said = (await launchesOf(program, seeds)).filter(([name]) => name === 'placements')
  assert.is(said.length, 20)
  for (const [, found] of said) assert.is(found, 'sound, some beside each other')
})

test('the emulation finds a wait that is missing between two streams, also in a graph', async () => {
  const said = new Map(await launchesOf(program, []))
  for (const graph of ['', ', a graph']) {
    assert.is(said.get(`waits for the write${graph}`), 'sound')
    assert.is(said.get(`writes after the write${graph}`), 'sound')
    const reads = /toucher: it (reads|writes) what toucher on another stream (writes|reads): a wait/
    assert.match(said.get(`reads without a wait${graph}`)!, reads)
    assert.match(said.get(`reads after a wait for what came before${graph}`)!, reads)
    assert.match(
      said.get(`writes without a wait${graph}`)!,
      /toucher: it writes what toucher on another stream writes: a wait is missing/,
    )
  }
})

test('random commands on two streams, with copies and as graphs, give what they give one by one', async () => {
  const bits = new Map<string, string>()
  for (const seed of ['0', '1', '2', '3', '4']) {
    const { code, output } = await finished(built('emulation_lanes'), [seed])
    assert.is(code, 0, output)
    for (const line of output.trim().split('\n')) {
      const [, name, said] = /^(.+) \d+: (.*)$/.exec(line) ?? []
      assert.match(said!, /^[0-9a-f]{16}$/, line)
      assert.is(said, bits.get(name!) ?? said, name)
      bits.set(name!, said!)
    }
  }
  assert.ok(bits.size > 10)
})

/** What a program of two branches gives, and how many streams its kernels were launched on. */
async function branches(name: string, env: Record<string, string>) {
  const { code, output } = await runChild('../../cuda/children/branches', {
    SLUICE_CUDA_BACKEND: emulatedPlugin,
    SLUICE_EMULATION_TRACE: path(name),
    SLUICE_CUDA_GRAPHS: '0',
    ...env,
  })
  assert.is(code, 0, output)
  const lines = existsSync(path(name)) ? readFileSync(path(name), 'utf8').trim().split('\n') : []
  const streams = new Set(lines.map(line => line.split(' on ')[1]))
  return { output, streams: streams.size }
}

test('branches of a program run on two streams, to the same bits as on one', async () => {
  const beside = await branches('beside', {})
  const alone = await branches('alone', { SLUICE_CUDA_OVERLAP: '0' })
  assert.is(beside.streams, 2)
  assert.is(alone.streams, 1)
  assert.is(beside.output, alone.output)
  const graphs = await branches('graphs', { SLUICE_CUDA_GRAPHS: '1' })
  assert.is(graphs.output, alone.output)
})

test.run()
