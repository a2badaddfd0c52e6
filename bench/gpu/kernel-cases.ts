/** Kernels that decide a step's time, at the sizes of Stable Diffusion 1.5 (16 frames of 512 x 512) and SVD (14 of 576 x 1024), in float16. */

interface Common {
  readonly name: string
  /** Least share of the rival's speed, or of the bandwidth of a copy. */
  readonly goal: number
}
/** [pixels, inputs] by [inputs, outputs]. */
export interface GemmCase extends Common {
  readonly kind: 'gemm'
  readonly rows: number
  readonly inputs: number
  readonly outputs: number
}
export interface ConvCase extends Common {
  readonly kind: 'conv'
  readonly frames: number
  readonly rows: number
  readonly cols: number
  readonly inputs: number
  readonly outputs: number
  readonly kernel: readonly [number, number]
}
/** Tokens of a frame, or with `time` the frames of a pixel. */
export interface AttentionCase extends Common {
  readonly kind: 'attention' | 'temporal'
  readonly frames: number
  readonly tokens: number
  readonly keys: number
  readonly heads: number
  readonly headDim: number
}
/** Group norm with SiLU over the pixels of each frame, or layer norm over the channels of each token. */
export interface NormCase extends Common {
  readonly kind: 'norm'
  readonly layer: boolean
  readonly frames: number
  readonly pixels: number
  readonly channels: number
}
export type KernelCase = GemmCase | ConvCase | AttentionCase | NormCase
export type KernelKind = KernelCase['kind']

export const kernelKinds: readonly KernelKind[] = ['gemm', 'conv', 'attention', 'temporal', 'norm']

const gemm = (rows: number, inputs: number, outputs: number): GemmCase => {
  return {
    kind: 'gemm',
    name: `${rows} x ${inputs} x ${outputs}`,
    goal: 0.8,
    rows,
    inputs,
    outputs,
  }
}
const conv = (
  frames: number,
  rows: number,
  cols: number,
  inputs: number,
  outputs: number,
  kernel: readonly [number, number] = [3, 3],
): ConvCase => {
  const name = `${kernel.join(' x ')}, ${frames} x ${rows} x ${cols}, ${inputs} to ${outputs}`
  return { kind: 'conv', name, goal: 0.85, frames, rows, cols, inputs, outputs, kernel }
}
const attention = (
  frames: number,
  tokens: number,
  heads: number,
  headDim: number,
  keys = tokens,
): AttentionCase => {
  const name = `d ${headDim}, ${frames} x ${heads} heads, ${tokens} on ${keys}`
  return { kind: 'attention', name, goal: 0.75, frames, tokens, keys, heads, headDim }
}
const temporal = (frames: number, pixels: number, heads: number, headDim: number) => {
  const name = `d ${headDim}, ${frames} frames, ${pixels} pixels, ${heads} heads`
  const kind = 'temporal' as const
  return { kind, name, goal: 0.8, frames, tokens: pixels, keys: frames, heads, headDim }
}
const norm = (frames: number, pixels: number, channels: number, layer = false): NormCase => {
  const name = `${layer ? 'layer' : 'group'} norm, ${frames} x ${pixels} x ${channels}`
  return { kind: 'norm', name, goal: 0.8, layer, frames, pixels, channels }
}

export const kernelCases: readonly KernelCase[] = [
  gemm(4096, 4096, 4096),
  gemm(65536, 320, 320),
  gemm(65536, 320, 2560),
  gemm(16384, 1280, 640),
  gemm(4096, 1280, 1280),
  gemm(129024, 320, 320),
  conv(16, 64, 64, 320, 320),
  conv(16, 64, 64, 640, 320),
  conv(16, 32, 32, 640, 640),
  conv(16, 16, 16, 1280, 1280),
  conv(16, 8, 8, 1280, 1280),
  conv(14, 72, 128, 320, 320),
  conv(14, 36, 64, 640, 640),
  conv(1, 14, 9216, 320, 320, [3, 1]),
  conv(1, 512, 512, 256, 128),
  conv(1, 512, 512, 128, 128),
  attention(16, 4096, 8, 40),
  attention(16, 1024, 8, 80),
  attention(16, 256, 8, 160),
  attention(16, 64, 8, 160),
  attention(14, 9216, 5, 64),
  attention(14, 2304, 10, 64),
  attention(16, 4096, 8, 40, 77),
  temporal(16, 4096, 8, 40),
  temporal(16, 1024, 8, 80),
  temporal(14, 9216, 5, 64),
  temporal(25, 9216, 5, 64),
  norm(16, 4096, 320),
  norm(14, 9216, 320),
  norm(1, 262144, 128),
  norm(16, 4096, 320, true),
]

/** One of each, for an emulated device. */
export const smallKernelCases: readonly KernelCase[] = [
  gemm(64, 32, 48),
  gemm(150, 64, 72),
  conv(2, 6, 5, 16, 24),
  conv(1, 9, 8, 64, 40),
  conv(1, 4, 9, 16, 16, [3, 1]),
  attention(2, 20, 2, 40),
  attention(1, 12, 2, 64, 7),
  temporal(5, 6, 2, 40),
  norm(2, 12, 64),
  norm(2, 12, 64, true),
]

/** Operations of a case, and bytes that it moves at least: each input read once, each output written once. */
export function workOf(c: KernelCase): { flops: number; bytes: number } {
  switch (c.kind) {
    case 'gemm':
      return {
        flops: 2 * c.rows * c.inputs * c.outputs,
        bytes: 2 * (c.rows * (c.inputs + c.outputs) + c.inputs * c.outputs),
      }
    case 'conv': {
      const pixels = c.frames * c.rows * c.cols
      const taps = c.kernel[0] * c.kernel[1]
      return {
        flops: 2 * pixels * c.inputs * c.outputs * taps,
        bytes: 2 * (pixels * (c.inputs + c.outputs) + c.inputs * c.outputs * taps),
      }
    }
    case 'attention':
    case 'temporal': {
      const channels = c.heads * c.headDim
      const keys = c.kind === 'temporal' ? c.tokens * c.frames : c.frames * c.keys
      return {
        flops: 4 * c.frames * c.tokens * c.keys * channels,
        bytes: 2 * channels * (2 * c.frames * c.tokens + 2 * keys),
      }
    }
    case 'norm': {
      const values = c.frames * c.pixels * c.channels
      // Statistics read once more than the application does; a layer's are at hand.
      return { flops: 8 * values, bytes: 2 * values * (c.layer ? 2 : 3) }
    }
  }
}
