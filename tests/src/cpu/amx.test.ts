import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { native } from '../../../lib/runtime/native.js'
import { finished } from '../../support/process.js'
import { root } from '../../support/recorded.js'
import { again } from './children.js'

const { available, bf16, selected } = native().cpu()
/** What the model of the tiles is built for. */
const modelled = available.includes('avx2') ? test : test.skip

/** Where the processor pairs weights by itself, plain code is compared with that too. */
const set = bf16 && available.includes('avx512') ? 'avx512' : 'avx2'
const flags = {
  avx2: ['-mavx2', '-mfma', '-mf16c'],
  avx512: ['-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mavx2', '-mfma', '-mf16c'],
}[set]

/** Programs that trap instructions know Linux's registers. */
const trapped = process.platform === 'linux' ? modelled : test.skip
for (const name of ['amx_model', 'amx_kernel']) {
  trapped(`${name}.cpp`, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-amx-'))
    try {
      const [compiler, ...rest] = (process.env.CXX ?? 'c++').split(' ') as [string]
      const program = join(folder, name)
      const built = await finished(compiler, [
        ...rest,
        ...['-std=c++20', '-O2', '-ffp-contract=off', ...flags],
        ...[`-DSLUICE_ISA_NAMESPACE=${set}`, '-DSLUICE_AMX', `-I${root}src`],
        ...[`${root}tests/src/cpu/native/${name}.cpp`, `${root}src/cpu/amx.cpp`, '-o', program],
      ])
      assert.is(built.code, 0, built.output)
      const { code, output } = await finished(program, [])
      assert.is(code, 0, output)
      assert.match(output, /\b0 failures$/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
}

for (const file of ['conv', 'bf16']) {
  modelled(`${file} by the model of the tiles`, () =>
    again(file, { SLUICE_ISA: 'amx-emulated', SLUICE_TEST_COMPUTE: 'bf16' }),
  )
}
;(bf16 ? test : test.skip)(`conv in bfloat16 on ${selected}`, () =>
  again('conv', { SLUICE_TEST_COMPUTE: 'bf16' }),
)
// Where AMX is in use, AVX512_BF16 is there too.
;(selected === 'amx' ? test : test.skip)('bfloat16 on avx512', async () => {
  for (const file of ['conv', 'bf16'])
    await again(file, { SLUICE_ISA: 'avx512', SLUICE_TEST_COMPUTE: 'bf16' })
})

const url = new URL('../../../lib/runtime/native.js', import.meta.url).href
const script = `import { native } from '${url}'; console.log(JSON.stringify(native().cpu()))`
const chosen = (isa: string) =>
  finished(process.execPath, ['--input-type=module', '-e', script], { SLUICE_ISA: isa })

modelled('the model is used where it is asked for, and never listed', async () => {
  const cpu = JSON.parse((await chosen('amx-emulated')).output)
  assert.is(cpu.selected, 'amx-emulated')
  assert.ok(cpu.bf16)
  assert.equal(cpu.available, available)
})

test('AMX is refused where the processor has none', async () => {
  const { code, output } = await chosen('amx')
  if (available.includes('amx')) assert.is(JSON.parse(output).selected, 'amx')
  else {
    assert.is.not(code, 0)
    assert.match(output, /NativeError: SLUICE_ISA: expected one of .*, got amx/)
  }
})

test.run()
