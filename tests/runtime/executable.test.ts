import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { OptionError, ProgramError } from '../../lib/errors.js'
import { program, silu } from '../../lib/program/index.js'
import { type CompileOptions, compile, planProgramOf } from '../../lib/runtime/executable.js'

const block = program('block', ({ input }) => ({
  y: silu(input('x', [2, 3, 3, 4])),
}))
const x = new Float32Array(72).fill(1)

async function refused(work: () => unknown, message: RegExp): Promise<void> {
  try {
    await work()
  } catch (error) {
    assert.instance(error, OptionError, `${error}`)
    return assert.match((error as Error).message, message)
  }
  assert.unreachable(`${message}`)
}

test('slices that are none are refused, before and while compiling', async () => {
  for (const slices of [
    0,
    -3,
    1.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    'x' as unknown as number,
  ]) {
    const message = new RegExp(`slices: expected a positive integer, got ${slices}`)
    await refused(() => planProgramOf(block, { slices }), message)
    await refused(() => compile(block, { slices }), message)
  }
})

test('weights that are no Float32Array are refused by name', async () => {
  for (const [weights, got] of [
    [{ k: [1, 2] }, /expected k as a Float32Array, got Array/],
    [{ k: new Float64Array(2) }, /expected k as a Float32Array, got Float64Array/],
    ['k', /expected values by name, got string/],
  ] as const)
    await refused(
      () => compile(block, { weights: weights as unknown as CompileOptions['weights'] }),
      got,
    )
})

test('close refuses while a run is under way; a run after it ends in a typed error', async () => {
  const executable = await compile(block)
  const running = executable.run({ x })
  await refused(async () => executable.close(), /block: close\(\) expected no run under way, got 1/)
  const { y } = await running
  assert.ok(y!.every(Number.isFinite))
  executable.close()
  await refused(() => executable.run({ x }), /block: expected to be open, got closed/)
})

test('leaving a block waits for a run that nobody awaited', async () => {
  let running: Promise<unknown>
  {
    await using executable = await compile(block)
    running = executable.run({ x })
  }
  await running
})

test('an option with a slip in its name is refused', async () => {
  const slip = { budgett: '1 MiB' } as CompileOptions
  await refused(() => compile(block, slip), /budgett: expected one of device, budget/)
  for (const [name, value] of Object.entries({
    signal: {},
    dtype: 'f64',
    recompute: '0.1',
    spill: 3,
    poison: 'yes',
  }))
    await refused(() => compile(block, { [name]: value }), new RegExp(`^${name}: expected`))
})

test('a program must give tensors', () => {
  for (const body of [() => undefined, () => ({}), () => ({ y: 3 })])
    assert.throws(
      () => program('p', body as unknown as Parameters<typeof program>[1]),
      (error: Error) => error instanceof ProgramError && /expected/.test(error.message),
    )
})

test.run()
