import { type Node, type Operand, operand, operands, type Program } from '../program/graph.js'
import { opSpec } from '../program/op.js'
import { channelsOf } from '../program/ops/shared.js'
import type { Tensor } from '../program/tensor.js'

/** Ops of norm statistics: small results, float32 whatever the activations are stored in. */
export const statistics: ReadonlySet<string> = new Set(['norm_partials', 'norm_fold'])

/**
 * Splits each group norm into statistics and application, so that no slice ever changes a bit:
 * `norm_partials` of each source (one mean and M2 per frame, row and channel block, emitted right behind the op that writes the
 * source), `norm_fold` (merged in fixed order to a scale and a shift per channel), `affine` (pointwise).
 *
 * A tensor's blocks are the largest that divide the groups of every norm that reads it, alone or beside another source (a skip is
 * regrouped when it is read beside a feature: its blocks must also divide the offset at which it stands there).
 */
export function expandNorms(program: Program): Program {
  const blocks = statisticBlocks(program)
  let nextId = 1 + Math.max(...program.nodes.map(node => node.output.id), ...tensorIds(program))
  const make = (op: string, name: string, inputs: Operand[], attrs: Node['attrs']): Node => {
    const { shape, dtype } = opSpec(op).infer({ op, name, inputs, attrs })
    return {
      id: 0,
      op,
      name,
      inputs,
      attrs,
      output: { id: nextId++, name, shape, dtype, kind: 'value' },
    }
  }
  const partialsOf = new Map<Tensor, Node>()
  for (const [tensor, block] of blocks) {
    partialsOf.set(
      tensor,
      make('norm_partials', `${tensor.name}.partials`, [{ role: 'source', tensor }], { block }),
    )
  }
  const nodes: Node[] = []
  for (const tensor of Object.values(program.inputs))
    if (partialsOf.has(tensor)) nodes.push(partialsOf.get(tensor)!)
  for (const node of program.nodes) {
    if (node.op !== 'group_norm') {
      nodes.push(node)
    } else {
      const sources = operands(node, 'source')
      const { groups, eps, over, act } = node.attrs
      const partials = sources.map(source => ({
        role: 'partials',
        tensor: partialsOf.get(source)!.output,
      }))
      const weights = node.inputs.filter(({ role }) => role === 'gamma' || role === 'beta')
      const fold = make('norm_fold', `${node.name}.fold`, [...partials, ...weights], {
        groups,
        eps,
        over,
        blocks: sources.map(source => blocks.get(source)!),
        cols: sources[0]!.shape[2],
      })
      nodes.push(fold)
      const inputs = [
        ...sources.map(tensor => ({ role: 'source', tensor })),
        { role: 'affine', tensor: fold.output },
      ]
      nodes.push({
        id: 0,
        op: 'affine',
        name: node.name,
        inputs,
        attrs: { act },
        output: node.output,
      })
    }
    const partials = partialsOf.get(node.output)
    if (partials) nodes.push(partials)
  }
  return { ...program, nodes: nodes.map((node, id) => ({ ...node, id })) }
}

function tensorIds(program: Program): number[] {
  return [...Object.values(program.inputs), ...program.weights].map(tensor => tensor.id)
}

function statisticBlocks(program: Program): Map<Tensor, number> {
  const blocks = new Map<Tensor, number>()
  for (const node of program.nodes) {
    if (node.op !== 'group_norm') continue
    const sources = operands(node, 'source')
    const total = channelsOf(operand(node, 'gamma')!)
    const size = total / (node.attrs.groups as number)
    let offset = 0
    for (const source of sources) {
      const block = [size, offset, channelsOf(source)].reduce(gcd)
      blocks.set(source, gcd(block, blocks.get(source) ?? 0))
      offset += channelsOf(source)
    }
  }
  return blocks
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b)
}
