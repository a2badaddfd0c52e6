import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Colour, colours, type Motion, motions, whatIsShown } from './moving-shapes.js'

const side = 64

/** A disc as the checkpoint's training videos have it. */
function draw(colour: Colour, motion: Motion, ground: number, noise = 0): Float32Array[] {
  return Array.from({ length: 16 }, (_, f) => {
    const t = f / 15
    const way = 31 * (t - 0.5)
    const sign = {
      'moving left': [-1, 0],
      'moving right': [1, 0],
      'moving up': [0, -1],
      'moving down': [0, 1],
    }
    const [dx, dy] = sign[motion as keyof typeof sign] ?? [0, 0]
    const radius = motion === 'growing' ? 5 + 13 * t : motion === 'shrinking' ? 18 - 13 * t : 10
    const frame = new Float32Array(3 * side * side)
    for (let i = 0; i < side * side; i++) {
      const inside =
        Math.hypot((i % side) - 32 - dx! * way, Math.floor(i / side) - 32 - dy! * way) < radius
      for (let c = 0; c < 3; c++) {
        const value = (inside ? colours[colour][c]! : ground) / 127.5 - 1
        frame[c * side * side + i] = value + noise * Math.sin(i * 12.9 + c * 78 + f)
      }
    }
    return frame
  })
}

test('every colour and motion, on both grounds, also with noise', () => {
  for (const colour of Object.keys(colours) as Colour[]) {
    for (const motion of motions) {
      for (const [ground, noise] of [
        [12, 0],
        [112, 0.1],
      ] as const) {
        const shown = whatIsShown(draw(colour, motion, ground, noise), side, side)
        assert.equal(shown, { colour, motion }, `${colour} ${motion} on ${ground}`)
      }
    }
  }
})

test('nothing is seen where there is nothing', () => {
  const empty = Array.from({ length: 16 }, () => new Float32Array(3 * side * side).fill(-0.9))
  assert.equal(whatIsShown(empty, side, side), {})
  const still = draw('red', 'moving up', 12).map((_, __, all) => all[7]!)
  assert.equal(whatIsShown(still, side, side), { colour: 'red' })
})

test.run()
