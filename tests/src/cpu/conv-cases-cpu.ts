// More convolutions for conv.test.ts, which a CPU alone computes: by phases, and in bfloat16.
import { type Case, same3 } from './conv-cases.js'

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
