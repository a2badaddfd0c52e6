import { fileURLToPath } from 'node:url'
import * as assert from 'uvu/assert'
import { finished } from '../../support/process.js'

/** Runs one of the compiled tests beside this file again, in another environment. */
export async function again(file: string, env: NodeJS.ProcessEnv): Promise<void> {
  const path = fileURLToPath(new URL(`${file}.test.js`, import.meta.url))
  const { code, output } = await finished(process.execPath, [path], env)
  assert.is(code, 0, output)
}
