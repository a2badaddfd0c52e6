import { ProgramError } from '../errors.js'
import { opSpec } from './op.js'
import { checkShape, type DType, type Tensor, type WeightTensor } from './tensor.js'

export type AttrValue = number | string | boolean | readonly number[] | undefined
export type Attrs = Readonly<Record<string, AttrValue>>

/** An operand of a node with the part it plays: `source`, `weight`, `bias`, `residual`, … */
export interface Operand {
  readonly role: string
  readonly tensor: Tensor
}

/** An operator application. Every op has one output. */
export interface Node {
  readonly id: number
  readonly op: string
  /** Where in the model it stands: `down_blocks.0.resnets.1.conv1`. */
  readonly name: string
  readonly inputs: readonly Operand[]
  readonly attrs: Attrs
  readonly output: Tensor
}

/** A graph of operators in an order in which each tensor is written before it is read. Pure data. */
export interface Program {
  readonly name: string
  readonly inputs: Readonly<Record<string, Tensor>>
  readonly outputs: Readonly<Record<string, Tensor>>
  readonly weights: readonly WeightTensor[]
  readonly nodes: readonly Node[]
}

/** What a program's function receives. */
export interface Trace {
  /** A tensor given at each run. */
  input(name: string, shape: readonly number[], dtype?: DType): Tensor
  /** A weight, by its checkpoint key. The same key gives the same tensor. */
  weight(
    key: string,
    shape: readonly number[],
    options?: { dtype?: DType; fallback?: () => Float32Array },
  ): Tensor
  /** Prefixes the names of the ops traced inside. */
  scope<T>(name: string, body: () => T): T
}

/** Weights of temporal convolutions are [outputs, inputs, frames, rows, cols]. */
const weightAxes = 5

class Tracer implements Trace {
  readonly nodes: Node[] = []
  readonly inputs: Record<string, Tensor> = {}
  readonly weightsByKey = new Map<string, WeightTensor>()
  private readonly scopes: string[] = []
  private readonly owned = new WeakSet<Tensor>()
  private nextId = 0

  input(name: string, shape: readonly number[], dtype: DType = 'f32'): Tensor {
    checkShape(shape, `input ${name}`)
    if (this.inputs[name])
      throw new ProgramError(`input ${name}: expected a new name, got one already used`, name)
    const tensor = this.own({ id: this.nextId++, name, shape: [...shape], dtype, kind: 'input' })
    this.inputs[name] = tensor
    return tensor
  }

  weight(
    key: string,
    shape: readonly number[],
    options: { dtype?: DType; fallback?: () => Float32Array } = {},
  ): Tensor {
    checkShape(shape, `weight ${key}`, weightAxes)
    const known = this.weightsByKey.get(key)
    if (known) {
      if (known.shape.join() !== shape.join()) {
        throw new ProgramError(
          `weight ${key}: expected ${known.shape.join('x')} as before, got ${shape.join('x')}`,
          key,
        )
      }
      return known
    }
    const tensor: WeightTensor = this.own({
      id: this.nextId++,
      name: key,
      shape: [...shape],
      dtype: options.dtype ?? 'f32',
      kind: 'weight',
      ...(options.fallback && { fallback: options.fallback }),
    })
    this.weightsByKey.set(key, tensor)
    return tensor
  }

  scope<T>(name: string, body: () => T): T {
    this.scopes.push(name)
    try {
      return body()
    } finally {
      this.scopes.pop()
    }
  }

  apply(op: string, inputs: readonly Operand[], attrs: Attrs, label: string): Tensor {
    const name = [...this.scopes, label].join('.')
    for (const { tensor, role } of inputs) {
      if (!this.owned.has(tensor)) {
        throw new ProgramError(
          `${name} (${op}): expected a ${role} tensor of this program, got one of another`,
          name,
        )
      }
    }
    const { shape, dtype } = opSpec(op).infer({ name, op, inputs, attrs })
    const output = this.own<Tensor>({ id: this.nextId++, name, shape, dtype, kind: 'value' })
    this.nodes.push({ id: this.nodes.length, op, name, inputs, attrs, output })
    return output
  }

  private own<T extends Tensor>(tensor: T): T {
    this.owned.add(tensor)
    return tensor
  }
}

let current: Tracer | undefined

/** Adds an op to the program being traced. @throws ProgramError outside `program()` or when the op's rules are broken. */
export function traceOp(
  op: string,
  inputs: readonly Operand[],
  attrs: Attrs = {},
  label = op,
): Tensor {
  if (!current)
    throw new ProgramError(`${op}: expected to be called inside program(), got a call outside`, op)
  return current.apply(op, inputs, attrs, label)
}

/** Scope names for helpers that build parts of a model. */
export function scope<T>(name: string, body: () => T): T {
  if (!current)
    throw new ProgramError(
      `scope ${name}: expected to be called inside program(), got a call outside`,
      name,
    )
  return current.scope(name, body)
}

/**
 * Traces a tensor program: `body` is run once with tensors that stand for data of known shape, and the ops it calls are recorded.
 * @throws ProgramError naming the op, shapes and dtypes when a rule is broken.
 */
export function program(name: string, body: (trace: Trace) => Record<string, Tensor>): Program {
  if (current)
    throw new ProgramError(
      `program ${name}: expected no program being traced, got a nested call`,
      name,
    )
  const tracer = new Tracer()
  current = tracer
  try {
    // Bound, so that a program's function may take them apart: ({ input, weight }) => …
    const outputs = body({
      input: tracer.input.bind(tracer),
      weight: tracer.weight.bind(tracer),
      scope: tracer.scope.bind(tracer),
    })
    if (typeof outputs !== 'object' || outputs === null || Object.keys(outputs).length === 0)
      throw new ProgramError(`program ${name}: expected at least one output, got none`, name)
    const named = new Map<Tensor, string>()
    for (const [key, tensor] of Object.entries(outputs)) {
      if (tensor?.kind !== 'value')
        throw new ProgramError(
          `output ${key}: expected the result of an op, got ${tensor?.kind ? `${tensor.kind} ${tensor.name}` : typeof tensor}`,
          key,
        )
      const other = named.get(tensor)
      if (other !== undefined) {
        throw new ProgramError(
          `output ${key}: expected a tensor of its own, got ${tensor.name}, which is output ${other} already; return it once`,
          key,
        )
      }
      named.set(tensor, key)
    }
    return {
      name,
      inputs: tracer.inputs,
      outputs,
      weights: [...tracer.weightsByKey.values()],
      nodes: tracer.nodes,
    }
  } finally {
    current = undefined
  }
}

/** The tensors of one role, in order. */
export function operands(node: Pick<Node, 'inputs'>, role: string): Tensor[] {
  return node.inputs.filter(input => input.role === role).map(input => input.tensor)
}

export function operand(node: Pick<Node, 'inputs'>, role: string): Tensor | undefined {
  return node.inputs.find(input => input.role === role)?.tensor
}

/** A node that reads others instead of some tensors. */
export function reading(node: Node, instead: ReadonlyMap<Tensor, Tensor>): Node {
  const inputs = node.inputs.map(({ role, tensor }) => ({
    role,
    tensor: instead.get(tensor) ?? tensor,
  }))
  return { ...node, inputs }
}
