/** What bench/rehash.ts measured, in rows and as a table. */
import { type Case, cases } from './cases.js'

/** One video of one case; the full run's case is `off`. */
export interface Sample {
  readonly rehash: string
  readonly video: number
  readonly fullSteps: number
  /** Processor time of denoising, in seconds. */
  readonly seconds: number
  readonly cacheBytes: number
  /** To the full run; null: equal. */
  readonly psnr: number | null
  readonly ssim: number
  /** To the case's reference. */
  readonly referencePsnr?: number | null
  /** Whether the video shows what its prompt says. */
  readonly colour: boolean
  readonly motion: boolean
}

export interface Row {
  readonly case: Case
  readonly videos: number
  readonly fullSteps: number
  readonly psnr: number
  readonly ssim: number
  /** Processor time of the same videos' full runs over theirs. */
  readonly speedup: number
  readonly cacheBytes: number
  readonly referencePsnr?: number
  /** Of the videos whose full run shows the colour and the motion, how many still do. */
  readonly shown: readonly [still: number, of: number]
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length
const decibels = (value: number | null | undefined) => value ?? Number.POSITIVE_INFINITY

export function rowsOf(samples: readonly Sample[]): Row[] {
  const full = new Map(samples.filter(({ rehash }) => rehash === 'off').map(s => [s.video, s]))
  return cases.flatMap((one): Row[] => {
    const own = samples.filter(s => s.rehash === one.rehash && full.has(s.video))
    if (own.length === 0) return []
    const fulls = own.map(({ video }) => full.get(video)!)
    const good = own.filter((_, i) => fulls[i]!.colour && fulls[i]!.motion)
    const references = own.filter(s => s.referencePsnr !== undefined)
    return [
      {
        case: one,
        videos: own.length,
        fullSteps: mean(own.map(s => s.fullSteps)),
        psnr: mean(own.map(s => decibels(s.psnr))),
        ssim: mean(own.map(s => s.ssim)),
        speedup: mean(fulls.map(s => s.seconds)) / mean(own.map(s => s.seconds)),
        cacheBytes: own[0]!.cacheBytes,
        ...(references.length > 0 && {
          referencePsnr: mean(references.map(s => decibels(s.referencePsnr))),
        }),
        shown: [good.filter(s => s.colour && s.motion).length, good.length],
      },
    ]
  })
}

const measures = ['full steps', 'PSNR', 'SSIM', 'faster', 'cache bytes', 'kept', 'videos']

const cells = (row: Row): string[] => [
  row.fullSteps.toFixed(row.fullSteps % 1 ? 1 : 0),
  `${row.psnr.toFixed(2)} dB`,
  row.ssim.toFixed(4),
  `${row.speedup.toFixed(2)} x`,
  row.cacheBytes.toLocaleString('en-US'),
  row.shown.join(' of '),
  `${row.videos}`,
]

const names = [...new Set(cases.map(({ name }) => name))]
const order = (row: Row): number => names.indexOf(row.case.name)
const featureOf = (row: Row): string => /feature=([^,]+)/.exec(row.case.rehash)?.[1] ?? ''

export function markdown(rows: readonly Row[], title: string, notes: readonly string[]): string {
  const group = (name: Case['group']) => rows.filter(row => row.case.group === name)
  const table = (head: readonly string[], lines: readonly (readonly string[])[]) =>
    [head, head.map(() => '---'), ...lines].map(line => `| ${line.join(' | ')} |`).join('\n')
  const policies = group('policies').sort(
    (a, b) => order(a) - order(b) || a.fullSteps - b.fullSteps,
  )
  const parts = [
    `# ${title}`,
    ...notes,
    '![PSNR over speed-up](rehash.svg)',
    '## Policies',
    table(
      ['policy', ...measures],
      policies.map(row => [row.case.name, ...cells(row)]),
    ),
    '## The kept feature, 13 even full steps',
    table(
      ['feature', 'between full steps', ...measures],
      group('features').map(row => [featureOf(row), row.case.name, ...cells(row)]),
    ),
    "## Storage of the paper's feature, 13 even full steps",
    table(
      ['storage', ...measures, 'PSNR to f32'],
      group('storage').map(row => [
        row.case.name,
        ...cells(row),
        row.referencePsnr === undefined ? '' : `${row.referencePsnr.toFixed(2)} dB`,
      ]),
    ),
  ]
  return `${parts.join('\n\n')}\n`
}
