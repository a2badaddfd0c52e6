import type { Attrs, Node, Program } from '../program/graph.js'
import { opSpec } from '../program/op.js'
import { storedWords } from '../program/ops/quantise.js'
import type { DType, Tensor } from '../program/tensor.js'
import { featureNode, featureTensor } from './feature.js'

/** How a cached feature is stored. */
export const storages = ['f32', 'f16', 'int8'] as const
export type Storage = (typeof storages)[number]

/** Shape and dtype of a stored feature, for the state of a stage. */
export interface StoredSpec {
  readonly shape: readonly number[]
  readonly dtype: DType
}

export interface RehashPrograms {
  /** The network as it is, which besides writes the feature: output `cache`. */
  readonly full: Program
  /**
   * What follows the feature, and nothing else: inputs `cache0` (the latest), `cache1` and `cacheWeights` f32 [2] where two are combined, and
   * those of the network's inputs that are still read; output `sample`.
   */
  readonly skipped: Program
  readonly cache: StoredSpec
}

export interface RehashProgramOptions {
  /** Path of the module whose output is kept. */
  readonly feature: string
  readonly storage: Storage
  /** Features that a skipped step combines: 1 reuses the latest, 2 forecasts from the last two. */
  readonly slots: 1 | 2
}

/**
 * Cuts a network at a feature. The part behind it is found by walking back from the output, so that any feature can be a cut: what is
 * read from before it (a skip, the time embedding) is computed again.
 * @param unet a program with the output `sample`
 * @throws OptionError for an unknown feature
 */
export function rehashPrograms(unet: Program, options: RehashProgramOptions): RehashPrograms {
  const { feature, storage } = options
  const node = featureNode(unet, feature)
  const { shape } = node.output
  const cache =
    storage === 'int8'
      ? { shape: [...shape.slice(0, 3), storedWords(shape[3]!)], dtype: 'i32' as const }
      : { shape, dtype: storage }
  return {
    full: fullProgram(unet, node, storage),
    skipped: skippedProgram(unet, options, cache),
    cache,
  }
}

function fullProgram(unet: Program, node: Node, storage: Storage): Program {
  const edit = new Edit(unet)
  const isOutput = Object.values(unet.outputs).includes(node.output)
  // A tensor is one output of a program; the prediction is one already.
  const store = storage === 'f32' && !isOutput ? undefined : edit.store(node.output, storage)
  const at = unet.nodes.indexOf(node) + 1
  const nodes = store ? unet.nodes.toSpliced(at, 0, store) : unet.nodes
  const outputs = { ...unet.outputs, cache: store?.output ?? node.output }
  return { ...unet, nodes: numbered(nodes), outputs }
}

function skippedProgram(
  unet: Program,
  { feature, storage, slots }: RehashProgramOptions,
  cache: StoredSpec,
): Program {
  const edit = new Edit(unet)
  const cut = featureTensor(unet, feature)
  const stored = Array.from({ length: slots }, (_, i) => edit.input(`cache${i}`, cache))
  const weights =
    slots > 1 ? edit.input('cacheWeights', { shape: [slots], dtype: 'f32' }) : undefined
  const restored = stored.map(tensor => edit.restore(tensor, cut, storage))
  const values = restored.map((node, i) => node?.output ?? stored[i]!)
  const combined = weights && edit.combine(weights, values)
  let value = combined?.output ?? values[0]!
  const head = [...restored, combined].filter(node => node !== undefined)
  const { sample } = unet.outputs as { sample: Tensor }
  // The prediction itself, as it was stored: an output must be the result of an op.
  if (cut === sample && value.kind === 'input') {
    const copy = edit.copy(value)
    head.push(copy)
    value = copy.output
  }
  const replace = (tensor: Tensor): Tensor => (tensor === cut ? value : tensor)
  const tail = readFrom(unet, sample, cut).map(
    (node): Node => ({
      ...node,
      inputs: node.inputs.map(({ role, tensor }) => ({ role, tensor: replace(tensor) })),
    }),
  )
  // Restored where it is first read: what is computed again before then needs no room beside it.
  const first = tail.findIndex(({ inputs }) => inputs.some(({ tensor }) => tensor === value))
  const nodes = numbered(tail.toSpliced(first < 0 ? tail.length : first, 0, ...head))
  const read = new Set(nodes.flatMap(({ inputs }) => inputs.map(({ tensor }) => tensor)))
  const inputs = [...Object.entries(unet.inputs), ...edit.inputs].filter(([, tensor]) =>
    read.has(tensor),
  )
  return {
    name: 'skipped',
    inputs: Object.fromEntries(inputs),
    outputs: { sample: replace(sample) },
    weights: unet.weights.filter(tensor => read.has(tensor)),
    nodes,
  }
}

