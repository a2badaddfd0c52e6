import { statSync } from 'node:fs'
import { basename, extname } from 'node:path'
import { FileError, OptionError } from '../errors.js'
import type { Frame } from './image.js'
import { AnimationWriter } from './video-animation.js'
import { FfmpegWriter, requireEncoder } from './video-ffmpeg.js'
import { PngSequenceWriter } from './video-png.js'

/** Takes frames one by one, all of one size. The file appears under its name at `close`; `abort` leaves nothing. */
export interface VideoWriter {
  readonly path: string
  write(frame: Frame): Promise<void>
  /** @throws FileError when nothing was written or the system refuses; then nothing is left. */
  close(): Promise<void>
  /** May be called at any time, after an error too. */
  abort(): Promise<void>
}

export interface VideoOptions {
  /** Frames a second, 8 by default. */
  fps?: number
  /** 1 to 100, 90 by default; GIF and PNG do not use it. */
  quality?: number
  /** The ffmpeg to run for MP4 and WebM: `ffmpeg` on PATH by default. */
  ffmpeg?: string
}

export type VideoKind = 'webp' | 'gif' | 'mp4' | 'webm' | 'png'

/**
 * What a path asks for: by its extension `.webp`, `.gif`, `.mp4`, `.webm`; a PNG sequence by a pattern such as
 * `name-%04d.png`, a folder, a name without extension.
 * @throws OptionError for any other.
 */
export function videoKind(path: string): VideoKind {
  const extension = extname(path).toLowerCase()
  if (
    /[/\\]$/.test(path) ||
    extension === '' ||
    statSync(path, { throwIfNoEntry: false })?.isDirectory()
  )
    return 'png'
  if (extension === '.png' && /%0?\d*d/.test(basename(path))) return 'png'
  const kind = extension.slice(1)
  if (kind === 'webp' || kind === 'gif' || kind === 'mp4' || kind === 'webm') return kind
  throw new OptionError(
    `${path}: expected .webp, .gif, .mp4, .webm, or for a PNG sequence a folder or a name such as frame-%04d.png, got ${extension}; choose one of these`,
  )
}

/**
 * Opens a video for writing; MP4 and WebM are checked for ffmpeg and its encoder here, before hours of work.
 * WebP and GIF hold width × height × 3 bytes a frame until `close`.
 * @throws OptionError for an unknown extension or wrong options, FileError when ffmpeg cannot be used.
 */
export async function openVideo(path: string, options: VideoOptions = {}): Promise<VideoWriter> {
  const { fps = 8, quality = 90, ffmpeg = 'ffmpeg' } = options
  if (typeof path !== 'string')
    throw new OptionError(`path: expected that of a video to write, got ${typeof path}`)
  if (!(fps > 0 && fps <= 240))
    throw new OptionError(`fps: expected a number above 0 up to 240, got ${fps}; 8 is usual`)
  if (!(quality >= 1 && quality <= 100))
    throw new OptionError(`quality: expected 1 to 100, got ${quality}; 90 is usual`)
  const kind = videoKind(path)
  switch (kind) {
    case 'webp':
    case 'gif':
      return new SizedWriter(new AnimationWriter(path, kind, fps, quality))
    case 'mp4':
    case 'webm':
      await requireEncoder(path, ffmpeg, kind)
      return new SizedWriter(new FfmpegWriter(path, kind, fps, quality, ffmpeg))
    case 'png':
      return new SizedWriter(new PngSequenceWriter(path))
  }
}

/** Checks what all kinds ask for: frames of one size, and at least one. */
class SizedWriter implements VideoWriter {
  private first?: Frame
  constructor(private readonly writer: VideoWriter) {}

  get path(): string {
    return this.writer.path
  }

  async write(frame: Frame): Promise<void> {
    const { width, height } = this.first ?? frame
    if (
      frame.width !== width ||
      frame.height !== height ||
      frame.data.length !== 3 * width * height
    ) {
      throw new FileError(
        `${this.path}: expected a frame of 3 × ${height} × ${width} values, got ${frame.height} × ${frame.width} and ${frame.data.length}; give frames of one size`,
        this.path,
      )
    }
    this.first ??= { width, height, data: new Float32Array() }
    await this.writer.write(frame)
  }

  async close(): Promise<void> {
    if (!this.first) {
      await this.abort()
      throw new FileError(
        `${this.path}: expected at least one frame, got none; write one before closing`,
        this.path,
      )
    }
    try {
      await this.writer.close()
    } catch (error) {
      await this.abort()
      throw error
    }
  }

  async abort(): Promise<void> {
    await this.writer.abort()
  }
}
