// Every kernel instance under a few schedules of threads: no report, the same bits. scripts/cuda-mutations.mjs takes more seeds and mutants.
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { finished } from '../support/process.js'

const program = fileURLToPath(
  new URL('../../../build/emulation/emulation_families', import.meta.url),
)

for (const architecture of ['75', '90'])
  test(`compute capability ${architecture}: no false alarm, no bit that a schedule changes`, async () => {
    const { code, output } = await finished(program, ['--kernels', '0', '1', '2'], {
      SLUICE_EMULATION_ARCH: architecture,
    })
    assert.is(code, 0, output)
    const bits = new Map<string, string>()
    for (const line of output.trim().split('\n')) {
      if (line.startsWith('kernel ')) continue
      const [, name, said] = /^(.+?) \d+: (.*)$/.exec(line) ?? []
      assert.match(said!, /^[0-9a-f]{16}$/, line)
      assert.is(said, bits.get(name!) ?? said, name)
      bits.set(name!, said!)
    }
    assert.ok(bits.size > 100)
    const kernels = output.match(/^kernel /gm)?.length ?? 0
    assert.ok(kernels > (architecture === '75' ? 40 : 80), `${kernels} kernels`)
  })

test('SLUICE_CUDA_WGMMA=0: the bits of an architecture without wgmma', async () => {
  const said = async (env: Record<string, string>) =>
    (await finished(program, ['--case', 'boxes', '0'], env)).output
  const without = await said({ SLUICE_EMULATION_ARCH: '90', SLUICE_CUDA_WGMMA: '0' })
  assert.is(without, await said({ SLUICE_EMULATION_ARCH: '80' }))
  assert.is.not(without, await said({ SLUICE_EMULATION_ARCH: '90' }))
})

test.run()
