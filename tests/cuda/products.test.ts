// Products on tensor cores, whole chunks in 16-bit storage; compute capability 7.5 has other instructions.
import { test } from 'uvu'
import { rerun } from './support.js'

const some = { SLUICE_TEST_CASES: 'whole chunks' }
for (const [family, dtype] of [
  ['cpu/conv', 'f16'],
  ['cpu/conv', 'bf16'],
  ['cpu/attention', 'f16'],
  ['cpu/attention', 'bf16'],
] as const)
  test(`${family}, ${dtype}`, () => rerun(family, { ...some, SLUICE_TEST_DTYPE: dtype }))

for (const family of ['cpu/conv', 'cpu/attention'])
  test(`${family}, f16, compute capability 7.5`, () =>
    rerun(family, { ...some, SLUICE_EMULATION_ARCH: '75', SLUICE_TEST_DTYPE: 'f16' }))

test.run()
