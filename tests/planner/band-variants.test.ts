import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { BudgetError } from '../../lib/errors.js'
import { CommandCosts, roofline } from '../../lib/planner/cost.js'
import { type Again, type Group, type Slicing, slicedNodes } from '../../lib/planner/group.js'
import { type ProgramPlan, planStage, type StagePlan } from '../../lib/planner/plan.js'
import { faultOf } from '../../lib/planner/plan-check.js'
import { renewable } from '../../lib/planner/recompute.js'
import { Streaming } from '../../lib/planner/streaming.js'
import type { Program } from '../../lib/program/graph.js'
import { opSpec } from '../../lib/program/op.js'
import { checkPlan } from '../support/memory-model.js'
import { decoderLike, temporalDecoderLike } from '../support/random-program.js'

const target = { backend: 'cpu', threads: 2 }
const weightDtype = () => 'f16' as const

function plan(program: Program, budget?: number, recompute?: number) {
  const spec = { name: 'test', state: {}, programs: { main: program } }
  return planStage(spec, { target, weightDtype, streaming: 'never', budget, recompute })
}

/** @param recompute of these small networks the upsampling convolution is most of the operations, and it comes three times */
function least(program: Program, recompute = 1) {
  try {
    return plan(program, 0, recompute)
  } catch (error) {
    assert.instance(error, BudgetError)
    return plan(program, (error as BudgetError).needed, recompute)
  }
}

const isAgain = ({ name }: { name: string }) => name.endsWith('(again)')
const shapes = [
  [12, 6],
  [17, 5],
  [9, 11],
  [32, 3],
  [24, 16],
] as const

/** Groups in bands that make rows around them again. */
function halosOf(main: ProgramPlan): { group: Group; slicing: Slicing }[] {
  return main.groups.flatMap(group => {
    const slicing = main.slicings[group.id]!
    return group.halos && slicing.bands ? [{ group, slicing }] : []
  })
}

test('at every budget a decoder that makes rows again is sound, and takes less than without', () => {
  for (const [rows, cols] of shapes) {
    const program = decoderLike(rows, cols, 48)
    const kept = least(program, 0)
    const made = least(program)
    const { main } = made.programs
    assert.ok(main!.bytes < kept.programs.main!.bytes, program.name)
    assert.ok(main!.program.nodes.some(isAgain) && halosOf(main!).length > 0, program.name)
    assert.not.ok(kept.programs.main!.program.nodes.some(isAgain))
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      const budget = Math.floor(made.peakBytes + share * (kept.peakBytes - made.peakBytes))
      const fitted = plan(program, budget, 1)
      const name = `${program.name} ${share}`
      assert.ok(fitted.peakBytes <= budget, name)
      assert.equal(checkPlan(fitted.programs.main!), [], name)
      const streaming = new Streaming(fitted.weights, target.backend)
      assert.is(faultOf(fitted.programs.main!, streaming), undefined, name)
    }
    // With room for it nothing is made again, unless fewer bands are faster.
    const roomy = plan(program, kept.peakBytes, 1).programs.main!
    assert.ok(roomy.work.seconds <= kept.programs.main!.work.seconds)
    assert.not.ok(plan(program).programs.main!.program.nodes.some(isAgain))
  }
})

/** A plan in whose bands some tensors are made again and some are kept. */
function halfway(program: Program, share = 0.5) {
  const known =
    ends.get(program.name) ?? [1, 0].map(recompute => least(program, recompute).peakBytes)
  ends.set(program.name, known)
  const [from, to] = known
  return plan(program, Math.floor(from! + share * (to! - from!)), 1)
}

/** Least peaks by program, all made again that can be and nothing. */
const ends = new Map<string, number[]>()

const keeps = ({ kept = 0, bands }: Slicing) => bands !== undefined && kept > 0 && kept < bands

test('of a decoder over time, temporal blocks make rows again too', () => {
  for (const [rows, cols] of [
    [12, 6],
    [9, 7],
  ] as const) {
    const program = temporalDecoderLike(2, rows, cols, 48)
    const found = least(program)
    const again = found.programs.main!.program.nodes.filter(isAgain)
    assert.ok(again.some(({ op }) => op === 'conv_time') && again.some(({ op }) => op === 'conv2d'))
    assert.equal(checkPlan(found.programs.main!), [], program.name)
    assert.is(faultOf(found.programs.main!, new Streaming(found.weights, 'cpu')), undefined)
  }
})

