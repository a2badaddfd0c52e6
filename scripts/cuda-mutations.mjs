// How well the emulated GPU guards the CUDA kernels: every barrier, wait, arrival, fence, commit, stage
// index, shuffle and matrix row of cuda/kernels is left out or changed, one at a time, and every kernel run on small
// shapes; so is every wait between streams, under random commands. A mutant is killed where the emulator reports it or any bit of a result differs. And the
// other way round: the kernels as they are must run without a report under many schedule seeds.
//   node scripts/cuda-mutations.mjs [--seeds 20] [--minutes N] [--only FILE] [--out bench/results]
// Needs cmake and a C++ compiler; works in build/mutations, where results are kept, so that a call
// that ran out of its minutes is carried on by the next.
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { basename, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { EQUIVALENT, plant } from './cuda-mutants.mjs'
import { readable } from './ptxas.mjs'
import { dateOf, writeResult, writeWhole } from './results.mjs'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const TREE = join(ROOT, 'build/mutations')
const COPY = join(TREE, 'source')
const PROGRAM = join(COPY, 'build/emulation/emulation_families')
/** Runs commands through a queue, for mutants of streams. */
const LANES = join(COPY, 'build/emulation/emulation_lanes')
const STREAM_FILES = ['copies.cu', 'kernel_streams.cu', 'overlap.cu', 'queue.cu', 'transfer.cu']
const SOURCES = ['cuda', 'src/core', 'tests/cuda/native']
/** Seeds a mutant has to survive. */
const MUTANT_SEEDS = ['0', '1', '2', '3']
const ARCHITECTURES = ['75', '80', '90']
/** Processor time after which a run counts as one that never ends, in seconds. */
const LONGEST_RUN = 300
/** Cases that run a file's kernels; all cases where there is none. */
const CASES = {
  'conv_mma.hpp': 'conv f16',
  'conv_simt.cu': 'conv f32',
  'conv_wgmma.hpp': 'boxes f16',
  'attention_mma.hpp': 'attention f16',
  'attention_simt.cu': 'attention f32',
  'temporal_attention_mma.hpp': 'time attention',
  'temporal_attention_simt.cu': 'time attention',
  'norm.cu': 'norm',
}

/** Planted as mutant.hpp, which the headers of kernels and of the runtime then include. */
const SWITCH = `#pragma once
#include <cstdlib>
/** Whether the program runs with this mutant. */
inline bool mutant(int number) {
  static const int chosen = [] {
    const char *const text = std::getenv("SLUICE_MUTANT");
    return text ? std::atoi(text) : 0;
  }();
  return chosen == number;
}
`

function fail(text) {
  console.error(`sluice: ${text}`)
  process.exit(1)
}

/** Copies the sources and plants all mutants; writes only what differs, so that little is compiled. */
function copySources() {
  for (const folder of SOURCES) {
    for (const entry of readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })) {
      const path = relative(ROOT, join(entry.parentPath, entry.name))
      if (entry.isDirectory() || isMutated(path)) continue
      put(path, transformed(path, readFileSync(join(ROOT, path), 'utf8')))
    }
  }
  put('cuda/mutant.hpp', SWITCH)
  const mutants = []
  const kernels = readdirSync(join(ROOT, 'cuda/kernels')).sort()
  for (const path of [
    ...kernels.map(file => `cuda/kernels/${file}`),
    ...STREAM_FILES.map(file => `cuda/${file}`),
  ]) {
    const text = readFileSync(join(ROOT, path), 'utf8')
    const planted = plant(basename(path), text, mutants.length + 1)
    put(path, planted.text)
    mutants.push(...planted.mutants)
  }
  return mutants
}

const isMutated = path =>
  path.startsWith('cuda/kernels') || STREAM_FILES.some(file => path === `cuda/${file}`)

const transformed = (path, text) =>
  ['cuda/launch.hpp', 'cuda/runtime.hpp'].includes(path)
    ? text.replace('#pragma once\n', '#pragma once\n#include "mutant.hpp"\n')
    : text

function put(path, text) {
  const at = join(COPY, path)
  if (existsSync(at) && readFileSync(at, 'utf8') === text) return
  writeWhole(at, text)
}

function build() {
  const cmake = join(TREE, 'cmake')
  const ninja = spawnSync('ninja', ['--version']).status === 0 ? ['-G', 'Ninja'] : []
  const options = ['-DCMAKE_BUILD_TYPE=Release', '-DSLUICE_CUDA_EMULATION=ON']
  for (const args of [
    ['-S', join(COPY, 'cuda'), '-B', cmake, ...(existsSync(cmake) ? [] : ninja), ...options],
    ['--build', cmake, '--parallel', '1', '--target', 'emulation_families', 'emulation_lanes'],
  ]) {
    const { status, stdout, stderr } = spawnSync('cmake', args, { encoding: 'utf8' })
    if (status !== 0) fail(`cmake failed (${status})\n${`${stdout}${stderr}`.slice(-3000)}`)
  }
}

