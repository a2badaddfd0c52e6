import type { Node, Program } from '../program/graph.js'
import { type Tensor, tensorBytes } from '../program/tensor.js'
import { sliceableAxes } from './group.js'

/**
 * Moves small work out of the way: what has no frames or rows of its own (projections of the text and of the time embedding, blend
 * factors) and needs nothing of the features computed since the last barrier goes to just behind that barrier, so that it does not
 * split a group. A barrier is a node that sums over all of a feature: statistics over a whole video.
 */
export function gatherSmallWork(program: Program): Program {
  const nodes: Node[] = []
  let small: Node[] = []
  let large: Node[] = []
  let written = new Set<Tensor>()
  const flush = () => {
    nodes.push(...small, ...large)
    small = []
    large = []
    written = new Set()
  }
  for (const node of program.nodes) {
    const dependent = node.inputs.some(({ tensor }) => written.has(tensor))
    if (!dependent && node.output.shape.length < 4) {
      small.push(node)
      continue
    }
    large.push(node)
    written.add(node.output)
    if (node.output.shape.length < 4 && sliceableAxes(node).length === 0) flush()
  }
  flush()
  return { ...program, nodes: nodes.map((node, id) => ({ ...node, id })) }
}

/**
 * Moves the last reader of a large tensor up behind the reader before it, where its other operands are ready and its result is no
 * larger: a residual block's shortcut beside its first convolution. The tensor dies sooner.
 */
export function advanceLastReaders(program: Program): Program {
  const nodes = [...program.nodes]
  for (const node of program.nodes) {
    if (!followsSource(node)) continue
    const [source] = valuesRead(node)
    const at = nodes.indexOf(node)
    const before = previousReader(nodes, source!, at)
    if (before < 0 || before + 1 >= at || lastReader(nodes, source!) !== at) continue
    nodes.splice(at, 1)
    nodes.splice(before + 1, 0, node)
  }
  return { ...program, nodes: nodes.map((node, id) => ({ ...node, id })) }
}

/** Whether a node can run as soon as the one tensor that it reads is there, and take no more memory than that. */
export function followsSource(node: Node): boolean {
  const [source, ...others] = valuesRead(node)
  return (
    source !== undefined && others.length === 0 && tensorBytes(node.output) <= tensorBytes(source)
  )
}

const valuesRead = ({ inputs }: Node): Tensor[] =>
  inputs.map(({ tensor }) => tensor).filter(({ kind }) => kind === 'value')

const reads = (node: Node, tensor: Tensor): boolean =>
  node.inputs.some(input => input.tensor === tensor)

function previousReader(nodes: readonly Node[], tensor: Tensor, at: number): number {
  for (let i = at - 1; i >= 0; i--) if (reads(nodes[i]!, tensor)) return i
  return -1
}

function lastReader(nodes: readonly Node[], tensor: Tensor): number {
  return nodes.findLastIndex(node => reads(node, tensor))
}
