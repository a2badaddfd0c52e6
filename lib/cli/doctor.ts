import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { promisify } from 'node:util'
import { requireEncoder } from '../io/video-ffmpeg.js'
import { packageRoot } from '../package-root.js'
import { embeddedModel } from '../pipelines/embedded.js'
import { formatTable } from '../pipelines/pipeline-plan.js'
import type { Addon } from '../runtime/addon-types.js'
import { native } from '../runtime/native.js'
import { formatBytes } from '../units.js'
import { packageVersion } from './package-info.js'

/** `sluice doctor`: never fails but for an addon that does not load, and even then says all the rest. */
export async function doctor({ json = false }: { json?: boolean }): Promise<void> {
  const addon = attempt(native)
  const report = {
    version: packageVersion(),
    node: process.version,
    platform: `${process.platform}-${process.arch}, ${release()}`,
    memory: memory(),
    addon: describeAddon(addon),
    cpu: describeCpu(addon),
    devices: addon.value?.devices() ?? [],
    missing: addon.value?.missing() ?? {},
    ffmpeg: await describeFfmpeg(),
    model: attempt(embeddedModel),
  }
  console.log(json ? JSON.stringify(report, null, 2) : describe(report))
  if (addon.error) throw addon.error
}

interface Attempt<T> {
  value?: T
  error?: Error
}

function attempt<T>(action: () => T): Attempt<T> {
  try {
    return { value: action() }
  } catch (error) {
    return { error: error as Error }
  }
}

function memory() {
  // 0 or huge where no control group limits the process.
  const limit = process.constrainedMemory()
  const total = totalmem()
  return { totalBytes: total, limitBytes: limit > 0 && limit < total ? limit : undefined }
}

function describeAddon({ value, error }: Attempt<Addon>) {
  const root = packageRoot()
  const { path } = createRequire(import.meta.url)('node-gyp-build') as {
    path: (root: string) => string
  }
  if (!value) return { path: attempt(() => path(root)).value, error: error!.message }
  const { version, commandVersion, backendVersion } = value
  return { path: path(root), version, commandVersion, backendVersion }
}

function describeCpu({ value }: Attempt<Addon>) {
  const isa = value?.cpu()
  return {
    model: isa?.model || cpus()[0]?.model || 'unknown',
    cores: cpus().length,
    /** What the affinity mask allows. */
    parallelism: availableParallelism(),
    /** What the control group's quota grants besides: what runs use without --threads. */
    threads: isa?.threads,
    instructions: isa?.available ?? [],
    selected: isa?.selected,
    bf16: isa?.bf16,
  }
}

async function describeFfmpeg() {
  try {
    const { stdout } = await promisify(execFile)('ffmpeg', ['-version'])
    const version = /^ffmpeg version (\S+)/.exec(stdout)?.[1] ?? 'unknown'
    const writes: string[] = []
    for (const kind of ['mp4', 'webm'] as const) {
      const works = await requireEncoder('', 'ffmpeg', kind).then(
        () => true,
        () => false,
      )
      if (works) writes.push(kind)
    }
    return { version, writes }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    return { error: code === 'ENOENT' ? 'not found on PATH; WebP, GIF and PNG need none' : message }
  }
}

type Report = {
  version: string
  node: string
  platform: string
  memory: ReturnType<typeof memory>
  addon: ReturnType<typeof describeAddon>
  cpu: ReturnType<typeof describeCpu>
  devices: ReturnType<Addon['devices']>
  missing: Record<string, string>
  ffmpeg: Awaited<ReturnType<typeof describeFfmpeg>>
  model: Attempt<string>
}

function describe(report: Report): string {
  const { addon, cpu, devices, missing, ffmpeg, model } = report
  const { totalBytes, limitBytes } = report.memory
  const addonLine =
    'error' in addon
      ? `not loaded${addon.path ? ` (${addon.path})` : ''}`
      : `${addon.version}, commands ${addon.commandVersion}, backends ${addon.backendVersion}, ${addon.path}`
  const rows = [
    ['sluice', report.version],
    ['node', report.node],
    ['platform', report.platform],
    [
      'memory',
      `${formatBytes(totalBytes)}${limitBytes ? `, limited to ${formatBytes(limitBytes)} by the control group` : ''}`,
    ],
    ['addon', addonLine],
    ['processor', `${cpu.model}, ${cpu.cores} logical cores`],
    [
      'threads',
      cpu.threads === undefined
        ? 'unknown'
        : `${cpu.threads}, of ${cpu.parallelism} by affinity (the control group's quota counts)`,
    ],
    [
      'instructions',
      cpu.selected === undefined
        ? 'unknown'
        : `${cpu.selected} in use, of ${cpu.instructions.join(', ')}; ${cpu.bf16 ? 'with' : 'without'} products of bfloat16`,
    ],
    ...devices.map(({ id, name, detail, memoryBytes, freeBytes }) => [
      `device ${id}`,
      `${[name, detail].filter(Boolean).join(', ')}, ${formatBytes(freeBytes)} free of ${formatBytes(memoryBytes)}`,
    ]),
    ...Object.entries(missing).map(([backend, reason]) => [`no ${backend}`, reason]),
    [
      'ffmpeg',
      'error' in ffmpeg
        ? ffmpeg.error
        : `${ffmpeg.version}, writes ${ffmpeg.writes.join(', ') || 'neither mp4 nor webm'}`,
    ],
    ['model', model.value ?? model.error!.message],
  ]
  return formatTable([['what', 'found'], ...(rows as string[][])])
}