test('bands are kept for which there is room: a larger budget is never slower, its own peak gives the same plan', () => {
  let partly = 0
  for (const [rows, cols] of [...shapes, [40, 8]] as const) {
    const program = decoderLike(rows, cols, 48)
    let before = Number.POSITIVE_INFINITY
    for (let share = 0; share <= 1; share += 0.25) {
      const found = halfway(program, share)
      const main = found.programs.main!
      const name = `${program.name} ${share}`
      assert.ok(main.work.seconds <= before * 1.0001, `${name}: ${main.work.seconds} ${before}`)
      before = main.work.seconds
      const own = plan(program, found.peakBytes, 1).programs.main!
      assert.equal([own.bytes, own.slicings], [main.bytes, main.slicings], name)
      if (!main.slicings.some(keeps)) continue
      partly++
      if (rows * cols < 100) assert.equal(checkPlan(main), [], name)
    }
  }
  assert.ok(partly > 10, `${partly}`)
})

test('in a band that is kept nothing is made again, and in any other only copies are read', () => {
  const main = halfway(decoderLike(24, 16, 48)).programs.main!
  let [kept, made] = [0, 0]
  for (const group of main.groups) {
    const slicing = main.slicings[group.id]!
    if (!group.again || !keeps(slicing)) continue
    const copies = new Map(group.again.map(({ index, of }) => [group.nodes[index]!.output, of]))
    const steps = [...slicedNodes(group, slicing)]
    for (const { node, slice } of steps) {
      const read = node.inputs.map(({ tensor }) => tensor)
      if (slice < (slicing.kept ?? 0)) {
        assert.not.ok([node.output, ...read].some(tensor => copies.has(tensor)))
        kept++
      } else {
        assert.not.ok(read.some(tensor => [...copies.values()].includes(tensor)))
        made++
      }
    }
    const last = steps.filter(({ slice }) => slice === slicing.bands! - 1)
    for (const { index } of group.again) assert.ok(last.some(step => step.index === index))
  }
  assert.ok(kept > 0 && made > 0, `${kept} ${made}`)
})

test('a band makes the rows that its readers read, no more, from what lies outside of its group', () => {
  let seen = 0
  for (const [rows, cols] of shapes) {
    for (const { group, slicing } of halosOf(least(decoderLike(rows, cols, 48)).programs.main!)) {
      for (const index of group.halos!) {
        const maker = group.nodes[index]!
        const inside = new Set(group.nodes.map(({ output }) => output))
        assert.not.ok(maker.inputs.some(({ tensor }) => inside.has(tensor)))
        const steps = [...slicedNodes(group, slicing)]
        for (const { ranges, slice } of steps.filter(({ node }) => node === maker)) {
          const read = new Set<number>()
          for (const { node, outer, slice: own } of steps) {
            if (own !== slice) continue
            const wanted = node.output.shape.map((extent): [number, number] => [0, extent])
            wanted[1] = [...outer[0]!.range]
            const regions = opSpec(node.op).regions(node, node.output, wanted)
            for (const [i, { tensor }] of node.inputs.entries())
              if (tensor === maker.output)
                for (let row = regions[i]![1]![0]; row < regions[i]![1]![1]; row++) read.add(row)
          }
          const [start, stop] = ranges[0]!.range
          assert.equal(
            [Math.min(...read), Math.max(...read) + 1, read.size],
            [start, stop, stop - start],
          )
          seen++
        }
      }
    }
  }
  assert.ok(seen > 50, `${seen}`)
})

test('time and operations count what is made again, the rows around each band among it', () => {
  const program = decoderLike(24, 16, 48)
  const main = least(program).programs.main!
  const costs = new CommandCosts(roofline(target), weightDtype)
  let [flops, seconds] = [0, 0]
  for (const group of main.groups) {
    for (const { node, ranges } of slicedNodes(group, main.slicings[group.id]!)) {
      const wanted = node.output.shape.map((extent): [number, number] => [0, extent])
      for (const { axis, range } of ranges) wanted[axis] = [...range]
      flops += opSpec(node.op).cost(node, node.output, wanted).flops
      seconds += costs.command(node, wanted)
    }
  }
  assert.ok(Math.abs(main.work.flops / flops - 1) < 1e-9, `${main.work.flops} ${flops}`)
  // A band at the edge reads fewer rows than its size says.
  assert.ok(Math.abs(main.work.seconds / seconds - 1) < 0.02, `${main.work.seconds} ${seconds}`)
  assert.ok(flops > 1.05 * plan(program).programs.main!.work.flops)
})

test('what is made again spends no more operations than allowed, the rows around bands aside', () => {
  const program = decoderLike(24, 16, 48)
  const whole = plan(program).programs.main!
  const all = renewable(whole.program)
  assert.ok(all.length >= 3)
  let most = 0
  for (const recompute of [0, 0.05, 0.2, 0.75, 0.8, 1]) {
    const { main } = least(program, recompute).programs
    const again = main!.program.nodes.filter(isAgain).reduce((sum, node) => {
      const wanted = node.output.shape.map((extent): [number, number] => [0, extent])
      return sum + opSpec(node.op).cost(node, node.output, wanted).flops
    }, 0)
    assert.ok(again <= recompute * whole.work.flops, `${recompute}: ${again / whole.work.flops}`)
    most = Math.max(most, again)
  }
  assert.ok(most > 0.4 * whole.work.flops)
})

