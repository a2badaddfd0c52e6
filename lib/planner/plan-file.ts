import { createHash } from 'node:crypto'
import { PlanError } from '../errors.js'
import type { Attrs, Node, Program } from '../program/graph.js'
import type { Target } from '../program/op.js'
import { type DType, sameShape, type Tensor, tensorBytes } from '../program/tensor.js'
import { commandVersion } from './commands.js'
import type { Group } from './group.js'
import {
  hostBytesOf,
  type PlanOptions,
  type ProgramPlan,
  prepareStage,
  type StagePlan,
  type StageSpec,
} from './plan.js'
import { faultOf, stateFault } from './plan-check.js'
import { programHash, valueHashes } from './program-hash.js'
import { aligned, type Buffer } from './storage.js'
import { Streaming } from './streaming.js'
import { type PackedWeight, weightKey } from './weights.js'

/** Raised when a field below changes its meaning; files of other versions are refused. */
export const planFileVersion = 3

type TensorRecord = readonly [
  id: number,
  name: string,
  shape: readonly number[],
  dtype: DType,
  kind: Tensor['kind'] | 'host',
]
type NodeRecord = readonly [
  op: string,
  name: string,
  inputs: readonly (readonly [role: string, tensor: number])[],
  attrs: Attrs,
  output: number,
]
type Refer<T, K extends keyof T> = Omit<T, K> & { readonly [P in K]?: unknown }

/** A program's plan as data. Nodes are named by their place in `nodes`, tensors by their ids. */
export interface ProgramRecord
  extends Omit<ProgramPlan, 'traced' | 'program' | 'groups' | 'buffers' | 'target'> {
  /** Hashes of the program as traced, and as it is after the planner's passes. */
  readonly traced: string
  readonly prepared: string
  readonly tensors: readonly TensorRecord[]
  readonly nodes: readonly NodeRecord[]
  /** Tensors by output name. */
  readonly outputs: Readonly<Record<string, number>>
  readonly groups: readonly (Refer<Group, 'nodes' | 'id' | 'again'> & {
    nodes: readonly number[]
    again?: readonly { index: number; of: number }[]
  })[]
  readonly buffers: readonly (Refer<Buffer, 'tensors' | 'node' | 'tied' | 'id'> & {
    tensors: readonly number[]
    node?: number
    tied?: { to: number; end: 'top' | 'bottom' }
  })[]
}

type WeightRecord = readonly [
  key: string,
  form: number,
  dtype: DType,
  offset: number,
  bytes: number,
]

/** A stage's plan as data. */
export interface StageRecord {
  readonly name: string
  readonly state: StagePlan['state']
  readonly stateBytes: number
  readonly arenaBytes: number
  readonly weightBytes: number
  readonly peakBytes: number
  readonly cost: string
  readonly target: Target
  readonly activations: DType
  readonly weights: readonly WeightRecord[]
  /** Those that are streamed; buffers name the tensor that one is streamed into by its negative number. */
  readonly streamed: readonly WeightRecord[]
  readonly hostBytes: number
  readonly programs: readonly ProgramRecord[]
}

/** A stage's plan as plain data that `decodeStage` takes back. */
export function encodeStage(plan: StagePlan): StageRecord {
  return {
    name: plan.name,
    state: plan.state,
    stateBytes: plan.stateBytes,
    arenaBytes: plan.arenaBytes,
    weightBytes: plan.weights.bytes,
    peakBytes: plan.peakBytes,
    cost: plan.cost,
    target: plan.target,
    activations: plan.activations,
    weights: weightRecords(plan.weights.weights),
    streamed: weightRecords(plan.weights.streamed),
    hostBytes: plan.hostBytes,
    programs: Object.values(plan.programs).map(encodeProgram),
  }
}

function weightRecords(weights: readonly PackedWeight[]): WeightRecord[] {
  return weights.map(({ tensor, form, dtype, offset, bytes }) => [
    tensor.name,
    form,
    dtype,
    offset,
    bytes,
  ])
}

