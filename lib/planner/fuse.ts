import { type Node, type Operand, operand, operands, type Program } from '../program/graph.js'
import { activationOf, channelsOf } from '../program/ops/shared.js'
import { sameShape, type Tensor } from '../program/tensor.js'
import { products } from './wgmma.js'

/**
 * Folds pointwise work into the convolution or matrix product beside it, so that its tensor is never stored:
 * before it, norm application (+ activation) and nearest upsampling, read through; after it, a vector per channel (time embedding),
 * a residual, an activation. Each rule keeps the arithmetic of every output element, whatever the slices.
 * @param readsStored of a product that could apply the norm before it, whether it reads it as it is stored all the same
 */
export function fuse(
  program: Program,
  readsStored: (product: Node) => boolean = () => false,
): Program {
  const graph = new Uses(program)
  let nodes: Node[] = [...program.nodes]
  nodes = foldForward(nodes, graph, readsStored)
  nodes = foldBackward(nodes, graph)
  return { ...program, nodes: nodes.map((node, id) => ({ ...node, id })) }
}

class Uses {
  private readonly readers = new Map<Tensor, number>()
  private readonly outputs: Set<Tensor>
  constructor(program: Program) {
    this.outputs = new Set(Object.values(program.outputs))
    for (const node of program.nodes) {
      for (const { tensor } of node.inputs)
        this.readers.set(tensor, (this.readers.get(tensor) ?? 0) + 1)
    }
  }
  /** Read exactly once, and not an output of the program. */
  single(tensor: Tensor): boolean {
    return this.readers.get(tensor) === 1 && !this.outputs.has(tensor)
  }
  isOutput(tensor: Tensor): boolean {
    return this.outputs.has(tensor)
  }
}

const isProduct = (node: Node): boolean => products.has(node.op)

/** Norm application and upsampling into the products that read them; gone when every reader took it. */
function foldForward(nodes: Node[], uses: Uses, readsStored: (product: Node) => boolean): Node[] {
  const producer = new Map(nodes.map(node => [node.output, node]))
  const readers = new Map<Tensor, Node[]>()
  for (const node of nodes)
    for (const { tensor } of node.inputs)
      readers.set(tensor, [...(readers.get(tensor) ?? []), node])

  const gone = new Set<Node>()
  for (const node of nodes) {
    if (uses.isOutput(node.output)) continue
    const consumers = readers.get(node.output) ?? []
    if (
      node.op === 'affine' &&
      consumers.length > 0 &&
      consumers.every(reader => takesPrologue(reader, node) && !readsStored(reader))
    )
      gone.add(node)
    if (
      node.op === 'resize' &&
      consumers.length === 1 &&
      takesUpsampling(consumers[0]!, node.output)
    )
      gone.add(node)
  }
  return nodes
    .filter(node => !gone.has(node))
    .map(node => {
      if (!isProduct(node)) return node
      const source = producer.get(operands(node, 'source')[0]!)
      if (!source || !gone.has(source)) return node
      const rest = node.inputs.filter(({ role }) => role !== 'source')
      if (source.op === 'resize') {
        return {
          ...node,
          inputs: [...source.inputs, ...rest],
          attrs: { ...node.attrs, upsampleTo: source.attrs.size },
        }
      }
      return {
        ...node,
        inputs: [...source.inputs, ...rest],
        attrs: { ...node.attrs, prologueAct: source.attrs.act },
      }
    })
}

/** A temporal convolution reads several frames for one of its own, so it takes only what is the same for all. */
function takesPrologue(reader: Node, affine: Node): boolean {
  const tensor = affine.output
  if (reader.op === 'conv_time' && operand(affine, 'affine')!.shape[0] !== 1) return false
  const sources = operands(reader, 'source')
  const onlyThere = reader.inputs.filter(input => input.tensor === tensor).length === 1
  return (
    isProduct(reader) &&
    sources.length === 1 &&
    sources[0] === tensor &&
    onlyThere &&
    !operand(reader, 'affine') &&
    !reader.attrs.upsampleTo
  )
}

function takesUpsampling(reader: Node, tensor: Tensor): boolean {
  return (
    reader.op === 'conv2d' &&
    operands(reader, 'source').length === 1 &&
    operand(reader, 'source') === tensor &&
    !reader.attrs.upsampleTo
  )
}

/** Vectors, residuals and activations into the product that they follow. The fused node stands where the last of them stood. */
function foldBackward(nodes: Node[], uses: Uses): Node[] {
  const result: Node[] = []
  const at = new Map<Tensor, number>()
  for (const node of nodes) {
    const fused = fusedWith(node, result, at, uses)
    if (fused) {
      result[at.get(fused.from)!] = undefined as unknown as Node
      result.push(fused.node)
    } else {
      result.push(node)
    }
    at.set(node.output, result.length - 1)
  }
  return result.filter(Boolean)
}

function fusedWith(
  node: Node,
  done: Node[],
  at: Map<Tensor, number>,
  uses: Uses,
): { node: Node; from: Tensor } | undefined {
  const product = (tensor: Tensor | undefined): Node | undefined => {
    const found = tensor && done[at.get(tensor) ?? -1]
    return found && isProduct(found) && uses.single(tensor!) && activationOf(found.attrs) === 'none'
      ? found
      : undefined
  }
  if (node.op === 'unary' && !node.attrs.dtype) {
    const before = product(operand(node, 'source'))
    if (!before) return undefined
    return {
      from: before.output,
      node: { ...before, attrs: { ...before.attrs, act: node.attrs.act }, output: node.output },
    }
  }
  if (node.op !== 'binary' || node.attrs.op !== 'add') return undefined
  const a = operand(node, 'a')!
  const b = operand(node, 'b')!
  if (sameShape(a.shape, b.shape)) {
    for (const [main, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const before = product(main)
      if (before && main !== other && !operand(before, 'residual') && other.kind !== 'weight')
        return { from: main, node: extend(before, node, { role: 'residual', tensor: other }) }
    }
    return undefined
  }
  const before = product(a)
  const frames = a.shape.length === 4 && before?.op !== 'conv_time' ? a.shape[0] : 1
  const perChannel =
    b.shape.length === 2 &&
    (b.shape[0] === 1 || b.shape[0] === frames) &&
    channelsOf(b) === channelsOf(a)
  if (
    !before ||
    !perChannel ||
    b.kind === 'weight' ||
    operand(before, 'vector') ||
    operand(before, 'residual')
  )
    return undefined
  return { from: a, node: extend(before, node, { role: 'vector', tensor: b }) }
}

function extend(product: Node, add: Node, extra: Operand): Node {
  return { ...product, inputs: [...product.inputs, extra], output: add.output }
}
