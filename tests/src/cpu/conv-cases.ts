// The convolutions and linear layers that conv.test.ts compares with its reference.
import type { actCode } from '../../../lib/planner/commands.js'
import type { FloatType } from './support.js'

export type Act = Exclude<keyof typeof actCode, 'geglu'>

export interface Case {
  frames?: number
  /** Stored rows and columns of the sources. */
  stored: readonly [number, number]
  /** Rows and columns after nearest upsampling. */
  size?: readonly [number, number]
  kernel?: readonly [number, number]
  stride?: number
  /** Zeros above, left, below, right. */
  padding?: readonly [number, number, number, number]
  sources: readonly number[]
  channels: number
  weights?: FloatType
  bias?: boolean
  vector?: 'each frame' | 'shared'
  residual?: 'apart' | 'in place'
  affine?: 'each frame' | 'shared'
  prologue?: Act
  act?: keyof typeof actCode
  /** Rows and columns of a tile, free floats behind its pixels. */
  tile?: readonly [number, number, number]
  /** Frames in a tile, where that is a whole frame. */
  together?: number
  /** Weights by phases, of an image read through an upsampling by two. */
  phases?: boolean
  /** Pixels begin at multiples of eight elements, so that a GPU copies them as they are. */
  aligned?: boolean
}

const same3 = { kernel: [3, 3], padding: [1, 1, 1, 1] } as const

