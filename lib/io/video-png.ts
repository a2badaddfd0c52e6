import { mkdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { asFileError, temporaryBeside } from './atomic.js'
import { type Frame, toBytes } from './image.js'
import { loadSharp } from './sharp.js'
import type { VideoWriter } from './video.js'

/** PNG files numbered from 0: `name-%04d.png`, or `frame-%04d.png` in a folder. They wait in a hidden folder until `close`. */
export class PngSequenceWriter implements VideoWriter {
  private readonly folder: string
  private readonly pattern: string
  private readonly temporary: string
  private names: string[] = []
  constructor(readonly path: string) {
    const isPattern = /%0?\d*d/.test(basename(path)) && path.toLowerCase().endsWith('.png')
    this.folder = isPattern ? dirname(path) : path.replace(/(?<=.)[/\\]+$/, '')
    this.pattern = isPattern ? basename(path) : 'frame-%04d.png'
    this.temporary = temporaryBeside(join(this.folder))
  }

  async write(frame: Frame): Promise<void> {
    const { width, height } = frame
    const name = this.pattern.replace(/%0?(\d*)d/, (_, digits: string) =>
      String(this.names.length).padStart(Number(digits), '0'),
    )
    try {
      await mkdir(this.temporary, { recursive: true })
      await (await loadSharp())(toBytes(frame), { raw: { width, height, channels: 3 } })
        .png()
        .toFile(join(this.temporary, name))
    } catch (error) {
      throw asFileError(error, this.path, 'write')
    }
    this.names.push(name)
  }

  async close(): Promise<void> {
    try {
      await mkdir(this.folder, { recursive: true })
      for (const name of this.names)
        await rename(join(this.temporary, name), join(this.folder, name))
    } catch (error) {
      throw asFileError(error, this.path, 'write')
    } finally {
      await this.abort()
    }
  }

  async abort(): Promise<void> {
    await rm(this.temporary, { force: true, recursive: true })
  }
}
