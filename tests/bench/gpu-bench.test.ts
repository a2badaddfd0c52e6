import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { execute } from '../../bench/gpu/child.js'
import { kernelCases, workOf } from '../../bench/gpu/kernel-cases.js'
import { Layout, prepare } from '../../bench/gpu/kernel-commands.js'
import { CommandWriter } from '../../lib/planner/commands.js'
import { native } from '../../lib/runtime/native.js'
import { emulatedPlugin, gpu, useEmulation } from '../cuda/support.js'
import { scratch } from '../io/scratch.js'
import { root } from '../support/recorded.js'

useEmulation()
const { path, clean } = scratch('gpu-bench')
test.after(clean)

test('every case is a stream that the device takes, and moves what it says', () => {
  for (const c of kernelCases) {
    const layout = new Layout()
    const writer = new CommandWriter()
    prepare(c, layout)(writer)
    const slots = Float64Array.of(layout.bytes, 0, 0)
    const { commands } = native().loadStream(gpu, writer.finish(), slots)
    assert.is(commands, c.kind === 'norm' && !c.layer ? 3 : 1, c.name)
    // Group norms read their input twice.
    assert.ok(layout.bytes <= 1.01 * workOf(c).bytes + 65536, c.name)
  }
  const [first] = kernelCases
  assert.equal(workOf(first!), { flops: 2 * 4096 ** 3, bytes: 3 * 2 * 4096 ** 2 })
})

test('kernels are timed, also where there is no rival, which is said', async () => {
  const { code, output } = await execute(
    process.execPath,
    [`${root}dist/bench/gpu/bench.js`, '--small', '--only', 'kernels/gemm', '--out', path('')],
    {
      seconds: 500,
      env: { SLUICE_CUDA_BACKEND: emulatedPlugin, SLUICE_RIVAL_PYTHON: path('no-python') },
    },
  )
  assert.is(code, 0, output)
  assert.match(output, /kernels\/gemm: no rival: .*no-python.*; 64 x 32 x 48: \d+\.\d+ ms/)
  const json = readFileSync(path('gpu-bench-emulated-gpu.json'), 'utf8')
  assert.ok(JSON.parse(json).items['kernels/gemm'].values.rows[0].milliseconds > 0)
})

test.run()
