// Runs the compiled tests, each file in a process of its own, so that a native crash is one failed
// file and not the end of the run. The last line is `N passed, N failed`.
//   node scripts/test.mjs [PATTERN…]     files whose path contains a pattern; all without one
// Environment: SLUICE_TEST_JOBS (files at a time, 2), SLUICE_TEST_TIMEOUT (seconds a file, 600).
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, realpathSync } from 'node:fs'
import { join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const SUFFIX = /\.test\.js$/

/** Compiled test files that still have their source, as paths below `compiled`, in order. */
export function testFiles(compiled, sources, patterns) {
  return readdirSync(compiled, { recursive: true })
    .filter(
      file => SUFFIX.test(file) && existsSync(join(sources, file.replace(SUFFIX, '.test.ts'))),
    )
    .map(file => file.split(sep).join('/'))
    .filter(file => !patterns.length || patterns.some(pattern => file.includes(pattern)))
    .sort()
}

/** Counts of one file from uvu's closing summary and from how its process ended. */
export function verdict(output, code, signal) {
  const count = label => Number(output.match(new RegExp(`^ {2}${label}: +(\\d+)`, 'm'))?.[1] ?? 0)
  const [total, passed, skipped] = [count('Total'), count('Passed'), count('Skipped')]
  let failed = total - passed
  let reason = ''
  if (signal) reason = `killed by ${signal}`
  else if (total === 0) reason = 'ran no test'
  else if (code !== 0 && failed === 0) reason = `exit code ${code}`
  if (reason) failed += 1
  return { passed, failed, skipped, reason }
}

/** Runs one file; resolves with its verdict, output and seconds. */
export async function runFile(path, timeout) {
  const started = performance.now()
  const child = spawn(process.execPath, [path], {
    cwd: ROOT,
    // Plans must not depend on what this machine has measured.
    env: { SLUICE_CALIBRATION: 'none', ...process.env, NO_COLOR: '1', FORCE_COLOR: undefined },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', text => {
      output += text
    })
  }
  let late = false
  const timer = setTimeout(() => {
    late = true
    child.kill('SIGKILL')
  }, timeout * 1000)
  const [code, signal] = await new Promise(resolve => child.on('close', (...end) => resolve(end)))
  clearTimeout(timer)
  const result = verdict(output, code, signal)
  if (late) result.reason = `still running after ${timeout} s`
  return { ...result, output, seconds: (performance.now() - started) / 1000 }
}

function report(file, { passed, failed, skipped, reason, output, seconds }) {
  const notes = [`${passed} passed`]
  if (failed) notes.push(`${failed} failed`)
  if (skipped) notes.push(`${skipped} skipped`)
  if (reason) notes.push(reason)
  console.log(`${failed ? 'FAIL' : 'ok  '} ${file}  ${notes.join(', ')}  (${seconds.toFixed(1)} s)`)
  if (failed) console.log(output.replace(/^/gm, '     | '))
}

async function main(patterns) {
  const jobs = Number(process.env.SLUICE_TEST_JOBS) || 2
  const timeout = Number(process.env.SLUICE_TEST_TIMEOUT) || 600
  const compiled = join(ROOT, 'dist/tests')
  const queue = testFiles(compiled, join(ROOT, 'tests'), patterns)
  if (!queue.length) console.log(`no test file matches ${patterns.join(', ')}`)

  const sum = { passed: 0, failed: queue.length ? 0 : 1 }
  const worker = async () => {
    for (let file = queue.shift(); file; file = queue.shift()) {
      const result = await runFile(join(compiled, file), timeout)
      report(file, result)
      sum.passed += result.passed
      sum.failed += result.failed
    }
  }
  await Promise.all(Array.from({ length: jobs }, worker))
  console.log(`${sum.passed} passed, ${sum.failed} failed`)
  process.exitCode = sum.failed ? 1 : 0
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url))
  await main(process.argv.slice(2))
