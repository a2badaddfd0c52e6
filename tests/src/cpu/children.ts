import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import * as assert from 'uvu/assert'

/** Runs a program to its end. */
export async function finished(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<{ code: number | null; output: string }> {
  const child = spawn(program, args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', text => {
      output += text
    })
  }
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('close', resolve)
    child.on('error', reject)
  })
  return { code, output: output.trim() }
}

/** Runs one of the compiled tests beside this file again, in another environment. */
export async function again(file: string, env: NodeJS.ProcessEnv): Promise<void> {
  const path = fileURLToPath(new URL(`${file}.test.js`, import.meta.url))
  const { code, output } = await finished(process.execPath, [path], env)
  assert.is(code, 0, output)
}
