/** One pass through the UNet on the GPU, timed; its inputs and output are left for the rival: `step.js REQUEST [BUDGET]`. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openCheckpoint } from '../../../lib/io/checkpoint.js'
import { gaussian } from '../../../lib/io/random.js'
import {
  clipTextConfig,
  unetMotion,
  unetMotionConfig,
  unetSpatioTemporal,
  unetSpatioTemporalConfig,
} from '../../../lib/models/index.js'
import { checkpointWeights } from '../../../lib/pipelines/checkpoint-weights.js'
import type { Program } from '../../../lib/program/index.js'
import { elementCount } from '../../../lib/program/tensor.js'
import { compile } from '../../../lib/runtime/executable.js'
import { formatBytes } from '../../../lib/units.js'
import { tell } from '../child.js'
import { freeBytes, gpu } from '../device.js'
import type { NetworkRequest, StepResult } from '../network-request.js'

const request = JSON.parse(process.argv[2]!) as NetworkRequest
const budget = process.argv[3]

const checkpoint = openCheckpoint(request.folder, {})
const size = { frames: request.frames, rows: request.height / 8, cols: request.width / 8 }

function network(): Program {
  const config = (name: string) => checkpoint.component(name).config
  if (request.model !== 'animatediff')
    return unetSpatioTemporal(unetSpatioTemporalConfig(config('unet')), size)
  const tokens = clipTextConfig(config('text_encoder')).maxTokens
  return unetMotion(unetMotionConfig(config('unet'), config('motion_adapter')), {
    ...size,
    tokens,
  })
}

const program = network()
const given: Readonly<Record<string, number[]>> = {
  timestep: [request.model === 'animatediff' ? 500 : 1],
  added_time_ids: [6, 127, 0.02],
}
const inputs = Object.fromEntries(
  Object.entries(program.inputs).map(([name, { shape }], i) => [
    name,
    Float32Array.from(given[name] ?? gaussian(11, elementCount(shape), i)),
  ]),
)
const save = (name: string, values: Float32Array) =>
  writeFileSync(join(request.exchange, `${name}.f32`), values)
for (const [name, values] of Object.entries(inputs)) save(name, values)
writeFileSync(
  join(request.exchange, 'shapes.json'),
  JSON.stringify(
    Object.fromEntries(Object.entries(program.inputs).map(([name, { shape }]) => [name, shape])),
  ),
)

const before = freeBytes()
const executable = await compile(program, {
  device: gpu,
  weights: checkpointWeights(checkpoint),
  ...(budget && { budget }),
})
const deviceBytes = before - freeBytes()
const times: number[] = []
let output: Float32Array | undefined
// The first pass loads the kernels, the second makes graphs.
for (let pass = -2; pass < request.steps; pass++) {
  const start = performance.now()
  const { sample } = await executable.run(inputs)
  if (pass >= 0) times.push(performance.now() - start)
  output = sample
}
save('output', output!)
const { peakBytes } = executable.plan
const result: StepResult = {
  milliseconds: times.sort((a, b) => a - b)[times.length >> 1]!,
  peakBytes,
  measuredBytes: executable.close().peakBytes,
  deviceBytes,
}
tell({
  passed: result.measuredBytes <= peakBytes && output!.every(Number.isFinite),
  detail: `${result.milliseconds.toFixed(1)} ms, ${formatBytes(peakBytes)}`,
  values: result,
})
