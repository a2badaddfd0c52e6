import {
  type Activation,
  conv2d,
  convTime,
  type DType,
  groupNorm,
  layerNorm,
  linear,
  type Source,
  scope,
  type Tensor,
  type Trace,
} from '../program/index.js'
import type { Conv2dOptions } from '../program/ops/conv.js'

/** How a checkpoint stores its weights, by key (`unet/conv_in.weight`): one dtype for all, or one for each. Default f32. */
export type WeightDTypes = DType | ((key: string) => DType)

/**
 * The layers below one path of one component. Weight keys are `component/path.name.weight`, as the checkpoint has them after the
 * slash; ops are named by the path alone.
 */
export class Layers {
  constructor(
    private readonly trace: Trace,
    private readonly component: string,
    private readonly dtypes: WeightDTypes = 'f32',
    private readonly path = '',
  ) {}

  /** The layers one module deeper. */
  at(name: string): Layers {
    return new Layers(this.trace, this.component, this.dtypes, this.join(name))
  }

  /** Traces ops under this path's name. */
  ops<T>(body: () => T): T {
    return this.path ? scope(this.path, body) : body()
  }

  weight(name: string, shape: readonly number[], fallback?: () => Float32Array): Tensor {
    const key = `${this.component}/${this.join(name)}`
    const dtype = typeof this.dtypes === 'function' ? this.dtypes(key) : this.dtypes
    return this.trace.weight(key, shape, { dtype, ...(fallback && { fallback }) })
  }

  /** A computed table, f32, shared by all of the component that name it. Checkpoints have no such key. */
  table(name: string, shape: readonly number[], values: () => Float32Array): Tensor {
    return this.trace.weight(`${this.component}/${name}`, shape, { fallback: values })
  }

  linear(
    name: string,
    source: Source,
    outputs: number,
    options: { bias?: boolean; act?: Activation } = {},
  ): Tensor {
    const layer = this.at(name)
    const weight = layer.weight('weight', [outputs, channelsOf(source)])
    const bias = options.bias === false ? undefined : layer.weight('bias', [outputs])
    return layer.ops(() =>
      linear(source, weight, { ...(bias && { bias }), ...(options.act && { act: options.act }) }),
    )
  }

  conv(
    name: string,
    source: Source,
    outputs: number,
    options: Omit<Conv2dOptions, 'bias'> & { kernel?: number; bias?: boolean } = {},
  ): Tensor {
    const { kernel = 3, bias: biased = true, ...rest } = options
    const layer = this.at(name)
    const weight = layer.weight('weight', [outputs, channelsOf(source), kernel, kernel])
    const bias = biased ? layer.weight('bias', [outputs]) : undefined
    return layer.ops(() => conv2d(source, weight, { ...rest, ...(bias && { bias }) }))
  }

  /** Convolution along the frames, 3x1x1. */
  convTime(name: string, source: Source, outputs: number): Tensor {
    const layer = this.at(name)
    const weight = layer.weight('weight', [outputs, channelsOf(source), 3, 1, 1])
    const bias = layer.weight('bias', [outputs])
    return layer.ops(() => convTime(source, weight, { bias }))
  }

  groupNorm(
    name: string,
    source: Source,
    options: { groups: number; eps: number; over?: 'frame' | 'video'; act?: Activation },
  ): Tensor {
    const layer = this.at(name)
    const channels = channelsOf(source)
    const gamma = layer.weight('weight', [channels])
    const beta = layer.weight('bias', [channels])
    return layer.ops(() => groupNorm(source, gamma, beta, options))
  }

  layerNorm(
    name: string,
    source: Tensor,
    options: { eps?: number; positions?: Tensor } = {},
  ): Tensor {
    const layer = this.at(name)
    const channels = channelsOf(source)
    const gamma = layer.weight('weight', [channels])
    const beta = layer.weight('bias', [channels])
    return layer.ops(() => layerNorm(source, gamma, beta, options))
  }

  private join(name: string): string {
    return this.path ? `${this.path}.${name}` : name
  }
}

/** Channels of a tensor, or of two read as one range. */
export function channelsOf(source: Source): number {
  const tensors = (Array.isArray(source) ? source : [source]) as readonly Tensor[]
  return tensors.reduce((sum, tensor) => sum + tensor.shape[tensor.shape.length - 1]!, 0)
}
