import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

const folder = fileURLToPath(new URL('../../bench', import.meta.url))

function run(name: string, ...options: string[]) {
  return new Promise<{ code: number; stdout: string; stderr: string }>(resolve => {
    execFile(process.execPath, [`${folder}/${name}.js`, ...options], (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
    )
  })
}

test('every benchmark lists its options, and refuses in a line what is none', async () => {
  for (const name of ['arena', 'kernels', 'overhead', 'peaks', 'rehash', 'slicing', 'step']) {
    const help = await run(name, '--help')
    assert.is(help.code, 0, name)
    assert.match(help.stdout, new RegExp(`^usage: node dist/bench/${name}.js`))
    assert.match(help.stdout, /--out <value>/)
    const unknown = await run(name, '--nope')
    assert.is(unknown.code, 2, name)
    assert.match(unknown.stderr, new RegExp(`^${name}: .*--nope.*\n$`))
  }
})

test('counts and choices are checked', async () => {
  for (const [options, expected] of [
    [['--rounds', '0'], /--rounds: expected a positive integer, got 0/],
    [['--threads', '1,x'], /--threads: expected a positive integer, got x/],
    [['--threads', '1,'], /--threads: expected a positive integer, got none/],
    [['--only', 'zzz'], /--only: expected a word in the name of a kernel, got zzz/],
    [['--compute', 'f16'], /--compute: expected one of f32, bf16, got f16/],
  ] as const) {
    const { code, stderr } = await run('kernels', ...options)
    assert.is(code, 2)
    assert.match(stderr, expected)
  }
})

test.run()
