import { existsSync, readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { AbortError } from '../../lib/errors.js'
import { program, silu } from '../../lib/program/index.js'
import { compile } from '../../lib/runtime/executable.js'
import { scratch } from '../io/scratch.js'
import { runChild } from '../src/support.js'
import { emulatedPlugin, gpu, useEmulation } from './support.js'

useEmulation()
const { path, clean } = scratch('graphs')
test.after(clean)

/** What the runs gave, and the lines of the trace: `launch NAME on STREAM`, `graph of N calls`. */
async function repeated(name: string, env: Record<string, string>) {
  const { code, output } = await runChild('../../cuda/children/repeat', {
    SLUICE_CUDA_BACKEND: emulatedPlugin,
    SLUICE_EMULATION_TRACE: path(name),
    ...env,
  })
  assert.is(code, 0, output)
  const lines = existsSync(path(name)) ? readFileSync(path(name), 'utf8').trim().split('\n') : []
  const graphs = lines.filter(line => line.startsWith('graph')).length
  return { output, graphs, launches: lines.length - graphs }
}

test('a repeated run is launched as graphs and gives the same bits, alone and beside another', async () => {
  const direct = await repeated('direct', { SLUICE_CUDA_GRAPHS: '0' })
  assert.is(direct.graphs, 0)
  const alone = direct.output.split('\n').filter(line => line.startsWith('alone'))
  assert.is(new Set(alone).size, 4, direct.output)
  // Together the first program gives what it gave alone.
  const together = direct.output.split('\n').filter(line => line.startsWith('together'))
  assert.equal(
    together.map(line => line.split(' ')[1]),
    alone.map(line => line.split(' ')[1]),
  )
  const replayed = await repeated('replayed', {})
  assert.is(replayed.output, direct.output)
  assert.ok(replayed.graphs >= 3, `${replayed.graphs}`)
  // The first run of each program on each of two lanes launches by itself; twelve runs there are.
  assert.ok(replayed.launches <= direct.launches / 2, `${replayed.launches} of ${direct.launches}`)
})

test('without memory for graphs the launches go on one by one', async () => {
  const direct = await repeated('one by one', { SLUICE_EMULATION_GRAPHS: '0' })
  assert.is(direct.graphs, 0)
  assert.ok(direct.launches > 0)
  assert.is(direct.output, (await repeated('with graphs', {})).output)
})

test('an abort takes effect between two graphs, and the next run is whole', async () => {
  const many = program('many', ({ input }) => {
    let y = input('x', [1024, 64])
    for (let i = 0; i < 300; i++) y = silu(y)
    return { y }
  })
  const stop = new AbortController()
  await using executable = await compile(many, { device: gpu })
  const x = Float32Array.from({ length: 1024 * 64 }, (_, i) => Math.cos(i))
  const { y: expected } = await executable.run({ x })
  assert.equal((await executable.run({ x })).y, expected)
  await using stoppable = await compile(many, { device: gpu, signal: stop.signal })
  for (let i = 0; i < 2; i++) assert.equal((await stoppable.run({ x })).y, expected)
  let seen = 0
  const run = stoppable.run({ x }, done => {
    seen = done
    stop.abort()
  })
  const error = await run.catch(thrown => thrown)
  assert.instance(error, AbortError)
  assert.ok(seen > 0 && seen < 300, `${seen}`)
  assert.equal((await executable.run({ x })).y, expected)
})

test.run()
