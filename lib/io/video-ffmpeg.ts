import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rename, rm } from 'node:fs/promises'
import type { Readable, Writable } from 'node:stream'
import { promisify } from 'node:util'
import { FileError } from '../errors.js'
import { asFileError, type Replacement, replacementOf } from './atomic.js'
import { type Frame, toBytes } from './image.js'
import type { VideoWriter } from './video.js'

type Kind = 'mp4' | 'webm'

/** Constant rate factors at quality 100, and the coarsest that the encoder takes. */
const codecs = {
  mp4: { encoder: 'libx264', finest: 12, coarsest: 51, flags: ['-movflags', '+faststart'] },
  webm: { encoder: 'libvpx-vp9', finest: 20, coarsest: 63, flags: ['-b:v', '0', '-row-mt', '1'] },
} as const

/** @throws FileError when ffmpeg is missing or was built without the encoder. */
export async function requireEncoder(path: string, ffmpeg: string, kind: Kind): Promise<void> {
  const { encoder } = codecs[kind]
  let listed: string
  try {
    listed = (
      await promisify(execFile)(ffmpeg, ['-hide_banner', '-encoders'], { maxBuffer: 2 ** 24 })
    ).stdout
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const got =
      code === 'ENOENT'
        ? 'none'
        : code === 'EACCES'
          ? 'a file that may not be run'
          : (error as Error).message.split('\n')[0]
    throw new FileError(
      `${path}: expected ffmpeg at ${ffmpeg} to write .${kind}, got ${got}; install ffmpeg, or write .webp or .gif, which need none`,
      path,
      { cause: error },
    )
  }
  if (!new RegExp(`\\s${encoder}\\s`).test(listed)) {
    throw new FileError(
      `${path}: expected ffmpeg with the encoder ${encoder}, got one without; write .webp or .gif, which need none`,
      path,
    )
  }
}

/** MP4 (H.264) or WebM (VP9) through the system's ffmpeg, frames piped as they come. */
export class FfmpegWriter implements VideoWriter {
  private readonly place: Replacement
  private child?: ChildProcessByStdio<Writable, null, Readable>
  private exited?: Promise<number | null>
  private complaint = ''
  constructor(
    readonly path: string,
    private readonly kind: Kind,
    private readonly fps: number,
    private readonly quality: number,
    private readonly ffmpeg: string,
  ) {
    this.place = replacementOf(path)
  }

  async write(frame: Frame): Promise<void> {
    const { stdin } = this.child ?? this.start(frame)
    const bytes = toBytes(frame)
    // The callback comes when the pipe has taken the frame, or failed.
    const failed = await new Promise<unknown>(resolve => stdin.write(bytes, resolve))
    if (failed) throw await this.failure()
  }

  async close(): Promise<void> {
    this.child?.stdin.end()
    if ((await this.exited) !== 0) throw await this.failure()
    try {
      await rename(this.place.temporary, this.place.file)
    } catch (error) {
      throw asFileError(error, this.path, 'write')
    }
  }

  async abort(): Promise<void> {
    this.child?.kill('SIGKILL')
    await this.exited
    await rm(this.place.temporary, { force: true })
  }

  private start({ width, height }: Frame): ChildProcessByStdio<Writable, null, Readable> {
    const child = spawn(this.ffmpeg, this.arguments(width, height), {
      stdio: ['pipe', 'ignore', 'pipe'],
    })
    this.child = child
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.complaint = (this.complaint + text).slice(-4096)
    })
    // A broken pipe is reported by the write that meets it, and by the exit code.
    child.stdin.on('error', () => {})
    this.exited = once(child, 'close').then(
      ([code]) => code as number | null,
      (error: Error) => {
        this.complaint = error.message
        return null
      },
    )
    return child
  }

  private arguments(width: number, height: number): string[] {
    // 4:2:0 needs even sides; the matrix is stated because players guess it from the size.
    const filter =
      'pad=ceil(iw/2)*2:ceil(ih/2)*2,scale=out_color_matrix=bt709:out_range=tv,format=yuv420p'
    const { encoder, finest, coarsest, flags } = codecs[this.kind]
    const rate = Math.min(Math.round(finest + ((100 - this.quality) * coarsest) / 100), coarsest)
    return [
      ...['-hide_banner', '-loglevel', 'error', '-y'],
      ...[
        '-f',
        'rawvideo',
        '-pix_fmt',
        'rgb24',
        '-s',
        `${width}x${height}`,
        '-r',
        `${this.fps}`,
        '-i',
        'pipe:0',
      ],
      ...['-vf', filter, '-c:v', encoder, '-crf', `${rate}`, ...flags],
      ...[
        '-colorspace',
        'bt709',
        '-color_primaries',
        'bt709',
        '-color_trc',
        'bt709',
        '-color_range',
        'tv',
      ],
      ...['-f', this.kind, this.place.temporary],
    ]
  }

  private async failure(): Promise<FileError> {
    const code = await this.exited
    const reason = this.complaint.trim().split('\n').at(-1) || `exit code ${code}`
    return new FileError(
      `${this.path}: expected ffmpeg to encode the video, got: ${reason}; check the folder and ffmpeg`,
      this.path,
    )
  }
}
