import { writeFile } from 'node:fs/promises'
import { FileError } from '../errors.js'
import { replaceFile } from './atomic.js'
import { type Frame, toBytes } from './image.js'
import { loadSharp } from './sharp.js'
import type { VideoWriter } from './video.js'

/** Animated WebP or GIF. The encoder takes all frames at once, so their bytes wait here. */
export class AnimationWriter implements VideoWriter {
  private pages: Uint8Array[] = []
  private width = 0
  private height = 0
  constructor(
    readonly path: string,
    private readonly kind: 'webp' | 'gif',
    private readonly fps: number,
    private readonly quality: number,
  ) {}

  async write(frame: Frame): Promise<void> {
    this.width = frame.width
    this.height = frame.height
    this.pages.push(toBytes(frame))
  }

  async close(): Promise<void> {
    const { width, height, pages, quality } = this
    const delay = pages.map(() => Math.round(1000 / this.fps))
    this.pages = []
    // sharp reads one tall image as pages of pageHeight.
    const image = (await loadSharp())(Buffer.concat(pages), {
      raw: { width, height: height * pages.length, channels: 3, pageHeight: height },
      limitInputPixels: false,
    })
    const encoded =
      this.kind === 'webp'
        ? image.webp({ quality, loop: 0, delay, smartSubsample: true })
        : image.gif({ loop: 0, delay })
    let bytes: Buffer
    try {
      bytes = await encoded.toBuffer()
    } catch (error) {
      throw new FileError(
        `${this.path}: expected to encode ${pages.length} frames of ${width} × ${height}, got ${(error as Error).message}; try another format`,
        this.path,
        { cause: error },
      )
    }
    await replaceFile(this.path, temporary => writeFile(temporary, bytes))
  }

  async abort(): Promise<void> {
    this.pages = []
  }
}