function encodeProgram({ program, traced, target: _, ...plan }: ProgramPlan): ProgramRecord {
  const place = new Map(program.nodes.map((node, i) => [node, i]))
  const tensors = new Map<number, Tensor>()
  for (const { inputs, output } of program.nodes)
    for (const tensor of [...inputs.map(input => input.tensor), output])
      tensors.set(tensor.id, tensor)
  for (const tensor of Object.values(program.inputs)) tensors.set(tensor.id, tensor)
  return {
    ...plan,
    traced: programHash(traced),
    prepared: programHash(program),
    tensors: [...tensors.values()].map(({ id, name, shape, dtype, kind, host }) => [
      id,
      name,
      shape,
      dtype,
      host ? 'host' : kind,
    ]),
    nodes: program.nodes.map(({ op, name, inputs, attrs, output }) => [
      op,
      name,
      inputs.map(({ role, tensor }) => [role, tensor.id]),
      attrs,
      output.id,
    ]),
    outputs: Object.fromEntries(
      Object.entries(program.outputs).map(([name, { id }]) => [name, id]),
    ),
    groups: plan.groups.map(({ id: _id, nodes, again, ...group }) => ({
      ...group,
      nodes: nodes.map(node => place.get(node)!),
      ...(again && { again: again.map(({ index, of }) => ({ index, of: of.id })) }),
    })),
    buffers: plan.buffers.map(({ id: _id, tensors: held, node, tied, ...buffer }) => ({
      ...buffer,
      tensors: held.map(({ id }) => id),
      ...(node && { node: place.get(node)! }),
      ...(tied && { tied: { ...tied, to: tied.to.id } }),
    })),
  }
}

/**
 * The plan of a stage from its data, for a stage that was just traced. Nothing in the data is believed: the program must compute the
 * traced one's values, weights and state must stand as they would anew, and memory is checked apart from the planner.
 * @throws PlanError
 */
export function decodeStage(record: StageRecord, spec: StageSpec, options: PlanOptions): StagePlan {
  const where = `plan of stage ${spec.name}`
  const expect: Expect = (holds, expected, got = 'something else') => {
    if (!holds)
      throw new PlanError(`${where}: expected ${expected}, got ${got}; make the plan again`)
  }
  try {
    return decode(record, spec, options, expect)
  } catch (error) {
    // Data of the wrong shape: a missing list, a number for a name.
    if (error instanceof TypeError || error instanceof RangeError)
      throw new PlanError(
        `${where}: expected a plan's data, got something malformed; make the plan again`,
        { cause: error },
      )
    throw error
  }
}

type Expect = (holds: unknown, expected: string, got?: string) => void

function describeTarget({ backend, threads, compute, wgmma }: Target): string {
  const by = wgmma ? ' and by wgmma' : ''
  return `${backend} with ${threads} threads computing in ${compute ?? 'f32'}${by}`
}

