import { existsSync, statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { type Component, openCheckpoint, openComponent } from '../io/checkpoint.js'
import { readSafetensorsHeader, type TensorEntry } from '../io/safetensors.js'
import { formatTable } from '../pipelines/pipeline-plan.js'
import { formatBytes } from '../units.js'
import { exactBytes, grouped } from './format.js'

interface ComponentSummary {
  name: string
  className?: string
  /** Absent where there are no weight files: configurations alone, tokenizers, schedulers. */
  weights?: WeightSummary
}

interface WeightSummary {
  tensors: number
  parameters: number
  bytes: number
  /** Parameters of each dtype. */
  dtypes: Record<string, number>
  files: string[]
}

/** `sluice inspect`: a checkpoint, one component's folder, or a file. Headers only. */
export function inspect(path: string, { json = false }: { json?: boolean }): void {
  const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory()
  const isCheckpoint =
    isFolder &&
    (existsSync(join(path, 'model_index.json')) || !existsSync(join(path, 'config.json')))
  const [data, text] = isCheckpoint ? checkpoint(path) : isFolder ? component(path) : file(path)
  console.log(json ? JSON.stringify(data, null, 2) : text)
}

function checkpoint(path: string): [object, string] {
  const opened = openCheckpoint(path)
  const components = opened.names.map(name => summarise(opened.component(name)))
  const weights = components.flatMap(({ weights }) => weights ?? [])
  const total = {
    parameters: weights.reduce((sum, { parameters }) => sum + parameters, 0),
    bytes: weights.reduce((sum, { bytes }) => sum + bytes, 0),
  }
  const scheduler = opened.has('scheduler') ? opened.component('scheduler').config : undefined
  const data = { path, pipeline: opened.pipeline, components, scheduler, ...total }
  const rows = components.map(row)
  const text = [
    `${path}: ${opened.pipeline}`,
    '',
    formatTable([
      head,
      ...rows,
      ['total', '', '', grouped(total.parameters), formatBytes(total.bytes), ''],
    ]),
  ]
  if (scheduler) text.push('', `scheduler: ${describeScheduler(scheduler)}`)
  return [data, text.join('\n')]
}

function component(path: string): [object, string] {
  const summary = summarise(openComponent(path, basename(resolve(path))))
  return [{ path, ...summary }, `${path}\n\n${formatTable([head, row(summary)])}`]
}

const head = ['component', 'class', 'tensors', 'parameters', 'bytes', 'dtypes']

function row({ name, className, weights }: ComponentSummary): string[] {
  if (!weights) return [name, className ?? '', '', '', '', '']
  const { tensors, parameters, bytes, dtypes } = weights
  return [
    name,
    className ?? '',
    grouped(tensors),
    grouped(parameters),
    formatBytes(bytes),
    Object.keys(dtypes).join(', '),
  ]
}

function summarise(component: Component): ComponentSummary {
  const { name, path } = component
  const config = name === 'scheduler' ? 'scheduler_config.json' : 'config.json'
  const className = existsSync(join(path, config)) ? component.className : undefined
  if (!component.hasWeights) return { name, className }
  const { weights } = component
  const tensors = [...weights.values()]
  const files = weights.files.map(file => basename(file))
  return { name, className, weights: { tensors: tensors.length, ...totals(tensors), files } }
}

function totals(
  tensors: readonly TensorEntry[],
): Pick<WeightSummary, 'parameters' | 'bytes' | 'dtypes'> {
  const dtypes: Record<string, number> = {}
  let parameters = 0
  let bytes = 0
  for (const tensor of tensors) {
    const count = tensor.shape.reduce((a, b) => a * b, 1)
    dtypes[tensor.dtype] = (dtypes[tensor.dtype] ?? 0) + count
    parameters += count
    bytes += tensor.bytes
  }
  return { parameters, bytes, dtypes }
}

function describeScheduler(config: Readonly<Record<string, unknown>>): string {
  const keys = ['beta_schedule', 'beta_start', 'beta_end', 'prediction_type', 'timestep_spacing']
  const stated = keys.filter(key => config[key] !== undefined).map(key => `${key} ${config[key]}`)
  return [config._class_name ?? 'no class', ...stated].join(', ')
}

function file(path: string): [object, string] {
  const { bytes: fileBytes, metadata, tensors: entries } = readSafetensorsHeader(path)
  const list = [...entries.values()]
  const { parameters, bytes, dtypes } = totals(list)
  const tensors = list.map(({ key, dtype, shape, bytes, offset }) => ({
    name: key,
    dtype,
    shape,
    bytes,
    offset,
  }))
  const data = { path, fileBytes, metadata, parameters, bytes, dtypes, tensors }
  const rows = tensors.map(({ name, dtype, shape, bytes }) => [
    name,
    dtype,
    `[${shape.join(', ')}]`,
    grouped(bytes),
  ])
  const text = [
    `${path}: ${list.length} tensors, ${grouped(parameters)} values, ${exactBytes(bytes)}`,
    ...Object.entries(metadata).map(([key, value]) => `${key}: ${value}`),
    '',
    formatTable([['tensor', 'dtype', 'shape', 'bytes'], ...rows]),
  ]
  return [data, text.join('\n')]
}