export const cases: Record<string, Case> = {
  'one pixel, one channel': { stored: [1, 1], sources: [1], channels: 1 },
  'one pixel under a 3x3 kernel': {
    stored: [1, 1],
    ...same3,
    sources: [5],
    channels: 3,
    bias: true,
  },
  'a linear layer, odd widths': {
    stored: [1, 37],
    sources: [19],
    channels: 50,
    bias: true,
    tile: [1, 37, 0],
  },
  'a linear layer of one token': { stored: [1, 1], sources: [70], channels: 130, weights: 'f16' },
  'each activation: silu': { stored: [1, 9], sources: [20], channels: 17, act: 'silu' },
  'each activation: gelu': { stored: [1, 9], sources: [20], channels: 17, act: 'gelu', bias: true },
  'each activation: quick_gelu': { stored: [1, 9], sources: [20], channels: 17, act: 'quick_gelu' },
  'each activation: gelu_tanh': { stored: [1, 9], sources: [20], channels: 17, act: 'gelu_tanh' },
  'each activation: sigmoid': { stored: [1, 9], sources: [20], channels: 17, act: 'sigmoid' },
  'geglu, float32': {
    stored: [2, 11],
    frames: 2,
    sources: [21],
    channels: 37,
    act: 'geglu',
    bias: true,
  },
  'geglu, float16, many panels': {
    stored: [3, 7],
    sources: [48],
    channels: 200,
    act: 'geglu',
    weights: 'f16',
    bias: true,
  },
  'geglu, bfloat16, no bias': {
    stored: [1, 5],
    sources: [33],
    channels: 16,
    act: 'geglu',
    weights: 'bf16',
  },
  'two sources of uneven widths, norm and silu before': {
    ...same3,
    stored: [6, 7],
    frames: 3,
    sources: [13, 22],
    channels: 33,
    affine: 'each frame',
    prologue: 'silu',
    bias: true,
    vector: 'each frame',
    residual: 'apart',
  },
  'shared vector and affine, residual in place': {
    ...same3,
    stored: [5, 9],
    frames: 2,
    sources: [16],
    channels: 32,
    affine: 'shared',
    vector: 'shared',
    residual: 'in place',
    tile: [8, 12, 0],
    weights: 'bf16',
  },
  'each prologue: none': { stored: [3, 3], sources: [18], channels: 4, affine: 'shared' },
  'each prologue: gelu': {
    stored: [3, 3],
    sources: [18],
    channels: 4,
    affine: 'shared',
    prologue: 'gelu',
  },
  'each prologue: quick_gelu without affine': {
    stored: [3, 3],
    sources: [18],
    channels: 4,
    prologue: 'quick_gelu',
  },
  'each prologue: gelu_tanh': {
    stored: [3, 3],
    sources: [18],
    channels: 4,
    affine: 'shared',
    prologue: 'gelu_tanh',
  },
  'each prologue: sigmoid': {
    stored: [3, 3],
    sources: [18],
    channels: 4,
    affine: 'shared',
    prologue: 'sigmoid',
  },
  'stride 2, zeros below and right only': {
    stored: [8, 10],
    kernel: [3, 3],
    stride: 2,
    padding: [0, 0, 1, 1],
    sources: [12],
    channels: 20,
    weights: 'f16',
  },
  'stride 2, zeros around, odd size': {
    ...same3,
    stored: [7, 9],
    stride: 2,
    sources: [7],
    channels: 18,
    bias: true,
  },
  'patches: kernel = stride = 4': {
    stored: [12, 8],
    kernel: [4, 4],
    stride: 4,
    sources: [3],
    channels: 24,
  },
  'a kernel of one row': {
    stored: [4, 9],
    kernel: [1, 3],
    padding: [0, 1, 0, 1],
    sources: [9],
    channels: 10,
  },
  'a kernel of one column': {
    stored: [9, 4],
    kernel: [3, 1],
    padding: [1, 0, 1, 0],
    sources: [9],
    channels: 10,
  },
  'read through upsampling by 2': {
    ...same3,
    stored: [3, 5],
    size: [6, 10],
    sources: [10],
    channels: 21,
    bias: true,
  },
  'upsampling that is no multiple': {
    ...same3,
    stored: [3, 5],
    size: [7, 8],
    frames: 2,
    sources: [6, 5],
    channels: 8,
    affine: 'each frame',
    prologue: 'silu',
  },
  'few outputs: 3 of 48 inputs, rows that are no multiple of a register tile': {
    ...same3,
    stored: [7, 19],
    frames: 2,
    sources: [32, 16],
    channels: 3,
    weights: 'f16',
    bias: true,
    vector: 'each frame',
    residual: 'in place',
    affine: 'each frame',
    prologue: 'silu',
    act: 'silu',
  },
  'few outputs: 4 of several blocks': {
    ...same3,
    stored: [5, 8],
    sources: [400, 240],
    channels: 4,
    bias: true,
    tile: [5, 8, 16],
  },
  'few outputs: one, stride 2': {
    ...same3,
    stored: [9, 11],
    stride: 2,
    sources: [16],
    channels: 1,
  },
  'K of several blocks, float32': {
    ...same3,
    stored: [4, 5],
    sources: [301, 220],
    channels: 56,
    bias: true,
    residual: 'apart',
    act: 'silu',
    tile: [4, 5, 16],
  },
  'K of several blocks, float16': {
    ...same3,
    stored: [4, 5],
    sources: [521],
    channels: 70,
    weights: 'f16',
    bias: true,
    residual: 'in place',
    tile: [4, 5, 0],
  },
  'a linear layer with K of several blocks': {
    stored: [2, 9],
    sources: [400, 701],
    channels: 40,
    residual: 'apart',
    vector: 'shared',
    tile: [2, 9, 0],
  },
  'in place: two sources, more pixels than go at a time': {
    stored: [9, 17],
    frames: 4,
    sources: [19, 34],
    channels: 50,
    weights: 'bf16',
    bias: true,
    vector: 'each frame',
    residual: 'in place',
    act: 'silu',
  },
  'in place: whole panels, K of several pieces': {
    stored: [20, 15],
    sources: [400],
    channels: 64,
    bias: true,
  },
  'in place: every second pixel': {
    stored: [9, 11],
    frames: 2,
    stride: 2,
    sources: [40],
    channels: 37,
    weights: 'f16',
  },
  'in place: geglu, more pixels than go at a time': {
    stored: [13, 11],
    frames: 2,
    sources: [33],
    channels: 40,
    act: 'geglu',
    bias: true,
  },
  'packed: geglu of two sources': {
    stored: [2, 9],
    sources: [21, 12],
    channels: 20,
    act: 'geglu',
  },
  'packed: more pixels in a tile than go at a time': {
    stored: [18, 19],
    sources: [34],
    channels: 50,
    prologue: 'silu',
    tile: [18, 19, 0],
  },
  'frames that share a tile': {
    ...same3,
    stored: [4, 5],
    frames: 5,
    sources: [20, 13],
    channels: 37,
    bias: true,
    vector: 'each frame',
    residual: 'apart',
    affine: 'each frame',
    prologue: 'silu',
    tile: [4, 5, 8],
    together: 2,
  },
  'frames that share a tile, of several blocks': {
    ...same3,
    stored: [4, 4],
    frames: 9,
    sources: [330],
    channels: 16,
    tile: [4, 4, 0],
    together: 9,
  },
  'whole chunks: a linear layer': {
    stored: [3, 43],
    aligned: true,
    sources: [72],
    channels: 96,
    weights: 'f16',
    bias: true,
    residual: 'in place',
  },
  'whole chunks: two sources, norm and silu before': {
    ...same3,
    stored: [6, 7],
    frames: 3,
    aligned: true,
    sources: [40, 24],
    channels: 88,
    weights: 'f16',
    affine: 'each frame',
    prologue: 'silu',
    bias: true,
    vector: 'each frame',
    residual: 'apart',
    act: 'silu',
  },
  'whole chunks: stride 2 over two sources': {
    ...same3,
    stored: [9, 11],
    frames: 2,
    stride: 2,
    aligned: true,
    sources: [8, 48],
    channels: 20,
    weights: 'bf16',
  },
  'whole chunks: read through upsampling': {
    ...same3,
    stored: [4, 6],
    size: [8, 12],
    aligned: true,
    sources: [16],
    channels: 130,
    bias: true,
    affine: 'shared',
    prologue: 'silu',
  },
  'whole chunks: geglu': {
    stored: [2, 70],
    aligned: true,
    sources: [40],
    channels: 160,
    act: 'geglu',
    weights: 'f16',
    bias: true,
  },
  'whole chunks: more tiles than a GPU has multiprocessors': {
    ...same3,
    stored: [16, 20],
    frames: 2,
    aligned: true,
    sources: [32],
    channels: 200,
    weights: 'f16',
    bias: true,
    affine: 'each frame',
    prologue: 'silu',
  },
  'whole chunks: the same without a norm': {
    ...same3,
    stored: [16, 20],
    frames: 2,
    aligned: true,
    sources: [24],
    channels: 184,
    weights: 'f16',
    act: 'silu',
  },
  // What compute capability 9.0 copies in boxes.
  'whole chunks: 64 channels at a time': {
    ...same3,
    stored: [7, 10],
    frames: 3,
    aligned: true,
    sources: [64],
    channels: 40,
    weights: 'f16',
    bias: true,
    vector: 'each frame',
    residual: 'apart',
    act: 'silu',
  },
  'whole chunks: 64 channels at a time, stride 2 over two sources': {
    ...same3,
    stored: [9, 11],
    frames: 2,
    stride: 2,
    aligned: true,
    sources: [64, 120],
    channels: 72,
    weights: 'f16',
    residual: 'in place',
  },
  'whole chunks: 64 channels at a time, through upsampling': {
    ...same3,
    stored: [5, 6],
    size: [10, 12],
    frames: 2,
    aligned: true,
    sources: [64],
    channels: 72,
    weights: 'f16',
    bias: true,
  },
  'whole chunks: 64 channels at a time, over time': {
    stored: [5, 33],
    kernel: [3, 1],
    padding: [1, 0, 1, 0],
    aligned: true,
    sources: [56],
    channels: 150,
    weights: 'f16',
    bias: true,
  },
  'whole chunks: 64 channels at a time, geglu': {
    stored: [2, 70],
    aligned: true,
    sources: [192],
    channels: 88,
    act: 'geglu',
    weights: 'f16',
    bias: true,
  },
  'whole chunks: 64 channels at a time, a linear layer': {
    stored: [3, 43],
    aligned: true,
    sources: [448],
    channels: 96,
    weights: 'bf16',
    bias: true,
    residual: 'in place',
  },
}

