import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { launchesOf } from './support.js'

const program = fileURLToPath(
  new URL('../../../build/emulation/emulation_defects', import.meta.url),
)
const source = fileURLToPath(new URL('../../../tests/cuda/native/defects.cpp', import.meta.url))
const seeds = Array.from({ length: 20 }, (_, i) => `${i}`)

/** What each defect must be called, whatever the order of threads. */
const found: Record<string, RegExp> = {
  'hand over without a barrier': /race: shared|before it is written/,
  "hand over between warps by a warp's barrier": /race: shared|before it is written/,
  'rounds without a second barrier': /race: shared/,
  'shared memory that one thread leaves out': /read before it is written/,
  'one element beyond a shared array': /out of bounds: bytes 256 to 260 of a shared array/,
  'beyond an operand': /out of bounds: a read of 4 bytes/,
  'a write to what is only read': /out of bounds: a write of 4 bytes/,
  'a vector at no multiple of its size': /expected an address that is a multiple of 16/,
  'two blocks write one place': /race: written by thread \d+ of block/,
  'a copy used without a wait': /no wait between|before it is written/,
  'a copy in no group': /no wait between|before it is written/,
  'a wait that leaves too many': /no wait between|before it is written/,
  "another thread's copy without a barrier": /no wait between|no barrier|before it is written/,
  'a copy never waited for': /asynchronous copy that begins here is never waited for/,
  'a barrier that a warp stays away from': /divergence/,
  'a barrier after a thread has left': /divergence/,
  'two barriers at once': /divergence/,
  'two shuffles at once': /divergence/,
  'more threads than a block holds': /expected threads of 1 to 1024, got 1056/,
  'no whole warps': /expected whole warps, got 40/,
  'more rows of blocks than a grid holds': /expected grid.y of 1 to 65535, got 65536/,
  'more shared memory than a block has': /expected shared bytes of 1 to \d+, got 262144/,
}

/** Every fault of a kernel says where: the launch, block, thread, and a line that does something. */
function saysWhere(name: string, said: string, lines: readonly string[]): void {
  const [, kernel, block, thread, line] =
    /^(.+), block \((\d+), 0, 0\), thread (\d+), defects\.cpp:(\d+): /.exec(said) ?? []
  assert.is(kernel, name.startsWith('two blocks') ? 'blocks' : name, said)
  assert.ok(Number(block) < 2 && Number(thread) < 64, said)
  assert.match(lines[Number(line) - 1]!, /load|store|sync|copy_|shuffle|mma/, said)
}

const launches = (env: Record<string, string> = {}) => launchesOf(program, seeds, env)

test('every defect is found and no sound kernel accused, in 20 orders of threads', async () => {
  const seen = new Set<string>()
  const lines = readFileSync(source, 'utf8').split('\n')
  for (const [name, said] of await launches()) {
    seen.add(name)
    if (name.startsWith('sound: ')) assert.is(said, 'nothing', name)
    else if (name !== 'bf16 products') {
      assert.match(said, found[name]!, name)
      if (!/^launch: /.test(said)) saysWhere(name, said, lines)
    }
  }
  for (const name of Object.keys(found)) assert.ok(seen.has(name), name)
  assert.ok([...seen].filter(name => name.startsWith('sound: ')).length >= 9)
})

test('what an architecture lacks is refused', async () => {
  const said = async (architecture: string) =>
    new Map(await launches({ SLUICE_EMULATION_ARCH: architecture }))
  const [older, newer] = [await said('75'), await said('86')]
  assert.match(older.get('bf16 products')!, /bf16 needs sm_80, this is sm_75/)
  assert.is(newer.get('bf16 products'), 'nothing')
  assert.match(older.get('more shared memory than a block has')!, /1 to 65536, got/)
  assert.match(newer.get('more shared memory than a block has')!, /1 to 101376, got/)
})

test.run()
