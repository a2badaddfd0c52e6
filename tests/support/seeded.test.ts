import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { fixture, readTensors } from './recorded.js'
import { materialise, readCase, seededTensor } from './seeded.js'

// Values and sums of the reference generator (tests/fixtures/README.md states the rule).
test('seeded values are those of the reference', () => {
  const near = (values: ArrayLike<number>, expected: number[]) => {
    expected.forEach((x, i) =>
      assert.ok(Math.abs(values[i]! - x) < 1e-8 + 6e-8 * Math.abs(x), `${values[i]}`),
    )
  }
  const conv = seededTensor('conv_in.weight', [32, 4, 3, 3])
  near(conv, [0.04113622, -0.22032717, 0.24084556, 0.25251842])
  assert.is(conv[1151], Math.fround(-0.21522967517375946))
  assert.ok(Math.abs(conv.reduce((a, b) => a + b, 0) + 1.4085725632321555) < 1e-9)
  near(seededTensor('conv_norm_out.weight', [32]), [0.8933597, 0.94459033, 1.1666503])
  near(seededTensor('conv_in.bias', [32]), [-0.05159627, 0.03817558, 0.02563608])
  near(seededTensor('a.mix_factor', [1]), [-0.5519047975540161])
  near(
    seededTensor('ünï.bias', [5]),
    [0.00560947647318244, 0.0033373236656188965, -0.018543755635619164],
  )
  const table = seededTensor('embeddings.token_embedding.weight', [600, 64])
  near(table, [-0.854673445224762, -0.3827986419200897])
  assert.ok(Math.abs(table.reduce((a, b) => a + b, 0) + 105.69381055063519) < 1e-8)
})

test('a whole case has the bytes of the reference', () => {
  const hash = createHash('sha256')
  const { tensors } = readCase(fixture('clip-text')).modules.text_encoder!
  for (const [key, shape] of Object.entries(tensors))
    hash.update(new Uint8Array(seededTensor(key, shape).buffer))
  assert.is(hash.digest('hex').slice(0, 16), 'b1964ee771b3a38c')
})

test('a part of a tensor is that part of the whole', () => {
  const whole = seededTensor('x.weight', [7, 11])
  assert.equal(seededTensor('x.weight', [7, 11], 20, 5), whole.slice(20, 25))
})

test('a case becomes a checkpoint in diffusers’ layout', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-'))
  try {
    await materialise(fixture('clip-text'), folder)
    const { config, file, tensors } = readCase(fixture('clip-text')).modules.text_encoder!
    assert.equal(JSON.parse(readFileSync(join(folder, 'text_encoder/config.json'), 'utf8')), config)
    const stored = await readTensors(join(folder, 'text_encoder', file))
    assert.equal(Object.keys(stored).sort(), Object.keys(tensors).sort())
    for (const [key, { shape, values }] of Object.entries(stored)) {
      assert.equal([...shape], tensors[key])
      assert.equal(values, seededTensor(key, shape))
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test.run()
