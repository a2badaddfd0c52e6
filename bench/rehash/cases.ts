/** What bench/rehash.ts compares: policies by numbers of full steps, features, storages. */
import { evenSteps, ruledSteps, spreadSteps } from '../../lib/rehash/schedule.js'
import { colours, motions } from '../../tests/support/moving-shapes.js'

export const steps = 25
export const counts = [5, 7, 9, 11, 13, 17] as const
export const paper = 'up_blocks.2.motion_modules.1'

export interface Case {
  /** Part of the table. */
  readonly group: 'policies' | 'features' | 'storage'
  readonly name: string
  /** As on the command line. */
  readonly rehash: string
  /** Only so many videos, for what costs much and decides little. */
  readonly videos?: number
  /** Case whose videos it is compared with too. */
  readonly reference?: string
}

const at = (list: readonly number[]) => `at=${list.join('/')}`

/** Errors at which EasyCache runs a step: chosen for about 17 to 5 full steps. */
const thresholds = [0.05, 0.08, 0.12, 0.18, 0.3, 0.6]

const policies: Case[] = [
  ...counts.flatMap((count): Case[] => [
    { group: 'policies', name: 'paper', rehash: `paper:${count}` },
    {
      group: 'policies',
      name: 'paper, no map',
      rehash: `paper,${at(ruledSteps(steps, count))}`,
      videos: 8,
    },
    { group: 'policies', name: 'every-n', rehash: `every-n:${count}` },
    { group: 'policies', name: 'forecast', rehash: `forecast:${count}` },
  ]),
  ...thresholds.map(
    (limit): Case => ({ group: 'policies', name: 'threshold', rehash: `threshold=${limit}` }),
  ),
]

const layers = [
  'up_blocks.0.motion_modules.1',
  'up_blocks.1.motion_modules.1',
  'up_blocks.2.resnets.0',
  'up_blocks.2.motion_modules.0',
  'up_blocks.2.resnets.1',
  'up_blocks.2.attentions.1',
  paper,
  'conv_out',
]

const even = spreadSteps(steps, 13)

const features: Case[] = layers.flatMap(feature =>
  (['paper', 'forecast'] as const).map(policy => ({
    group: 'features' as const,
    name: policy === 'paper' ? 'reuse' : 'forecast',
    rehash: `${policy},${at(even)},feature=${feature}`,
    videos: 8,
  })),
)

const float = `paper,${at(evenSteps(steps, 13))},feature=${paper},storage=f32`
const storage: Case[] = (['f32', 'f16', 'int8'] as const).map(kind => ({
  group: 'storage',
  name: kind,
  rehash: float.replace('f32', kind),
  videos: 8,
  ...(kind !== 'f32' && { reference: float }),
}))

export const cases: readonly Case[] = [...policies, ...features, ...storage]

const shapes = ['circle', 'square', 'triangle', 'ring'] as const
const grounds = ['black', 'gray'] as const

export interface Wanted {
  readonly prompt: string
  readonly colour: string
  readonly motion: string
  readonly seed: number
}

/** 16 sentences with every colour and motion among them, each with 2 seeds that no map was measured with. */
export const videos: readonly Wanted[] = [0, 1].flatMap(round =>
  Array.from({ length: 16 }, (_, i) => {
    const colour = Object.keys(colours)[i % 6]!
    const motion = motions[(i * 5 + Math.floor(i / 6)) % 6]!
    const prompt = `a ${colour} ${shapes[(i * 3 + Math.floor(i / 4)) % 4]} ${motion} on a ${grounds[Math.floor(i / 2) % 2]} background`
    return { prompt, colour, motion, seed: 1000 + 16 * round + i }
  }),
)
