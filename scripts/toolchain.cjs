// Says in one line what is missing before a native build starts; nothing when all is there.
// Runs as node-gyp-build's first step, where no package but this one can be counted on.
const { spawnSync } = require('node:child_process')

const MINIMUM_CMAKE = [3, 24]

/** Standard output of a command, or undefined where it cannot run. */
function output(command, ...args) {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8', windowsHide: true })
  return status === 0 ? stdout : undefined
}

const any = (commands, ...args) => commands.some(c => c && output(c, ...args) !== undefined)

function older([major, minor], [wantedMajor, wantedMinor]) {
  return major < wantedMajor || (major === wantedMajor && minor < wantedMinor)
}

/** What is missing for a build, as `needs …` clauses; gyp additionally asks for Python. */
function missing({ gyp = false } = {}) {
  const needs = []
  const version = /(\d+)\.(\d+)/.exec(output('cmake', '--version') ?? '')
  const wanted = MINIMUM_CMAKE.join('.')
  if (!version) needs.push(`cmake (>= ${wanted}) on PATH`)
  else if (older([Number(version[1]), Number(version[2])], MINIMUM_CMAKE)) {
    needs.push(`cmake >= ${wanted} (found ${version[0]})`)
  }
  if (process.platform !== 'win32') {
    if (!any([process.env.CXX?.split(' ')[0], 'c++', 'g++', 'clang++'], '--version')) {
      needs.push('a C++20 compiler (g++ or clang++) on PATH')
    }
    if (!any(['ninja', 'make'], '--version')) needs.push('ninja or make on PATH')
  }
  if (gyp && !any([process.env.PYTHON, 'python3', 'python'], '--version')) {
    needs.push('Python 3 on PATH (for node-gyp)')
  }
  return needs
}

/** The one line to show, or undefined when a build can start. */
function complaint(options) {
  const needs = missing(options)
  if (!needs.length) return undefined
  const list = needs.length > 1 ? `${needs.slice(0, -1).join(', ')} and ${needs.at(-1)}` : needs[0]
  const it = needs.length > 1 ? 'them' : 'it'
  return `sluice: building the native addon needs ${list}; install ${it}, or use a platform with a prebuilt binary (linux-x64)`
}

module.exports = { complaint }

if (require.main === module) {
  const line = complaint({ gyp: process.env.npm_lifecycle_event === 'install' })
  if (line) {
    console.error(line)
    process.exitCode = 1
  }
}
