import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { resizeAntialiased } from '../../lib/io/resize.js'
import { difference, fixture, readTensors } from '../support/recorded.js'

test("shrunk with a blur and grown without: diffusers' pixels", async () => {
  const recorded = await readTensors(fixture('svd-run/resize.safetensors'))
  for (const name of ['shrunk', 'grown']) {
    const { shape, values } = recorded[`${name}.in`]!
    const [height, width] = shape as [number, number, number]
    const image = { width, height, data: Uint8Array.from(values) }
    const expected = recorded[`${name}.out`]!
    const { data } = await resizeAntialiased(image, expected.shape[1]!)
    const { max } = difference(data, expected.values)
    assert.ok(max < 2e-5, `${name}: ${max}`)
  }
})

test('one pixel, one row and one column are as good as a plane of their colour', async () => {
  const grey = Math.fround(51 / 127.5 - 1)
  for (const [width, height] of [
    [1, 1],
    [1, 40],
    [40, 1],
    [2, 2],
  ] as const) {
    const data = new Uint8Array(3 * width * height).fill(51)
    const resized = await resizeAntialiased({ width, height, data }, 8)
    assert.is(resized.data.length, 3 * 64)
    assert.ok(resized.data.every(value => Math.abs(value - grey) < 1e-6))
  }
})

test.run()
