// What `ptxas -v` says of kernels: read, judged and written as a report.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { dateOf, writeResult } from './results.mjs'

/** Static shared memory that every launch has, in bytes. */
const MOST_STATIC_SHARED = 48 * 1024
const MOST_REGISTERS = 255

/** Each kernel on each architecture: registers a thread, bytes of spills, stack and static shared memory. */
export function parsePtxas(text) {
  const kernels = []
  for (const part of text.split(/Compiling entry function /).slice(1)) {
    const [, name, architecture] = /^'(\S+)' for '(\S+)'/.exec(part) ?? []
    const number = pattern => Number(pattern.exec(part)?.[1] ?? 0)
    if (!name) continue
    kernels.push({
      name,
      architecture,
      registers: number(/Used (\d+) registers/),
      spillBytes: number(/(\d+) bytes spill stores/) + number(/(\d+) bytes spill loads/),
      stackBytes: number(/(\d+) bytes stack frame/),
      sharedBytes: number(/(\d+) bytes smem/),
    })
  }
  return kernels
}

/** Complaints about kernels, one a line. */
export function faultsOf(kernels) {
  return kernels.flatMap(({ name, architecture, registers, spillBytes, sharedBytes }) => {
    const faults = []
    if (registers === 0) faults.push('no count of registers')
    if (spillBytes > 0) faults.push(`${spillBytes} bytes of spills`)
    if (registers > MOST_REGISTERS) faults.push(`${registers} registers`)
    if (sharedBytes > MOST_STATIC_SHARED)
      faults.push(`${sharedBytes} bytes of static shared memory`)
    return faults.map(fault => `${name} on ${architecture}: ${fault}`)
  })
}

/** Names as in the source, where c++filt is at hand, shortened to what tells instances apart. */
export function readable(names) {
  const { status, stdout } = spawnSync('c++filt', [], { encoding: 'utf8', input: names.join('\n') })
  if (status !== 0) return names
  return stdout.split('\n').map(name =>
    name
      .replace(/^void /, '')
      .replace(/\(anonymous namespace\)::|sluice::cuda::/g, '')
      .replace(/\(Fill\)0/g, 'direct')
      .replace(/\(Fill\)1/g, 'prologue')
      .replace(/\(Fill\)2/g, 'elementwise')
      .replace(/\(bool\)1/g, 'true')
      .replace(/\(bool\)0/g, 'false')
      .replace(/\((int|unsigned int)\)/g, '')
      .replace(/\([^()]*\)$/, ''),
  )
}

/** Registers of each kernel on each architecture, as a table. */
function table(kernels) {
  const architectures = [...new Set(kernels.map(k => k.architecture))].sort(
    (a, b) => Number.parseInt(a.slice(3), 10) - Number.parseInt(b.slice(3), 10),
  )
  const names = [...new Set(kernels.map(k => k.name))]
  const shown = new Map(readable(names).map((text, i) => [names[i], text]))
  names.sort((a, b) => (shown.get(a) < shown.get(b) ? -1 : 1))
  const cell = (name, architecture) => {
    const k = kernels.find(one => one.name === name && one.architecture === architecture)
    if (!k) return ''
    return `${k.registers}${k.spillBytes ? ` (${k.spillBytes} B spilled)` : ''}`
  }
  const shared = name => Math.max(...kernels.filter(k => k.name === name).map(k => k.sharedBytes))
  return [
    `| kernel | static shared bytes | ${architectures.join(' | ')} |`,
    `| --- | --- | ${architectures.map(() => '---').join(' | ')} |`,
    ...names.map(
      name =>
        `| \`${shown.get(name)}\` | ${shared(name)} | ${architectures.map(a => cell(name, a)).join(' | ')} |`,
    ),
  ]
}

/** Writes FOLDER/cuda-compile.json and .md. */
export function writeReport(folder, { compiler, bytes, kernels }) {
  const spills = kernels.filter(k => k.spillBytes > 0).length
  const lines = [
    '# What the compiler says of every CUDA kernel',
    '',
    `\`npm run build:cuda -- --report bench/results\`; ${compiler}; ${dateOf()}. The library: ${(bytes / 1e6).toFixed(2)} MB, all architectures and PTX for later ones. ${kernels.length} compiled kernels, ${spills} of them with spills, at most ${Math.max(...kernels.map(k => k.registers))} registers and ${Math.max(...kernels.map(k => k.stackBytes))} bytes of stack a thread. Registers a thread by architecture:`,
    '',
    ...table(kernels),
  ]
  writeResult(join(folder, 'cuda-compile'), { compiler, bytes, kernels }, lines)
}
