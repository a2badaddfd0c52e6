// Outputs that no cache holds are written past the caches: to the same bits as in slices that a cache holds.
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { add, groupNorm, layerNorm, program, silu } from '../../../lib/index.js'
import { run } from '../../../lib/runtime/executable.js'
import { sameBits } from './support.js'

for (const channels of [32, 33]) {
  test(`norms, activation and sum of 34 MB, ${channels} channels`, async () => {
    const shape = [4, 64, 1024, channels]
    const pointwise = program('large', ({ input, weight }) => {
      const x = input('x', shape)
      const [gamma, beta] = [weight('gamma', [channels]), weight('beta', [channels])]
      const normed = groupNorm(x, gamma, beta, { groups: channels === 32 ? 8 : 3, act: 'silu' })
      const layered = layerNorm(normed, gamma, beta)
      return { y: add(silu(layered), x) }
    })
    const x = new Float32Array(shape.reduce((a, b) => a * b))
    for (let i = 0; i < x.length; i++) x[i] = ((i * 2654435761) % 4096) / 1024 - 2
    const ramp = Float32Array.from({ length: channels }, (_, i) => 0.5 + i / channels)
    const weights = { gamma: ramp, beta: ramp.map(value => value - 1) }
    const [whole, sliced] = [
      await run(pointwise, { x }, { weights, slices: 1 }),
      await run(pointwise, { x }, { weights, slices: 4 }),
    ]
    assert.ok(whole.y!.length * 4 >= 2 ** 25)
    sameBits(
      'y',
      ...([whole, sliced].map(({ y }) => new Uint32Array(y!.buffer, y!.byteOffset, y!.length)) as [
        Uint32Array,
        Uint32Array,
      ]),
    )
  })
}

test.run()
