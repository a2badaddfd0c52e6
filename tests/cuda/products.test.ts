// Products on tensor cores: storage and products in float16 and bfloat16, and on an older architecture.
import { test } from 'uvu'
import { rerun } from './support.js'

for (const family of ['conv', 'attention']) {
  for (const dtype of ['f16', 'bf16'])
    test(`${family}, ${dtype}`, () => rerun(`cpu/${family}`, { SLUICE_TEST_DTYPE: dtype }))

  const some = { SLUICE_TEST_CASES: 'whole chunks', SLUICE_EMULATION_ARCH: '75' }
  for (const dtype of ['f16', 'bf16'])
    test(`${family}, ${dtype}, compute capability 7.5`, () =>
      rerun(`cpu/${family}`, { ...some, SLUICE_TEST_DTYPE: dtype }))
}

test.run()
