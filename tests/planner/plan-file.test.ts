import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { BudgetError, PlanError } from '../../lib/errors.js'
import { lower } from '../../lib/planner/lower.js'
import {
  type PlanOptions,
  planStage,
  type StagePlan,
  type StageSpec,
} from '../../lib/planner/plan.js'
import { faultOf } from '../../lib/planner/plan-check.js'
import {
  decodeStage,
  encodeStage,
  openDocument,
  planFileVersion,
  type StageRecord,
  sealDocument,
} from '../../lib/planner/plan-file.js'
import { programHash } from '../../lib/planner/program-hash.js'
import { aligned } from '../../lib/planner/storage.js'
import { Streaming } from '../../lib/planner/streaming.js'
import { layoutWeights } from '../../lib/planner/weights.js'
import type { Program } from '../../lib/program/graph.js'
import { checkPlan } from '../support/memory-model.js'
import {
  decoderLike,
  randomNumbers,
  randomProgram,
  temporalDecoderLike,
} from '../support/random-program.js'

/** Of plans whose weights all stand in memory. */
const resident = new Streaming(
  layoutWeights([], () => 'f16'),
  'cpu',
)

const options: PlanOptions = {
  target: { backend: 'cpu', threads: 2 },
  weightDtype: () => 'f16',
  streaming: 'never',
}

function specOf(program: Program): StageSpec {
  const state = Object.fromEntries(
    Object.entries({ ...program.inputs, ...program.outputs }).map(([name, { shape, dtype }]) => [
      name,
      { shape, dtype },
    ]),
  )
  return { name: 'stage', state, programs: { main: program }, runs: { main: 2 } }
}

/** What a file gives back. */
function stored(plan: StagePlan): StageRecord {
  return JSON.parse(JSON.stringify(encodeStage(plan))) as StageRecord
}

function commands(plan: StagePlan): Int32Array {
  return lower(plan.programs.main!, plan.weights, aligned(plan.stateBytes)).words
}

function leastPlan(spec: StageSpec): StagePlan {
  try {
    return planStage(spec, { ...options, budget: 0 })
  } catch (error) {
    assert.instance(error, BudgetError)
    return planStage(spec, { ...options, budget: (error as BudgetError).needed })
  }
}

/** Unsliced, halfway, and with the least memory. */
function plansOf(spec: StageSpec): StagePlan[] {
  const free = planStage(spec, options)
  const least = leastPlan(spec)
  const budget = Math.floor((free.peakBytes + least.peakBytes) / 2)
  return [free, planStage(spec, { ...options, budget }), least]
}

test('a plan comes back from its data: same peak, same commands, same data', () => {
  const programs = Array.from({ length: 40 }, (_, seed) => randomProgram(seed))
  for (const [i, program] of [
    ...programs,
    decoderLike(17, 5, 48),
    temporalDecoderLike(5, 8, 6),
  ].entries()) {
    const spec = specOf(program)
    for (const plan of plansOf(spec)) {
      const back = decodeStage(stored(plan), spec, options)
      assert.is(back.peakBytes, plan.peakBytes)
      assert.equal(commands(back), commands(plan), `program ${i}`)
      assert.is(JSON.stringify(encodeStage(back)), JSON.stringify(encodeStage(plan)))
      assert.equal(checkPlan(back.programs.main!), [])
    }
  }
})

test('the same network traced again may run it; any other may not', () => {
  const plan = leastPlan(specOf(randomProgram(4)))
  const again = specOf(randomProgram(4))
  assert.equal(commands(decodeStage(stored(plan), again, options)), commands(plan))
  const [kept, other] = [randomProgram(4), randomProgram(5)]
  const changed: Program[] = [
    other,
    { ...kept, nodes: kept.nodes.map(n => (n.op === 'conv2d' ? { ...n, attrs: {} } : n)) },
    {
      ...kept,
      nodes: kept.nodes.map(node => ({
        ...node,
        inputs: node.inputs.map(({ role, tensor }) => ({
          role,
          tensor: tensor.kind === 'weight' ? { ...tensor, name: `${tensor.name}2` } : tensor,
        })),
      })),
    },
  ]
  for (const program of changed) {
    assert.is.not(programHash(program), programHash(kept))
    const spec = { ...again, programs: { main: program } }
    refuses(() => decodeStage(stored(plan), spec, options), /./)
  }
  refuses(
    () => decodeStage(stored(plan), specOf(other), options),
    /expected a plan of this model and size for main, got one of another/,
  )
})

test('another machine, dtype, stage or run count is refused', () => {
  const spec = specOf(randomProgram(9))
  const record = stored(planStage(spec, options))
  const target = { backend: 'cpu', threads: 3 }
  refuses(
    () => decodeStage(record, spec, { ...options, target }),
    /with 3 threads computing in f32, got one for cpu with 2/,
  )
  const cuda = { backend: 'cuda', threads: 2 }
  refuses(() => decodeStage(record, spec, { ...options, target: cuda }), /a plan for cuda/)
  refuses(() => decodeStage(record, { ...spec, name: 'other' }, options), /stage other/)
  refuses(() => decodeStage(record, { ...spec, runs: {} }, options), /main to run 1 times, got 2/)
  const twice = { ...spec, programs: { main: spec.programs.main!, more: spec.programs.main! } }
  refuses(() => decodeStage(record, twice, options), /programs main, more/)
  if (record.weights.length > 0)
    refuses(
      () => decodeStage(record, spec, { ...options, weightDtype: () => 'f32' }),
      /weights of this checkpoint/,
    )
})