function decode(
  record: StageRecord,
  spec: StageSpec,
  options: PlanOptions,
  expect: Expect,
): StagePlan {
  const { target } = options
  expect(record.name === spec.name, `stage ${spec.name}`, `${record.name}`)
  expect(
    describeTarget(record.target) === describeTarget(target),
    `a plan for ${describeTarget(target)}`,
    `one for ${describeTarget(record.target)}`,
  )
  const names = Object.keys(spec.programs).join(', ')
  expect(
    names === record.programs.map(({ name }) => name).join(', '),
    `programs ${names}`,
    record.programs.map(({ name }) => name).join(', '),
  )
  for (const { name, traced } of record.programs) {
    const same = traced === programHash(spec.programs[name]!)
    expect(same, `a plan of this model and size for ${name}`, 'one of another')
  }
  const streams = new Set(
    record.streamed.map(([key, form]) => weightKey(form as PackedWeight['form'], key)),
  )
  const { prepared, weights, activations } = prepareStage(
    spec,
    { ...options, activations: record.activations },
    streams,
  )
  checkState(record, spec, expect)
  for (const list of ['weights', 'streamed'] as const)
    expect(
      JSON.stringify(record[list]) === JSON.stringify(weightRecords(weights[list])),
      'the weights of this checkpoint, in its dtypes',
      'others',
    )
  const streaming = new Streaming(weights, target.backend)
  const base = aligned(record.stateBytes)
  let arenaBytes = record.stateBytes
  const programs: Record<string, ProgramPlan> = {}
  for (const [i, { name, program }] of prepared.entries()) {
    const traced = spec.programs[name]!
    const plan = decodeProgram(record.programs[i]!, traced, program, streaming, target, expect)
    const runs = spec.runs?.[name] ?? 1
    expect(plan.runs === runs, `${name} to run ${runs} times`, `${plan.runs}`)
    const fault = faultOf(plan, streaming)
    expect(!fault, `${name}: ${fault}`)
    programs[name] = plan
    if (plan.bytes > 0) arenaBytes = Math.max(arenaBytes, base + plan.bytes)
  }
  const hostBytes = hostBytesOf(weights, target, Object.values(programs))
  expect(record.hostBytes === hostBytes, `${hostBytes} bytes on the host`, `${record.hostBytes}`)
  const peakBytes = arenaBytes + weights.bytes
  expect(
    record.arenaBytes === arenaBytes && record.peakBytes === peakBytes,
    `a peak of ${peakBytes} bytes`,
    `${record.peakBytes}`,
  )
  return {
    name: spec.name,
    state: record.state,
    stateBytes: record.stateBytes,
    programs,
    weights,
    arenaBytes,
    peakBytes,
    hostBytes,
    target,
    cost: record.cost,
    activations,
  }
}

function checkState(record: StageRecord, spec: StageSpec, expect: Expect): void {
  const names = Object.keys(spec.state)
  expect(names.join() === Object.keys(record.state).join(), `state ${names.join(', ')}`)
  for (const name of names) {
    const [own, read] = [spec.state[name]!, record.state[name]!]
    const same = own.dtype === read.dtype && sameShape(own.shape, read.shape)
    expect(same && read.bytes === tensorBytes(own), `state ${name} as traced`)
  }
  const fault = stateFault(record.state, record.stateBytes)
  expect(!fault, `${fault}`)
}

