/**
 * How near the arena's offsets come to the lower bound, and how fast, on guillotine instances whose
 * optimum is known.
 *   node dist/bench/arena.js [--nodes N] [--quick N] [--out FILE]
 */
import { writeFileSync } from 'node:fs'
import { arenaNodes, packArena } from '../lib/planner/arena/index.js'
import { checkOffsets, type GuillotineSpec, guillotine } from '../tests/support/guillotine.js'
import { benchArguments } from './arguments.js'
import { provenance } from './provenance.js'

const values = benchArguments(
  'arena',
  {
    nodes: { type: 'string', default: `${arenaNodes.normal}` },
    quick: { type: 'string', default: `${arenaNodes.quick}` },
    out: { type: 'string' },
  },
  ['nodes', 'quick'],
)

/** Plain cuts and cuts that end with whole lines of time, at two resolutions of memory. */
const specs: GuillotineSpec[] = [150, 200, 250, 300, 350, 400, 450].flatMap((count, k) => [
  { seed: 100 + k, count, times: 1024, bytes: 1024 },
  { seed: 200 + k, count, times: 1 << 20, bytes: 1 << 20 },
  { seed: 300 + k, count, times: 1024, bytes: 1024, lines: 0.4 },
  { seed: 400 + k, count, times: 1024, bytes: 1 << 20, lines: 0.4 },
])

function measure(spec: GuillotineSpec, nodes: number) {
  const buffers = guillotine(spec)
  const begin = performance.now()
  const layout = packArena(buffers, { nodes })
  const seconds = (performance.now() - begin) / 1000
  const faults = checkOffsets(buffers, layout.offsets, layout.bytes)
  if (faults.length > 0) throw new Error(`seed ${spec.seed}: ${faults[0]}`)
  return { buffers: buffers.length, ratio: layout.bytes / spec.bytes, nodes: layout.nodes, seconds }
}

const columns = ['seed', 'cuts', 'buffers', 'quick ratio', 's', 'ratio', 'nodes', 's']
const widths = [6, 13, 8, 12, 7, 8, 10, 7]
const print = (cells: readonly (string | number)[]) =>
  console.log(cells.map((cell, i) => `${cell}`.padStart(widths[i]!)).join(' '))

print(columns)
const results = specs.map(spec => {
  const quick = measure(spec, Number(values.quick))
  const full = quick.ratio === 1 ? quick : measure(spec, Number(values.nodes))
  const cuts = `${spec.bytes > 1024 ? 'fine' : 'coarse'}${spec.lines ? ' lines' : ''}`
  print([
    spec.seed,
    cuts,
    full.buffers,
    quick.ratio.toFixed(4),
    quick.seconds.toFixed(2),
    full.ratio.toFixed(4),
    full.nodes,
    full.seconds.toFixed(2),
  ])
  return { spec, cuts, quick, full }
})
for (const cuts of new Set(results.map(result => result.cuts))) {
  const group = results.filter(result => result.cuts === cuts)
  const optimal = group.filter(({ full }) => full.ratio === 1).length
  const worst = (of: (result: (typeof results)[number]) => number) => Math.max(...group.map(of))
  console.log(
    `${cuts}: optimum for ${optimal} of ${group.length}, ` +
      `slowest ${worst(({ full }) => full.seconds).toFixed(1)} s; ` +
      `quick: worst ratio ${worst(({ quick }) => quick.ratio).toFixed(4)}, ` +
      `slowest ${worst(({ quick }) => quick.seconds).toFixed(2)} s`,
  )
}
if (values.out) {
  const options = { nodes: Number(values.nodes), quick: Number(values.quick) }
  const head = JSON.stringify({ ...provenance(), options })
  const rows = results.map(result => `    ${JSON.stringify(result)}`).join(',\n')
  writeFileSync(values.out, `${head.slice(0, -1)},"results":[\n${rows}\n]}\n`)
}