/** The nodes that `output` needs once `cut` is known, in order. */
function readFrom(unet: Program, output: Tensor, cut: Tensor): Node[] {
  const writer = new Map(unet.nodes.map(node => [node.output, node]))
  const needed = new Set<Node>()
  const open = [output]
  for (let tensor = open.pop(); tensor; tensor = open.pop()) {
    const node = tensor === cut ? undefined : writer.get(tensor)
    if (!node || needed.has(node)) continue
    needed.add(node)
    open.push(...node.inputs.map(input => input.tensor))
  }
  return unet.nodes.filter(node => needed.has(node))
}

/** The network that writes some features besides its prediction: outputs by their paths. For measuring. @throws OptionError */
export function observedProgram(unet: Program, features: readonly string[]): Program {
  const edit = new Edit(unet)
  const nodes = [...unet.nodes]
  const seen = new Set(Object.values(unet.outputs))
  const entries = features.map(feature => {
    const node = featureNode(unet, feature)
    if (!seen.has(node.output)) {
      seen.add(node.output)
      return [feature, node.output] as const
    }
    const copy = edit.copy(node.output)
    nodes.splice(nodes.indexOf(node) + 1, 0, copy)
    return [feature, copy.output] as const
  })
  return {
    ...unet,
    nodes: numbered(nodes),
    outputs: { ...unet.outputs, ...Object.fromEntries(entries) },
  }
}

function numbered(nodes: readonly Node[]): Node[] {
  return nodes.map((node, id) => ({ ...node, id }))
}

/** New tensors and nodes beside a program's own. */
class Edit {
  readonly inputs: [string, Tensor][] = []
  private nextId: number

  constructor(program: Program) {
    const tensors = [
      ...Object.values(program.inputs),
      ...program.weights,
      ...program.nodes.map(({ output }) => output),
    ]
    this.nextId = 1 + Math.max(...tensors.map(({ id }) => id))
  }

  input(name: string, { shape, dtype }: StoredSpec): Tensor {
    const tensor: Tensor = { id: this.nextId++, name, shape, dtype, kind: 'input' }
    this.inputs.push([name, tensor])
    return tensor
  }

  store(tensor: Tensor, storage: Storage): Node {
    if (storage === 'int8') return this.node('quantise', 'cache.quantise', [['source', tensor]])
    return storage === 'f32' ? this.copy(tensor) : this.cast('cache.cast', tensor, storage)
  }

  /** Undefined: it is stored as it is read. */
  restore(stored: Tensor, as: Tensor, storage: Storage): Node | undefined {
    if (storage === 'f32') return undefined
    const name = `${stored.name}.restored`
    if (storage === 'f16') return this.cast(name, stored, 'f32')
    return this.node('dequantise', name, [['source', stored]], { channels: as.shape[3]! })
  }

  combine(weights: Tensor, values: readonly Tensor[]): Node {
    const sources = values.map(tensor => ['source', tensor] as const)
    return this.node('combine', 'cache.forecast', [['coefficients', weights], ...sources])
  }

  copy(tensor: Tensor): Node {
    return this.cast(`${tensor.name}.copy`, tensor, 'f32')
  }

  private cast(name: string, tensor: Tensor, dtype: DType): Node {
    return this.node('unary', name, [['source', tensor]], { act: 'none', dtype })
  }

  private node(
    op: string,
    name: string,
    operands: readonly (readonly [role: string, tensor: Tensor])[],
    attrs: Attrs = {},
  ): Node {
    const inputs = operands.map(([role, tensor]) => ({ role, tensor }))
    const { shape, dtype } = opSpec(op).infer({ op, name, inputs, attrs })
    const output: Tensor = { id: this.nextId++, name, shape, dtype, kind: 'value' }
    return { id: 0, op, name, inputs, attrs, output }
  }
}
