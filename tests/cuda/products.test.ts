// Products on tensor cores: every case in float16, whole chunks in bfloat16 too, and on an older architecture.
import { test } from 'uvu'
import { rerun } from './support.js'

const some = { SLUICE_TEST_CASES: 'whole chunks' }
for (const family of ['cpu/conv', 'cpu/attention']) {
  test(`${family}, f16`, () => rerun(family, { SLUICE_TEST_DTYPE: 'f16' }))
  test(`${family}, bf16`, () => rerun(family, { ...some, SLUICE_TEST_DTYPE: 'bf16' }))
  test(`${family}, f16, compute capability 7.5`, () =>
    rerun(family, { ...some, SLUICE_EMULATION_ARCH: '75', SLUICE_TEST_DTYPE: 'f16' }))
}

test.run()
