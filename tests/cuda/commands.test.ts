// The command tests of the CPU's kernels once more, on the kernels of the emulated GPU, in float32 storage.
import { test } from 'uvu'
import { rerun } from './support.js'

for (const family of ['pointwise', 'norm', 'quantise', 'conv', 'attention'])
  test(`${family}: as on the CPU`, () => rerun(family))

test.run()
