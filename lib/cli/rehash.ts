import { readFileSync } from 'node:fs'
import { FileError, OptionError } from '../errors.js'
import { asFileError } from '../io/atomic.js'
import { formatTable } from '../pipelines/pipeline-plan.js'
import { StableVideoDiffusion } from '../pipelines/stable-video-diffusion.js'
import { type MapDocument, readMap, writeMap } from '../rehash/map-file.js'
import { formatRehash } from '../rehash/options.js'
import { writeMapPicture } from '../rehash/picture.js'
import { MapRecorder } from '../rehash/recorder.js'
import { fullStepsOf, scheduleOf } from '../rehash/schedule.js'
import { interruptible } from './interrupt.js'
import { openPipeline, type PipelineArguments, planOptions } from './options.js'
import { checkOutputs, withFolders } from './outputs.js'
import { ProgressReport } from './progress.js'

export interface MeasureArguments extends PipelineArguments {
  /** File with a prompt on each line. */
  prompts?: string
  /** Paths of modules; default: every candidate. */
  feature?: string[]
  picture?: string
  seeds: number
  json?: boolean
}

/** What the embedded checkpoint knows, and what others do. */
const embeddedPrompts = [
  'a red circle moving right on a black background',
  'a blue square moving up on a gray background',
  'a yellow triangle growing on a black background',
  'a green ring moving down on a gray background',
]
const generalPrompts = [
  'a dog running on a beach',
  'a woman walking through a market, photo',
  'waves breaking on rocks at sunset',
  'a car driving through a forest, aerial view',
]

/** `sluice rehash measure`: runs all steps in full and writes how alike features are between them. */
export async function measure(args: MeasureArguments): Promise<void> {
  const { output = 'rehash-map.json', picture } = args
  await checkOutputs({ map: output, picture })
  await using pipeline = await openPipeline(args)
  const prompts = promptsOf(args, pipeline instanceof StableVideoDiffusion)
  const first = args.seed ?? 0
  const seeds = Array.from({ length: args.seeds }, (_, i) => first + i)
  const options = { ...planOptions(args, pipeline), observe: args.feature?.join(',') ?? 'all' }
  const recorder = new MapRecorder()
  // The maps are of the time steps that these options lead to.
  const { scheduler, timesteps } = pipeline.stepsOf(options)
  await interruptible(async signal => {
    const progress = new ProgressReport(Boolean(args.quiet))
    try {
      for (const prompt of prompts) {
        for (const seed of seeds) {
          const run = {
            ...options,
            seed,
            signal,
            onProgress: progress.update,
            onFeature: recorder.record,
          }
          await (pipeline instanceof StableVideoDiffusion
            ? pipeline.generate({ ...run, image: prompt })
            : pipeline.generate({ ...run, prompt }))
          recorder.endRun()
        }
      }
    } finally {
      progress.stop()
    }
  })
  const document: MapDocument = {
    format: 'sluice-rehash-map',
    version: 1,
    scheduler,
    timesteps: [...timesteps],
    prompts,
    seeds,
    features: recorder.means(),
  }
  const written = [output, ...(picture === undefined ? [] : [picture])]
  await withFolders(written, async () => {
    await writeMap(output, document)
    if (picture !== undefined) await writeMapPicture(picture, document)
  })
  if (args.json) console.log(JSON.stringify({ written, ...document }))
  else if (!args.quiet) console.log(`${describe(document)}\n\nwrote ${written.join(', ')}`)
}

/** @throws OptionError, FileError */
function promptsOf(args: MeasureArguments, takesImage: boolean): string[] {
  if (takesImage) {
    if (args.prompts !== undefined || args.image === undefined)
      throw new OptionError(
        `${args.prompts === undefined ? '--image' : '--prompts'}: expected --image for a checkpoint that begins with a picture, got ${args.prompts ?? 'none'}`,
      )
    return [args.image]
  }
  if (args.prompts === undefined) return args.model === undefined ? embeddedPrompts : generalPrompts
  let text: string
  try {
    text = readFileSync(args.prompts, 'utf8')
  } catch (error) {
    throw asFileError(error, args.prompts, 'read')
  }
  const lines = text.split('\n').map(line => line.trim())
  const prompts = lines.filter(line => line !== '')
  if (prompts.length > 0) return prompts
  throw new FileError(
    `${args.prompts}: expected a prompt on each line, got none; write some`,
    args.prompts,
  )
}

/** How alike neighbours are, on the whole and where they are least so. */
function describe({ features, timesteps, prompts, seeds }: MapDocument): string {
  const rows = Object.entries(features).map(([name, { cosine, relativeL1 }]) => {
    const beside = (rows: readonly (readonly number[])[]) => rows.slice(1).map((row, i) => row[i]!)
    const near = beside(cosine)
    const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length
    const least = Math.min(...near)
    return [
      name,
      mean(near).toFixed(4),
      `${least.toFixed(4)} at step ${near.indexOf(least) + 1}`,
      mean(beside(relativeL1)).toFixed(4),
    ]
  })
  const head = ['feature', 'cosine to the step before', 'least', 'relative L1']
  const runs = prompts.length * seeds.length
  return `${runs} runs of ${timesteps.length} steps\n\n${formatTable([head, ...rows])}`
}

export interface ScheduleArguments {
  gamma?: number
  fullSteps?: number
  feature?: string
  json?: boolean
}

/** `sluice rehash schedule`: the list of full steps by the paper's algorithm 1. */
export function schedule(file: string, args: ScheduleArguments): void {
  const { gamma, fullSteps } = args
  if ((gamma === undefined) === (fullSteps === undefined))
    throw new OptionError(
      `rehash schedule: expected --gamma or --full-steps, got ${gamma === undefined ? 'neither' : 'both'}`,
    )
  const { features, timesteps } = readMap(file)
  const names = Object.keys(features)
  const feature =
    args.feature ?? (names.includes('conv_out') ? 'conv_out' : names[names.length - 1]!)
  const map = features[feature]
  if (!map)
    throw new OptionError(
      `--feature: expected one of ${names.join(', ')} as in ${file}, got ${feature}`,
    )
  const made =
    gamma === undefined
      ? scheduleOf(map.cosine, fullSteps!)
      : { gamma, full: fullStepsOf(map.cosine, gamma) }
  const steps = timesteps.length
  const rehash = formatRehash({ policy: 'paper', at: made.full, feature })
  if (args.json) {
    console.log(JSON.stringify({ feature, steps, gamma: made.gamma, fullSteps: made.full, rehash }))
    return
  }
  console.log(
    [
      `${made.full.length} of ${steps} steps in full, gamma ${made.gamma.toFixed(5)}, of ${feature}:`,
      made.full.join(' '),
      '',
      `--rehash ${rehash}`,
    ].join('\n'),
  )
}
