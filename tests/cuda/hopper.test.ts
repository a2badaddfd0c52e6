// What the emulated GPU says of defects in barriers, boxes, products and registers of compute capability 9.0.
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { launchesOf } from './support.js'

const program = fileURLToPath(new URL('../../../build/emulation/emulation_hopper', import.meta.url))
const seeds = Array.from({ length: 20 }, (_, i) => `${i}`)

const any = (...parts: readonly RegExp[]) => new RegExp(parts.map(({ source }) => source).join('|'))
const unseen = /no wait for its barrier|before it is written/
const race = /race: shared|another copy to it is under way|more than 1 threads arrive/
const unexpected = /they were not expected/
const unwaited = /never waited for/
const deadlock = /deadlock: thread \d+ waits for a phase of a barrier/

/** What each defect must be called, whatever the order of threads and the moments of copies. */
const found: Record<string, RegExp> = {
  'barriers not shown to copies': /proxy: .*no fence\.proxy\.async/,
  'barriers used before they begin': /race: shared|before it is written|holds none/,
  'bytes not expected': any(unexpected, unseen, race),
  'fewer bytes expected': any(unexpected, unseen),
  'more bytes expected': deadlock,
  'a box read without a wait': unseen,
  'a stage filled without a wait': race,
  "a reader's parity that never turns": any(unseen, deadlock, unwaited),
  "a writer's parity that never turns": any(race, deadlock),
  'a stage given back before the wait': race,
  'a stage never given back': deadlock,
  'a stage given back by every lane': any(race, deadlock),
  'another stage': any(unseen, race),
  'sums without a fence': /no wgmma\.fence between/,
  'products in no group': race,
  'a wait that leaves a group': race,
  'products never waited for': /a product that begins here is never waited for/,
  'sums written too early': /sums were written while a product was under way/,
  'a box at no multiple of 128': /expected an address that is a multiple of 128/,
  'a box beyond its array': /out of bounds: a box of bytes/,
  'a matrix within a pattern': /within the pattern of its swizzle/,
  'a swizzle that is none': /A has swizzle 2 in its descriptor/,
  'a box beyond its operand': /out of bounds: a read of \d+ bytes/,
  'a map whose strides are no multiple of 16': /^refused$/,
  'a map wider than its swizzle': /^refused$/,
  'stored matrices not shown': /proxy: .*no fence\.proxy\.async/,
  'some threads without a barrier': /race: shared|before it is written/,
  'some threads of another count': any(/barrier 1: \d+ threads here, \d+ at line/, race, unseen),
  'some threads of too many': /deadlock: thread \d+ waits for a numbered barrier/,
  'a barrier without a number': /expected a number of 1 to 15, got 16/,
  'registers that nobody takes': /registers are given back here and nobody takes them/,
  'more registers given than there are': /expected at most 128 a thread, got 136/,
  'more registers taken than there are': /deadlock: thread \d+ waits for setmaxnreg\.inc/,
}

const launches = (env: Record<string, string> = {}) =>
  launchesOf(program, env.SLUICE_EMULATION_ARCH ? ['0'] : seeds, env)

test('every defect is found and no sound kernel accused, in 20 orders of events', async () => {
  const seen = new Set<string>()
  for (const [name, said] of await launches()) {
    seen.add(name)
    if (name.startsWith('sound: ')) assert.is(said, 'nothing', name)
    else assert.match(said, found[name]!, name)
    if (said !== 'nothing' && said !== 'refused')
      assert.match(said, /, block \(0, 0, 0\), thread \d+, hopper\.cpp:\d+: /, name)
  }
  for (const name of Object.keys(found)) assert.ok(seen.has(name), name)
  assert.ok([...seen].filter(name => name.startsWith('sound: ')).length >= 6)
})

test('another architecture has no wgmma', async () => {
  for (const architecture of ['80', '100']) {
    const said = new Map(await launches({ SLUICE_EMULATION_ARCH: architecture }))
    assert.match(
      said.get('sound: stored matrices')!,
      new RegExp(`needs sm_90a, this is sm_${architecture}`),
    )
  }
})

test.run()
