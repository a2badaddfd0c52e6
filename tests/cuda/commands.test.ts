// The command tests of the CPU's kernels once more, on the kernels of the emulated GPU, in float32 storage.
import { test } from 'uvu'
import { rerun } from './support.js'

for (const family of [
  'cpu/pointwise',
  'cpu/norm',
  'cpu/quantise',
  'cpu/conv',
  'cpu/attention',
  'copy',
])
  test(`${family}: as on the CPU`, () => rerun(family))

test.run()