/** What is said of a plan after a change to the first of its groups that `where` holds for. */
function breaker(fresh: () => StagePlan, where: (group: Group, slicing: Slicing) => unknown) {
  return (change: (group: Group, main: ProgramPlan) => void): string | undefined => {
    const stage = fresh()
    const main = stage.programs.main!
    change(main.groups.find(group => where(group, main.slicings[group.id]!))!, main)
    return faultOf(main, new Streaming(stage.weights, target.backend))
  }
}

test('a plan whose bands make too little, or of what others read, is refused', () => {
  const broken = breaker(
    () => least(decoderLike(12, 6, 48)),
    ({ halos }, { bands }) => halos && bands,
  )
  assert.is(
    broken(() => undefined),
    undefined,
  )
  const set = (object: object, change: object) => Object.assign(object, change)
  assert.match(broken(group => set(group, { halos: undefined }))!, /read only its own slice/)
  assert.match(broken(group => set(group, { halos: [] }))!, /rows around ops/)
  assert.match(broken(group => set(group, { halos: '0' }))!, /rows around ops/)
  assert.match(
    broken((group, main) => set(main.slicings[group.id]!, { bands: undefined, chunk: 1 }))!,
    /bands around what it makes again/,
  )
  const halo = (main: ProgramPlan) =>
    main.buffers.find(({ kind, band }) => kind === 'slice' && band)!
  assert.match(
    broken((_, main) => set(halo(main), { band: { axis: 1, range: [0, 1] } }))!,
    /all that it needs of|write all rows/,
  )
  assert.match(broken((_, main) => set(halo(main), { bytes: 64 }))!, /bytes for|apart/)
})

test('a plan that keeps other bands than it reads is refused', () => {
  const fresh = () => halfway(decoderLike(12, 6, 48))
  const broken = breaker(fresh, ({ again }, slicing) => again && keeps(slicing))
  const first = breaker(fresh, ({ once }, slicing) => once && keeps(slicing))
  assert.is(
    broken(() => undefined),
    undefined,
  )
  const slicing = (group: Group, change: (own: Slicing) => object) => (main: ProgramPlan) =>
    Object.assign(main.slicings[group.id]!, change(main.slicings[group.id]!))
  const keep =
    (own: (bands: number, kept: number) => unknown) => (group: Group, main: ProgramPlan) =>
      slicing(group, ({ bands, kept }) => ({ kept: own(bands!, kept!) }))(main)
  for (const kept of [-1, 0.5, '1', null]) assert.match(broken(keep(() => kept))!, /bands kept/)
  assert.match(broken(keep(bands => bands + 1))!, /bands kept/)
  // One more or fewer needs other memory, and of a shortcut the other group's bands.
  for (const step of [-1, 1]) {
    assert.ok(broken(keep((_, kept) => kept + step)))
    assert.match(first(keep((_, kept) => kept + step))!, /the bands of|memory for|alive from/)
  }
  const again = (change: (copy: Again, group: Group, main: ProgramPlan) => object) =>
    broken((group, main) =>
      Object.assign(group, {
        again: group.again!.map(copy => ({ ...copy, ...change(copy, group, main) })),
      }),
    )!
  assert.match(
    broken(group => Object.assign(group, { again: 'all' }))!,
    /lists of what it makes again/,
  )
  assert.match(
    again(() => ({ index: 99 })),
    /numbers of its own ops/,
  )
  assert.match(
    again((_, group, main) => {
      const other = main.groups.find(each => each.again && each !== group)!
      return { of: other.nodes[other.again![0]!.index]!.output }
    }),
    /a copy of what is none/,
  )
  assert.match(
    again((_, { nodes }) => ({ of: nodes.at(-1)!.output })),
    /makes again, made before|numbers of/,
  )
  assert.match(
    again((_, __, main) => ({ of: main.program.inputs.sample })),
    /makes again, made before/,
  )
  assert.match(
    broken((group, main) => {
      const { index } = group.again![0]!
      const reader = main.groups.at(-1)!.nodes.at(-1)!
      Object.assign(reader, {
        inputs: [...reader.inputs, { role: 'extra', tensor: group.nodes[index]!.output }],
      })
    })!,
    /read in it alone|what it reads/,
  )
  assert.match(
    first((group, main) => {
      const reader = main.groups.at(-1)!.nodes.at(-1)!
      const tensor = group.nodes[group.once![0]!]!.output
      Object.assign(reader, { inputs: [...reader.inputs, { role: 'extra', tensor }] })
    })!,
    /copies of .* read instead/,
  )
})

test.run()