/** Doubled images by phases, which a CPU computes. */
export const phased: Record<string, Case> = {}
const double = (name: string, c: Omit<Case, 'size' | 'kernel' | 'phases'>) => {
  const [rows, cols] = c.stored
  phased[`phases: ${name}`] = { ...same3, ...c, size: [2 * rows, 2 * cols], phases: true }
}
double('one stored pixel, one channel', { stored: [1, 1], sources: [1], channels: 5 })
double('one row, one output beyond a panel', {
  stored: [1, 7],
  sources: [6],
  channels: 17,
  bias: true,
  tile: [1, 3, 0],
})
double('two sources, norm and silu before, frames, all that is added', {
  stored: [7, 5],
  frames: 3,
  sources: [13, 21],
  channels: 33,
  affine: 'each frame',
  prologue: 'silu',
  bias: true,
  vector: 'each frame',
  residual: 'apart',
  act: 'silu',
})
double('residual in place, odd tiles', {
  stored: [4, 9],
  sources: [20],
  channels: 100,
  residual: 'in place',
  vector: 'shared',
  tile: [5, 7, 12],
})
double('no rows above, two below', {
  stored: [4, 6],
  padding: [0, 0, 2, 2],
  sources: [8],
  channels: 48,
  bias: true,
})
double('K of several blocks', {
  stored: [4, 3],
  sources: [300, 222],
  channels: 56,
  bias: true,
  residual: 'apart',
  act: 'silu',
  tile: [8, 6, 16],
})
double('frames that share a tile', {
  stored: [2, 3],
  frames: 5,
  sources: [20, 12],
  channels: 37,
  bias: true,
  vector: 'each frame',
  affine: 'each frame',
  prologue: 'silu',
  tile: [4, 6, 8],
  together: 2,
})
double('more pixels of a phase than are summed at a time', {
  stored: [17, 18],
  sources: [6],
  channels: 16,
  tile: [34, 36, 0],
})

