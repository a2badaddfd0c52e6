import { execFile } from 'node:child_process'
import { readdirSync, statSync } from 'node:fs'
import { extname, join } from 'node:path'
import { promisify } from 'node:util'
import { FileError } from '../errors.js'
import { asFileError } from './atomic.js'
import { type Frame, fromBytes, readPixels } from './image.js'
import { loadSharp } from './sharp.js'

/**
 * Every frame of a video: a `.webp` or `.gif`, a picture, a folder of PNG files in the order of their numbers, or what ffmpeg reads
 * (`.mp4`, `.webm`, `.mov`, `.mkv`).
 * @param ffmpeg to run: `ffmpeg` on PATH by default
 * @throws FileError when there is none, it cannot be read, or ffmpeg is missing
 */
export async function readVideo(path: string, ffmpeg = 'ffmpeg'): Promise<Frame[]> {
  let isFolder: boolean
  try {
    isFolder = statSync(path).isDirectory()
  } catch (error) {
    throw asFileError(error, path, 'read')
  }
  if (isFolder) return readFolder(path)
  switch (extname(path).toLowerCase()) {
    case '.mp4':
    case '.webm':
    case '.mov':
    case '.mkv':
      return readByFfmpeg(path, ffmpeg)
    default:
      return readAnimation(path)
  }
}

async function readFolder(path: string): Promise<Frame[]> {
  const names = readdirSync(path).filter(name => /\.png$/i.test(name))
  if (names.length === 0)
    throw new FileError(
      `${path}: expected PNG files in the folder, got none; name a folder of frames, or a video file`,
      path,
    )
  names.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
  const frames: Frame[] = []
  for (const name of names) {
    const { width, height, data } = await readPixels(join(path, name))
    frames.push({ width, height, data: fromBytes(data, width * height) })
  }
  return frames
}

/** All pages at once: each builds on the ones before it. */
async function readAnimation(path: string): Promise<Frame[]> {
  try {
    const image = (await loadSharp())(path, { animated: true, limitInputPixels: false })
    const { pages = 1 } = await image.metadata()
    const { data, info } = await image
      .flatten()
      .toColourspace('srgb')
      .removeAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true })
    const [width, height] = [info.width, info.height / pages]
    const size = 3 * width * height
    return Array.from({ length: pages }, (_, i) => ({
      width,
      height,
      data: fromBytes(data.subarray(i * size, (i + 1) * size), width * height),
    }))
  } catch (error) {
    const known = asFileError(error, path, 'read')
    if (known instanceof FileError) throw known
    throw new FileError(
      `${path}: expected a video or a picture, got ${(error as Error).message.split('\n')[0]}; give .webp, .gif, .png, .mp4, .webm, a folder of PNG files, or .safetensors`,
      path,
      { cause: error },
    )
  }
}

/** Through PPM pictures, which say their own size. */
async function readByFfmpeg(path: string, ffmpeg: string): Promise<Frame[]> {
  const input = ['-hide_banner', '-loglevel', 'error', '-nostdin', '-i', path]
  // Every frame once, none repeated to fill a rate.
  const output = ['-fps_mode', 'passthrough', '-f', 'image2pipe', '-c:v', 'ppm', 'pipe:1']
  let bytes: Buffer
  try {
    const options = { encoding: 'buffer', maxBuffer: Number.POSITIVE_INFINITY } as const
    bytes = (await promisify(execFile)(ffmpeg, [...input, ...output], options)).stdout
  } catch (error) {
    const { code, stderr } = error as NodeJS.ErrnoException & { stderr?: Buffer }
    const got =
      code === 'ENOENT'
        ? `none at ${ffmpeg}`
        : stderr?.toString().trim().split('\n').at(-1) || (error as Error).message
    const remedy =
      code === 'ENOENT'
        ? 'install ffmpeg, or give .webp or a folder of PNG files'
        : 'check the file'
    throw new FileError(
      `${path}: expected ffmpeg to decode the video, got ${got}; ${remedy}`,
      path,
      { cause: error },
    )
  }
  const frames: Frame[] = []
  while (bytes.length > 0) {
    const [header, width, height] =
      bytes.toString('latin1', 0, 64).match(/^P6\s(\d+)\s(\d+)\s255\s/) ?? []
    const size = 3 * Number(width) * Number(height)
    const start = header?.length ?? 0
    if (!header || bytes.length < start + size)
      throw new FileError(
        `${path}: expected ffmpeg to give whole pictures, got ${bytes.length} bytes of another kind; check the file and ffmpeg`,
        path,
      )
    const data = fromBytes(bytes.subarray(start, start + size), size / 3)
    frames.push({ width: Number(width), height: Number(height), data })
    bytes = bytes.subarray(start + size)
  }
  return frames
}
