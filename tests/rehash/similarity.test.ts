import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { OptionError } from '../../lib/errors.js'
import { meanMap, sampleValues, similarityOf } from '../../lib/rehash/similarity.js'

const near = (a: number, b: number) => assert.ok(Math.abs(a - b) < 1e-12, `${a}, not ${b}`)

test('cosine and relative L1 by hand', () => {
  const map = similarityOf([Float32Array.of(1, 0), Float32Array.of(1, 1), Float32Array.of(-2, 0)])
  near(map.cosine[0]![1]!, Math.SQRT1_2)
  near(map.cosine[1]![0]!, Math.SQRT1_2)
  near(map.cosine[2]![0]!, -1)
  near(map.cosine[1]![1]!, 1)
  near(map.relativeL1[1]![0]!, 1)
  near(map.relativeL1[0]![1]!, 0.5)
  near(map.relativeL1[2]![0]!, 3)
  near(map.relativeL1[0]![2]!, 1.5)
  near(map.relativeL1[2]![2]!, 0)
})

test('a feature of zeros is like nothing, and divides by nothing', () => {
  const map = similarityOf([Float32Array.of(0, 0), Float32Array.of(1, 2)])
  assert.equal([map.cosine[0]![1], map.relativeL1[1]![0]], [0, 3])
})

test('the mean over runs', () => {
  const a = similarityOf([Float32Array.of(1, 0), Float32Array.of(1, 0)])
  const b = similarityOf([Float32Array.of(1, 0), Float32Array.of(0, 1)])
  assert.is(meanMap([a, b]).cosine[0]![1], 0.5)
  const three = similarityOf([0, 1, 2].map(x => Float32Array.of(x)))
  for (const maps of [[], [a, three]])
    assert.throws(
      () => meanMap(maps),
      (e: Error) => e instanceof OptionError,
    )
})

test('of large features values at equal distances are taken', () => {
  const values = Float32Array.from({ length: 1000 }, (_, i) => i)
  assert.equal([...sampleValues(values, 4)], [0, 250, 500, 750])
  assert.is(sampleValues(values, 1000), values)
})

test.run()