/** Of an even number of inputs, whose sums are in bfloat16 where that is asked for. */
export const pairs: Record<string, Case> = {
  'pairs: two sources, norm and silu before': {
    ...same3,
    stored: [6, 7],
    frames: 3,
    sources: [13, 21],
    channels: 33,
    weights: 'f16',
    affine: 'each frame',
    prologue: 'silu',
    bias: true,
    vector: 'each frame',
    residual: 'apart',
  },
  'pairs: geglu': {
    stored: [2, 11],
    frames: 2,
    sources: [22],
    channels: 85,
    act: 'geglu',
    bias: true,
  },
  'pairs: read through upsampling': {
    ...same3,
    stored: [3, 5],
    size: [6, 10],
    frames: 2,
    sources: [6, 10],
    channels: 21,
    affine: 'each frame',
    prologue: 'silu',
    bias: true,
  },
  'pairs: stride 2, zeros around, odd size': {
    ...same3,
    stored: [7, 9],
    stride: 2,
    sources: [14],
    channels: 18,
    bias: true,
  },
  'pairs: K of several blocks': {
    ...same3,
    stored: [4, 5],
    sources: [301, 221],
    channels: 70,
    weights: 'bf16',
    residual: 'in place',
    act: 'silu',
    tile: [4, 5, 16],
  },
  'pairs: a linear layer with K of several blocks': {
    stored: [2, 9],
    sources: [400, 702],
    channels: 40,
    residual: 'apart',
    vector: 'shared',
    tile: [2, 9, 0],
  },
  'pairs: tiles of lines and of whole frames': {
    ...same3,
    stored: [4, 16],
    frames: 3,
    sources: [32],
    channels: 144,
    weights: 'f16',
    bias: true,
    tile: [4, 16, 0],
    together: 2,
  },
}
for (let pixels = 1; pixels <= 17; pixels++) {
  pairs[`pairs: ${pixels} pixels`] = {
    stored: [1, pixels],
    sources: [2 * pixels + 30],
    channels: 4 * pixels + 1,
    bias: true,
    tile: [1, pixels, 0],
  }
}
