import { formatTable } from '../pipelines/pipeline-plan.js'
import { type Closeness, type Comparison, comparePictures } from '../quality/compare.js'
import { openPictures, type Pictures } from '../quality/pictures.js'

interface CompareArguments {
  key?: string
  range?: number
  frames?: boolean
  leastPsnr?: number
  json?: boolean
}

/** `sluice compare`: exit code 1 when the PSNR is below the least that was asked for, or no number. */
export async function compare(a: string, b: string, args: CompareArguments): Promise<void> {
  const first = await openPictures(a, args.key)
  const second = await openPictures(b, args.key)
  const result = comparePictures(first, second, args.range)
  const passed = args.leastPsnr === undefined || result.psnr >= args.leastPsnr
  console.log(
    args.json
      ? JSON.stringify(asJson(first, second, result, passed, args), null, 2)
      : describe(first, second, result, args),
  )
  if (!passed) process.exitCode = 1
}

function describe(
  a: Pictures,
  b: Pictures,
  result: Comparison,
  { frames, leastPsnr }: CompareArguments,
): string {
  const { planes, height, width } = a.shape
  const what = planes === 3 ? `${width} x ${height}` : `${planes} x ${height} x ${width}`
  const rows = frames ? result.frames.map((frame, i) => [`${i}`, ...cells(frame)]) : []
  const below = leastPsnr !== undefined && !(result.psnr >= leastPsnr)
  return [
    `${a.source} and ${b.source}: ${a.frames.length} frames of ${what}`,
    '',
    formatTable([
      ['frame', 'PSNR', 'SSIM', 'largest difference'],
      ...rows,
      ['all', ...cells(result)],
    ]),
    '',
    `measured by a range of ${figures(result.range)}${below ? `; PSNR below ${leastPsnr} dB` : ''}`,
  ].join('\n')
}

function cells({ psnr, ssim, largest }: Closeness): string[] {
  const decibels = psnr === Number.POSITIVE_INFINITY ? 'equal' : `${psnr.toFixed(2)} dB`
  return [decibels, ssim.toFixed(4), figures(largest)]
}

function figures(value: number): string {
  return String(Number(value.toPrecision(3)))
}

/** Infinity and NaN are no JSON: a PSNR of null with `equal` true is that of equal values, with false that of NaN. */
function asJson(
  a: Pictures,
  b: Pictures,
  result: Comparison,
  passed: boolean,
  { frames }: CompareArguments,
): object {
  const plain = ({ psnr, ssim, largest }: Closeness) => ({
    equal: largest === 0,
    psnr: Number.isFinite(psnr) ? psnr : null,
    ssim: Number.isFinite(ssim) ? ssim : null,
    largest: Number.isFinite(largest) ? largest : null,
  })
  return {
    passed,
    a: a.source,
    b: b.source,
    count: a.frames.length,
    ...a.shape,
    range: result.range,
    ...plain(result),
    ...(frames && { frames: result.frames.map(plain) }),
  }
}
