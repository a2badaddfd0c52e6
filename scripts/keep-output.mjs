// Runs a compiler and keeps what it wrote beside the object, as OBJECT.log, so that a build that is
// resumed still knows what was said of objects that are not compiled again.
//   node scripts/keep-output.mjs COMPILER ARGUMENTS…   (a compiler launcher of CMake's)
import { spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'

const [compiler, ...args] = process.argv.slice(2)
const object = args[args.indexOf('-o') + 1]
rmSync(`${object}.log`, { force: true })
const { status, stdout, stderr, error } = spawnSync(compiler, args, {
  encoding: 'utf8',
  maxBuffer: 1 << 28,
})
if (error) throw error
process.stdout.write(stdout)
process.stderr.write(stderr)
if (status === 0) writeFileSync(`${object}.log`, stdout + stderr)
process.exitCode = status ?? 1