function decodeProgram(
  record: ProgramRecord,
  traced: Program,
  prepared: Program,
  streaming: Streaming,
  target: Target,
  expect: Expect,
): ProgramPlan {
  const { tensors: tensorRecords, nodes: nodeRecords, outputs: _, prepared: hash, ...rest } = record
  const tensors = new Map<number, Tensor>()
  const weights = new Map(prepared.weights.map(tensor => [tensor.name, tensor]))
  for (const [id, name, shape, dtype, kind] of tensorRecords) {
    const fresh = kind === 'weight' ? weights.get(name) : prepared.inputs[name]
    const made = kind === 'value' || kind === 'host'
    expect(made || fresh, `a known ${kind}`, name)
    expect(!tensors.has(id), 'tensors with numbers of their own', `${id} twice`)
    const host = kind === 'host' && { host: true }
    tensors.set(id, made ? { id, name, shape, dtype, kind: 'value', ...host } : fresh!)
  }
  const tensor = (id: number): Tensor => {
    const found = tensors.get(id)
    expect(found, 'the number of a tensor', `${id}`)
    return found!
  }
  const nodes = nodeRecords.map(
    ([op, name, inputs, attrs, output], id): Node => ({
      id,
      op,
      name,
      inputs: inputs.map(([role, input]) => ({ role, tensor: tensor(input) })),
      attrs,
      output: tensor(output),
    }),
  )
  for (const streamed of nodes.flatMap(node => streaming.of(node)))
    tensors.set(streamed.tensor.id, streamed.tensor)
  // Every value must be one that the traced program computes; then so are the outputs.
  const known = valueHashes(prepared)
  const values = new Set(known.values())
  const own = valueHashes({ ...prepared, nodes })
  const written = new Set<Tensor>()
  for (const { name, op, inputs, output } of nodes) {
    expect(output.kind === 'value' && !written.has(output), `${name} to write a tensor of its own`)
    expect(values.has(own.get(output)!), `${name} to compute what the model does`)
    written.add(output)
    const moves = op === 'move' && target.backend !== 'cpu'
    const hosted = [output, ...inputs.map(input => input.tensor)].some(({ host }) => host)
    expect(moves || !hosted, `${name} to work in the device's memory`)
  }
  expect(hash === programHash(prepared, known), 'a plan made by this version', 'another')
  const outputs = Object.fromEntries(
    Object.entries(prepared.outputs).map(([name, output]) => {
      const found = tensor(record.outputs[name]!)
      expect(written.has(found) && own.get(found) === known.get(output), `output ${name}`)
      return [name, found]
    }),
  )
  const node = (index: number): Node => {
    expect(nodes[index], 'the number of an op', `${index}`)
    return nodes[index]!
  }
  const { work, peak, commands, lowerBound } = record
  const amounts = [commands, lowerBound, work?.flops, work?.bytes, work?.seconds]
  const counted = amounts.every(amount => Number.isFinite(amount) && amount >= 0)
  expect(counted, 'work, commands and a bound as numbers')
  expect(typeof peak?.op === 'string' && typeof peak.tensor === 'string', 'the op of the peak')
  const groups = record.groups.map(({ again, ...group }, id): Group => {
    const decoded = { ...group, id, nodes: group.nodes.map(node) }
    if (!again) return decoded
    return { ...decoded, again: again.map(({ index, of }) => ({ index, of: tensor(of) })) }
  })
  for (const { nodes: made, again = [] } of groups)
    for (const { index, of } of again) {
      const copy = made[index]?.output
      expect(copy && own.get(copy) === own.get(of), 'copies of what they are made again for')
    }
  return {
    ...rest,
    traced,
    program: { ...prepared, nodes, outputs },
    groups,
    buffers: record.buffers.map(({ node: owner, tied, ...buffer }, id) => ({
      ...buffer,
      id,
      tensors: buffer.tensors.map(tensor),
      ...(owner !== undefined && { node: node(owner) }),
      ...(tied && { tied: { ...tied, to: tensor(tied.to) } }),
    })),
    target,
  }
}

/** What a file of plans holds besides the stages. */
export interface PlanDocument {
  readonly format: 'sluice-plan'
  readonly version: number
  /** Of the command stream that the plan was made for. */
  readonly commandVersion: number
  readonly stages: readonly StageRecord[]
  readonly checksum: string
}

/** Completes a document with its version and a checksum over all of it. */
export function sealDocument<T extends { readonly stages: readonly StageRecord[] }>(
  content: T,
): PlanDocument & T {
  const document = { format: 'sluice-plan', version: planFileVersion, commandVersion, ...content }
  return { ...document, checksum: checksumOf(document) } as PlanDocument & T
}

/** Parses a document and checks that it is whole. @throws PlanError */
export function openDocument(text: string, where: string): PlanDocument & Record<string, unknown> {
  const refuse = (expected: string, got: string, cause?: unknown) =>
    new PlanError(`${where}: expected ${expected}, got ${got}; make the plan again`, { cause })
  let document: Record<string, unknown>
  try {
    document = JSON.parse(text) as Record<string, unknown>
  } catch (error) {
    throw refuse('a plan written by sluice', (error as Error).message, error)
  }
  if (document?.format !== 'sluice-plan') throw refuse('a plan written by sluice', 'another file')
  if (document.version !== planFileVersion || document.commandVersion !== commandVersion)
    throw refuse(
      `plan version ${planFileVersion} for commands ${commandVersion}`,
      `${document.version} for ${document.commandVersion}`,
    )
  const { checksum, ...content } = document
  if (checksum !== checksumOf(content)) throw refuse('a whole file', 'one that was changed')
  return document as PlanDocument & Record<string, unknown>
}

function checksumOf(content: object): string {
  return createHash('sha256').update(JSON.stringify(content)).digest('base64url')
}
