import { accessSync, constants, existsSync, mkdirSync, rmdirSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { FileError, OptionError } from '../errors.js'
import { fileBehind } from '../io/atomic.js'
import { openVideo, type VideoOptions } from '../io/video.js'
import type { PipelineArguments } from './options.js'

/** What a command writes: by kind, where to. */
export interface Outputs {
  video?: string
  latents?: string
  frames?: string
  /** The memory timeline. */
  report?: string
  plan?: string
  /** Of a frontier. */
  chart?: string
  /** Buffers with offsets. */
  offsets?: string
  calibration?: string
  /** How alike features are from step to step, and a picture of it. */
  map?: string
  picture?: string
}

const optionOf: Readonly<Record<keyof Outputs, string>> = {
  video: '--output',
  latents: '--save-latents',
  frames: '--save-frames',
  report: '--report',
  plan: '--save',
  chart: '--chart',
  offsets: '--out',
  calibration: '--output',
  map: '--output',
  picture: '--picture',
}

/** @param title what a video is named after; @throws OptionError for options that contradict each other or ask for nothing. */
export function outputsOf(title: string, args: PipelineArguments): Outputs {
  const { output, saveLatents: latents, saveFrames: frames, report } = args
  if (!args.decode) {
    const extra =
      output !== undefined ? '--output' : frames !== undefined ? '--save-frames' : undefined
    if (extra)
      throw new OptionError(
        `--no-decode: expected no ${extra}, which needs decoding, got both; leave one out`,
      )
    if (latents === undefined && report === undefined)
      throw new OptionError(
        '--no-decode: expected --save-latents, got nothing to write; name a file',
      )
    return { latents, report }
  }
  return { video: output ?? nameFor(title), latents, frames, report }
}

/** @throws OptionError for two outputs at one place, or at none. */
function checkDistinct(outputs: Outputs): void {
  for (const [kind, path] of Object.entries(outputs)) {
    if (path === '')
      throw new OptionError(
        `${optionOf[kind as keyof Outputs]}: expected a path, got nothing; name a file`,
      )
  }
  const paths = Object.values(outputs).filter(path => path !== undefined)
  const twice = paths.find(
    (path, i) => paths.findIndex(other => resolve(other) === resolve(path)) < i,
  )
  if (twice !== undefined)
    throw new OptionError(`${twice}: expected one output there, got two; name different files`)
}

/** `a-red-circle.webp`, numbered where that exists: a name that nobody chose replaces no file. */
function nameFor(title: string): string {
  const words = title.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []
  const stem = words.join('-').slice(0, 60).replace(/-$/, '') || 'video'
  for (let i = 1; ; i++) {
    const name = i === 1 ? `${stem}.webp` : `${stem}-${i}.webp`
    if (!existsSync(name)) return name
  }
}

/**
 * Checks, before any work, that each output has a place of its own, can be written, and that its encoder is there.
 * @throws OptionError, FileError
 */
export async function checkOutputs(outputs: Outputs, options: VideoOptions = {}): Promise<void> {
  checkDistinct(outputs)
  const { video, ...files } = outputs
  for (const path of Object.values(outputs)) {
    if (path === undefined) continue
    checkFolder(path)
    fileBehind(path)
  }
  for (const path of Object.values(files)) {
    if (path !== undefined && statSync(path, { throwIfNoEntry: false })?.isDirectory())
      throw new FileError(`${path}: expected a file, got a folder; name a file`, path)
  }
  if (video !== undefined) await (await openVideo(video, options)).abort()
}

/** The nearest folder that exists must take new entries. */
function checkFolder(path: string): void {
  let folder = dirname(resolve(path))
  while (!existsSync(folder)) folder = dirname(folder)
  const refuse = (got: string): never => {
    throw new FileError(
      `${path}: expected a folder to write to, got ${got}; name another place`,
      path,
    )
  }
  if (!statSync(folder).isDirectory()) refuse(`the file ${folder}`)
  try {
    accessSync(folder, constants.W_OK)
  } catch (error) {
    refuse(`${folder}, which is not writable (${(error as NodeJS.ErrnoException).code})`)
  }
}

/** Makes the folders of outputs, works, and takes away those still empty when the work fails. */
export async function withFolders(
  paths: readonly (string | undefined)[],
  work: () => Promise<void>,
): Promise<void> {
  const folders = paths.flatMap(path => (path === undefined ? [] : [dirname(resolve(path))]))
  const made: string[] = []
  try {
    for (const folder of folders) {
      const first = mkdirSync(folder, { recursive: true })
      for (let at = folder; first !== undefined; at = dirname(at)) {
        made.push(at)
        if (at === first) break
      }
    }
    await work()
  } catch (error) {
    for (const folder of made) removeIfEmpty(folder)
    throw error
  }
}

function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder)
  } catch {
    // Something is in it.
  }
}
