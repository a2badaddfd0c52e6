// Products on tensor cores: storage and products in float16 and bfloat16, other schedules of threads, an older architecture.
import { test } from 'uvu'
import { rerun } from './support.js'

for (const family of ['conv', 'attention']) {
  for (const dtype of ['f16', 'bf16'])
    test(`${family}, ${dtype}`, () => rerun(family, { SLUICE_TEST_DTYPE: dtype }))

  const some = { SLUICE_TEST_DTYPE: 'f16', SLUICE_TEST_CASES: 'whole chunks' }
  for (const seed of ['1', '2', '3'])
    test(`${family}, f16, schedule ${seed}`, () =>
      rerun(family, { ...some, SLUICE_EMULATION_SEED: seed }))

  for (const dtype of ['f16', 'bf16'])
    test(`${family}, ${dtype}, compute capability 7.5`, () =>
      rerun(family, { ...some, SLUICE_TEST_DTYPE: dtype, SLUICE_EMULATION_ARCH: '75' }))
}

test.run()