// biome-ignore lint/suspicious/noExplicitAny: data to be damaged in ways that no type allows
type Mutable = Record<string, any>

/** Ways to break a plan's data, each with what the refusal says. */
const damages: readonly [string, (stage: Mutable, main: Mutable) => void, RegExp][] = [
  ['all at one offset', (_, main) => main.offsets.fill(0), /apart, which are alive together/],
  [
    'an offset beyond',
    (_, main) => {
      main.offsets[0] = aligned(main.bytes) + 64
    },
    /to end within/,
  ],
  [
    'a negative offset',
    (_, main) => {
      main.offsets[0] = -64
    },
    /multiple of 64/,
  ],
  [
    'an odd offset',
    (_, main) => {
      main.offsets[0] += 2
    },
    /multiple of 64/,
  ],
  [
    'an offset that is no number',
    (_, main) => {
      main.offsets[0] = 'x'
    },
    /bytes and a lifetime/,
  ],
  ['an offset missing', (_, main) => main.offsets.pop(), /an offset for each buffer/],
  [
    'a buffer missing',
    (_, main) => {
      main.buffers.pop()
      main.offsets.pop()
    },
    /memory|scratch/,
  ],
  [
    'a smaller buffer',
    (_, main) => {
      main.buffers[0].bytes -= 4
    },
    /bytes/,
  ],
  [
    'a shorter life',
    (_, main) => {
      main.buffers[0].end = main.buffers[0].start + 1
    },
    /alive from|scratch|lifetime/,
  ],
  [
    'fewer bytes in all',
    (_, main) => {
      main.bytes -= 64
    },
    /to end within/,
  ],
  [
    'more bytes in all',
    (_, main) => {
      main.bytes += 64
    },
    /expected a peak of/,
  ],
  [
    'another peak',
    stage => {
      stage.peakBytes -= 1
    },
    /expected a peak of/,
  ],
  [
    'another arena',
    stage => {
      stage.arenaBytes += 1
    },
    /expected a peak of/,
  ],
  [
    'ops swapped',
    (_, main) => {
      main.groups.reverse()
    },
    /./,
  ],
  [
    'an op left out',
    (_, main) => {
      main.groups[0].nodes.pop()
    },
    /./,
  ],
  [
    'an op twice',
    (_, main) => {
      main.groups[0].nodes.push(main.groups[0].nodes[0])
    },
    /each op in one group/,
  ],
  [
    'an unknown op',
    (_, main) => {
      main.groups[0].nodes[0] = 10_000
    },
    /the number of an op/,
  ],
  [
    'another op',
    (_, main) => {
      main.nodes[0][0] = 'unary'
    },
    /to compute what the model does/,
  ],
  [
    'another attribute',
    (_, main) => {
      main.nodes[0][3] = { made: 'up' }
    },
    /to compute what the model does/,
  ],
  [
    'another operand',
    (_, main) => {
      main.nodes.at(-1)[2][0][1] = main.nodes[0][4]
    },
    /./,
  ],
  [
    'an unknown tensor',
    (_, main) => {
      main.nodes[0][2][0][1] = 1e6
    },
    /the number of a tensor/,
  ],
  [
    'another output',
    (_, main) => {
      for (const name in main.outputs) main.outputs[name] = main.nodes[0][4]
    },
    /output/,
  ],
  [
    'a chunk of zero',
    (_, main) => {
      main.slicings[0].chunk = 0
    },
    /slices of 1 to/,
  ],
  [
    'a chunk too large',
    (_, main) => {
      main.slicings[0].chunk = 1e9
    },
    /slices of 1 to/,
  ],
  ['a slicing missing', (_, main) => main.slicings.pop(), /a slicing for each group/],
  [
    'an inner slice too many',
    (_, main) => main.slicings[0].inner.push(1),
    /slices for each inner group/,
  ],
  [
    'scratch of an operand',
    (_, main) => {
      for (const b of main.buffers) if (b.kind === 'scratch') b.input = 0
    },
    /what a buffer of its kind is/,
  ],
  [
    'scratch twice, the other time for nothing',
    (_, main) => {
      const at = main.buffers.findIndex(({ kind }: Mutable) => kind === 'scratch')
      if (at < 0) return
      main.buffers.push({ ...main.buffers[at], bytes: 0 })
      main.offsets.push(0)
    },
    /once/,
  ],
  [
    'a whole tensor that is a band',
    (_, main) => {
      for (const b of main.buffers) if (b.kind === 'whole') b.band = { axis: 1, range: [0, 1] }
    },
    /what a buffer of its kind is/,
  ],
  [
    'a whole tensor of one slice',
    (_, main) => {
      for (const b of main.buffers) if (b.kind === 'whole') b.slice = 1
    },
    /what a buffer of its kind is/,
  ],
  [
    'a whole tensor with an op',
    (_, main) => {
      for (const b of main.buffers) if (b.kind === 'whole') b.node = 0
    },
    /what a buffer of its kind is/,
  ],
  [
    'no work',
    (_, main) => {
      main.work = null
    },
    /work, commands and a bound/,
  ],
  [
    'commands in words',
    (_, main) => {
      main.commands = 'many'
    },
    /work, commands and a bound/,
  ],
  [
    'half a band',
    (_, main) => {
      main.slicings[0].bands = 0.5
    },
    /bands of rows/,
  ],
  [
    'another extent',
    (_, main) => {
      main.groups[0].extent += 1
    },
    /extent of its ops/,
  ],
  [
    'state over state',
    stage => {
      for (const s of Object.values<Mutable>(stage.state)) s.offset = 0
    },
    /apart from the others/,
  ],
  [
    'state beyond',
    stage => {
      stage.stateBytes = 64
    },
    /within 64 bytes/,
  ],
  [
    'state of another shape',
    stage => {
      Object.values<Mutable>(stage.state)[0]!.shape = [1]
    },
    /as traced/,
  ],
  [
    'weights moved',
    stage => {
      for (const w of stage.weights) w[3] += 64
    },
    /weights of this checkpoint/,
  ],
  [
    'no programs',
    stage => {
      stage.programs = []
    },
    /programs main/,
  ],
  [
    'no buffers',
    (_, main) => {
      delete main.buffers
    },
    /malformed/,
  ],
  [
    'a list for a name',
    (_, main) => {
      main.tensors[0] = 7
    },
    /malformed/,
  ],
]

