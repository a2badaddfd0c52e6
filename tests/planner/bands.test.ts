import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { bandsTouched } from '../../lib/planner/bands.js'
import { bandRange } from '../../lib/planner/group.js'
import { program, silu } from '../../lib/program/index.js'

/** A tensor of so many rows. */
function tensorOf(rows: number) {
  const { nodes } = program('rows', ({ input }) => ({ y: silu(input('x', [1, rows, 1, 8])) }))
  return nodes[0]!.output
}

test('the bands that a region touches are those that overlap it', () => {
  for (let rows = 1; rows <= 24; rows++) {
    const tensor = tensorOf(rows)
    for (let bands = 1; bands <= 32; bands++) {
      const all = Array.from({ length: bands }, (_, i) => bandRange(rows, bands, i))
      for (let start = 0; start < rows; start++) {
        for (let stop = start + 1; stop <= rows; stop++) {
          const region = [
            [0, 1],
            [start, stop],
            [0, 1],
            [0, 8],
          ] as const
          const touched = bandsTouched(tensor, 1, bands, region).map(({ range }) => range)
          const overlapping = all.filter(([from, to]) => from < stop && start < to)
          assert.equal(touched, overlapping, `${rows} rows, ${bands} bands, ${start}..${stop}`)
        }
      }
    }
  }
})

test.run()