/** Lines that the program prints, and its exit code, or the signal that ended it: one where it took too long. */
async function run(args, env = {}, program = PROGRAM) {
  const limited = `ulimit -t ${LONGEST_RUN}; exec "$0" "$@"`
  const child = spawn('sh', ['-c', limited, program, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', data => {
    text += data
  })
  const ended = await new Promise(resolve => {
    child.on('close', (code, signal) => resolve(signal ?? code))
  })
  return { lines: text.split('\n').filter(Boolean), ended }
}

/** A line's case, seed and what follows. */
function parsed(line) {
  const [, name, seed, said] = /^(.+?) (\d+): (.*)$/.exec(line) ?? []
  return { name, seed, said }
}

const isBits = said => /^[0-9a-f]{16}$/.test(said)

/** All kernels in the program, by address. */
function kernelsOf() {
  const names = readdirSync(join(ROOT, 'cuda/kernels')).flatMap(file =>
    [
      ...readFileSync(join(ROOT, 'cuda/kernels', file), 'utf8').matchAll(
        /SLUICE_KERNEL\([^;{]*?\)\s+(\w+)\(/g,
      ),
    ].map(m => m[1]),
  )
  const { stdout } = spawnSync('nm', [PROGRAM], { encoding: 'utf8', maxBuffer: 1 << 28 })
  const rows = stdout
    .split('\n')
    .map(line => line.split(' '))
    .filter(([, kind]) => /^[tTW]$/.test(kind))
  const shown = readable(rows.map(([, , symbol]) => symbol))
  const out = new Map()
  rows.forEach(([address], i) => {
    const name = /^(\w+)(<.*>)?$/.exec(shown[i])?.[1]
    if (names.includes(name)) out.set(BigInt(`0x${address}`), shown[i])
  })
  return out
}

/** The bits of each case on one architecture, the kernels as they are. */
async function bitsOf(architecture) {
  const bits = new Map()
  for (const program of [PROGRAM, LANES]) {
    const { lines, ended } = await run(['0'], { SLUICE_EMULATION_ARCH: architecture }, program)
    for (const { name, said } of lines.map(parsed)) bits.set(name, said)
    if (ended !== 0) fail(`${basename(program)} as it is: ended with ${ended}`)
  }
  return bits
}

/** No report, the same bits under every seed, no kernel left out. */
async function schedules(count) {
  const seeds = Array.from({ length: count }, (_, i) => `${i}`)
  const bits = new Map()
  const alarms = []
  const kernels = kernelsOf()
  const launched = new Set()
  for (const architecture of ARCHITECTURES) {
    const env = { SLUICE_EMULATION_ARCH: architecture }
    const { lines, ended } = await run(['--kernels', ...seeds], env)
    if (ended !== 0) fail(`the kernels as they are: ended with ${ended}`)
    for (const line of lines) {
      if (line.startsWith('kernel ')) {
        launched.add(BigInt(line.slice(7)))
        continue
      }
      const { name, seed, said } = parsed(line)
      const key = `${architecture} ${name}`
      if (!bits.has(key)) bits.set(key, said)
      if (!isBits(said) || bits.get(key) !== said)
        alarms.push(`sm_${architecture}, ${name}, seed ${seed}: ${said}`)
    }
  }
  const left = [...kernels].filter(([address]) => !launched.has(address)).map(([, name]) => name)
  return { alarms, left, kernels: kernels.size, cases: bits.size, seeds: count }
}

/** What becomes of a mutant: the emulator's report, other bits, or how the program ended. */
async function judge(mutant, bits) {
  const part = CASES[mutant.file]
  const program = STREAM_FILES.includes(mutant.file) ? LANES : PROGRAM
  for (const seed of MUTANT_SEEDS) {
    const env = { SLUICE_MUTANT: `${mutant.number}`, SLUICE_EMULATION_ARCH: '90' }
    const { lines, ended } = await run([...(part ? ['--case', part] : []), seed], env, program)
    const wrong = lines.map(parsed).find(({ name, said }) => bits.get(name) !== said)
    if (wrong) {
      const by = isBits(wrong.said) ? 'numbers' : 'report'
      const report = wrong.said.replace(/^.*?got: /, '')
      return { killed: by, seed, case: wrong.name, ...(by === 'report' ? { report } : {}) }
    }
    if (ended !== 0) return { killed: `${ended}`, seed }
    if (lines.length === 0) fail(`no case runs ${mutant.file}`)
  }
  return { killed: null }
}

function table(results) {
  const kinds = [...new Set(results.map(r => r.kind))].sort()
  const count = (list, by) =>
    list.filter(r =>
      by === 'other' ? r.killed && !['report', 'numbers'].includes(r.killed) : r.killed === by,
    ).length
  const row = (name, list) =>
    `| ${name} | ${list.length} | ${count(list, 'report')} | ${count(list, 'numbers')} | ${count(list, 'other')} | ${list.filter(r => !r.killed && r.equivalent).length} | ${list.filter(r => !r.killed && !r.equivalent).length} |`
  return [
    '| what is changed | mutants | reported | other bits | crash or no end | equivalent | survived |',
    '| --- | --- | --- | --- | --- | --- | --- |',
    ...kinds.map(kind =>
      row(
        kind,
        results.filter(r => r.kind === kind),
      ),
    ),
    row('all', results),
  ]
}

function write(out, results, s) {
  const equivalent = results.filter(r => !r.killed && r.equivalent)
  const real = results.length - equivalent.length
  const killed = results.filter(r => r.killed).length
  const share = ((100 * killed) / real).toFixed(1)
  const lines = [
    '# Mutants of the CUDA kernels and streams under emulation',
    '',
    `\`node scripts/cuda-mutations.mjs --out bench/results\`; ${dateOf()}. Each mutant leaves out or changes one barrier, wait, arrival, fence, commit, stage index, shuffle, matrix row or wait of a stream; all kernels of its file, or random commands on all streams, then run under up to ${MUTANT_SEEDS.length} schedule seeds. ${killed} of ${real} are killed (${share} %).`,
    '',
    ...table(results),
    '',
    '## Survivors',
    '',
    ...(results.some(r => !r.killed) ? [] : ['None.']),
    ...results
      .filter(r => !r.killed)
      .map(
        r =>
          `- ${r.file}:${r.line}, \`${r.site}\`, ${r.what}: ${r.equivalent ? `equivalent: ${r.equivalent}` : 'survived'}`,
      ),
    '',
    '## No false alarm',
    '',
    `${s.kernels} kernel instances (${s.left.length ? `not launched: ${s.left.join(', ')}` : 'all launched'}), ${s.cases} cases on ${ARCHITECTURES.map(a => `sm_${a}`).join(', ')}, ${s.seeds} schedule seeds each: ${s.alarms.length} reports or differing bits.`,
    ...s.alarms.map(a => `- ${a}`),
  ]
  writeResult(
    join(out, 'cuda-mutations'),
    { killed, mutants: real, equivalent: equivalent.length, schedules: s, results },
    lines,
  )
  console.log(
    `${killed} of ${real} mutants killed (${share} %), ${equivalent.length} equivalent; ${s.alarms.length} false alarms over ${s.seeds} seeds`,
  )
}

async function main() {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '20' },
      minutes: { type: 'string', default: '60' },
      only: { type: 'string' },
      out: { type: 'string' },
    },
  })
  const end = Date.now() + Number(values.minutes) * 60_000
  mkdirSync(TREE, { recursive: true })
  const mutants = copySources()
  console.log(`${mutants.length} mutants; compiling`)
  build()
  const known = join(TREE, 'results.json')
  const programs = createHash('sha256').update(readFileSync(PROGRAM)).update(readFileSync(LANES))
  const key = programs.digest('hex')
  const kept = existsSync(known) ? JSON.parse(readFileSync(known, 'utf8')) : {}
  const verdicts = kept.key === key ? kept.verdicts : {}
  const bits = await bitsOf('90')
  let open = 0
  for (const mutant of mutants) {
    if (verdicts[mutant.number] || (values.only && mutant.file !== values.only)) continue
    if (Date.now() > end) {
      open++
      continue
    }
    const verdict = await judge(mutant, bits)
    verdicts[mutant.number] = verdict
    writeWhole(known, JSON.stringify({ key, verdicts }))
    if (!verdict.killed)
      console.log(`survived: ${mutant.file}:${mutant.line} ${mutant.site}, ${mutant.what}`)
  }
  if (open) return console.log(`${open} mutants are left for the next call`)
  const s = await schedules(Number(values.seeds))
  console.log(
    `${s.cases} cases, ${s.kernels} kernels, ${s.seeds} seeds: ${s.alarms.length} false alarms, ${s.left.length} kernels not launched`,
  )
  const results = mutants
    .filter(({ number }) => verdicts[number])
    .map(mutant => {
      const equivalent = EQUIVALENT[`${mutant.file} ${mutant.site} ${mutant.what}`]
      return { ...mutant, ...verdicts[mutant.number], ...(equivalent ? { equivalent } : {}) }
    })
  if (values.out && !values.only) write(values.out, results, s)
}

await main()
