// The command tests of the CPU's kernels once more, on the kernels of the emulated GPU, in float32 storage.
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { emulatedPlugin, gpu } from './support.js'

for (const family of [
  'cpu/pointwise',
  'cpu/norm',
  'cpu/quantise',
  'cpu/conv',
  'cpu/attention',
  'copy',
]) {
  test(`${family}: as on the CPU`, async () => {
    const file = fileURLToPath(new URL(`../src/${family}.test.js`, import.meta.url))
    const child = spawn(process.execPath, [file], {
      env: { ...process.env, SLUICE_CUDA_BACKEND: emulatedPlugin, SLUICE_TEST_DEVICE: gpu },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', text => {
        output += text
      })
    }
    const code = await new Promise(resolve => child.on('close', resolve))
    assert.is(code, 0, output)
    assert.match(output, /Total: +[1-9]/)
  })
}

test.run()