test('damaged data is refused, whatever is damaged', () => {
  for (const seed of [1, 12, 33]) {
    const spec = specOf(randomProgram(seed))
    for (const plan of plansOf(spec)) {
      for (const [name, damage, message] of damages) {
        const record = stored(plan) as Mutable
        const main = record.programs[0] as Mutable
        const before = JSON.stringify(record)
        damage(record, main)
        if (JSON.stringify(record) === before) continue
        if (main?.buffers?.length === 0 || main?.offsets?.length < 2) continue
        refuses(() => decodeStage(record as StageRecord, spec, options), message, name)
      }
    }
  }
})

test('buffers moved or shortened at random are refused, unless the plan stays sound', () => {
  const programs = Array.from({ length: 20 }, (_, seed) => randomProgram(seed))
  const least = [...programs, decoderLike(9, 5, 24), decoderLike(14, 5, 24)].map(
    program => leastPlan(specOf(program)).programs.main!,
  )
  let refused = 0
  for (let seed = 0; seed < 300; seed++) {
    const next = randomNumbers(seed)
    const main = least[seed % least.length]!
    if (main.buffers.length === 0) continue
    const at = Math.floor(next() * main.buffers.length)
    const buffers = [...main.buffers]
    const offsets = [...main.offsets]
    const kind = seed % 3
    if (kind === 0) offsets[at] = 64 * Math.floor((next() * main.bytes) / 64)
    if (kind === 1) buffers[at] = { ...buffers[at]!, end: buffers[at]!.end - 1 }
    if (kind === 2) buffers[at] = { ...buffers[at]!, start: buffers[at]!.start + 1 }
    const changed = { ...main, buffers, offsets }
    const fault = faultOf(changed, resident)
    if (fault !== undefined) refused++
    else assert.equal(checkPlan(changed), [], `seed ${seed} kind ${kind}`)
  }
  assert.ok(refused > 150, `${refused}`)
})

test('a document keeps its checksum through a file, and notices a change', () => {
  const plan = planStage(specOf(randomProgram(3)), options)
  const text = JSON.stringify(sealDocument({ stages: [encodeStage(plan)], note: 'a' }))
  assert.is(JSON.stringify(openDocument(text, 'p.json')), text)
  refuses(
    () => openDocument(text.replace('"note":"a"', '"note":"b"'), 'p.json'),
    /one that was changed/,
  )
  refuses(
    () => openDocument(text.slice(0, 100), 'p.json'),
    /p\.json: expected a plan written by sluice/,
  )
  refuses(() => openDocument('[]', 'p.json'), /another file/)
  refuses(() => openDocument('null', 'p.json'), /another file/)
  refuses(
    () => openDocument(text.replace(`"version":${planFileVersion}`, '"version":99'), 'p.json'),
    new RegExp(`plan version ${planFileVersion}`),
  )
})

function refuses(action: () => unknown, message: RegExp, name = ''): void {
  try {
    action()
  } catch (error) {
    assert.instance(error, PlanError, `${name}: ${(error as Error).stack}`)
    assert.match((error as Error).message, message, name)
    return
  }
  assert.unreachable(`${name}: expected a refusal`)
}

test.run()
