import { fileURLToPath } from 'node:url'
import * as assert from 'uvu/assert'
import { actCode, CommandWriter, dtypeCode, type View } from '../../lib/planner/commands.js'
import type { NativeStream } from '../../lib/runtime/addon-types.js'
import { native } from '../../lib/runtime/native.js'
import { finished } from '../support/process.js'

/** A contiguous float32 operand of [1, 1, tokens, channels]. */
export function rows(offset: number, channels: number, slot = 0): View {
  return { slot, dtype: dtypeCode.f32, offset, strides: [0, 0, channels] }
}

/** Checks that `body` throws an error of a code, with a message that matches. */
export function throwsCode(body: () => unknown, code: string, message: RegExp): void {
  let error: (Error & { code?: string }) | undefined
  try {
    body()
  } catch (thrown) {
    error = thrown as Error
  }
  assert.ok(error instanceof Error, `expected an error with code ${code}`)
  assert.is(error.code, code, error.message)
  assert.match(error.message, message)
}

/** Checks that a promise rejects with a code and a message that matches. */
export async function rejectsCode(promise: Promise<unknown>, code: string, message: RegExp) {
  const error = await promise.then(
    () => undefined,
    thrown => thrown as Error & { code?: string },
  )
  assert.ok(error instanceof Error, `expected a rejection with code ${code}`)
  assert.is(error.code, code, error.message)
  assert.match(error.message, message)
}

/** A stream of `count` commands out = act(source) over `tokens` x `channels` floats. */
export function unaryStream(
  count: number,
  tokens: number,
  channels: number,
  act: keyof typeof actCode = 'silu',
): NativeStream {
  const writer = new CommandWriter()
  const bytes = tokens * channels * 4
  for (let i = 0; i < count; i++) {
    writer.unary(i, 0, {
      act: actCode[act],
      extents: [1, 1, tokens, channels],
      source: rows(0, channels),
      out: rows(bytes, channels),
    })
  }
  return native().loadStream('cpu', writer.finish(), Float64Array.of(2 * bytes, 0, 0))
}

/** How a script of children/ ended, run in a process of its own. */
export async function runChild(
  name: string,
  env: Record<string, string> = {},
  flags: string[] = [],
) {
  const script = fileURLToPath(new URL(`children/${name}.js`, import.meta.url))
  return await finished(process.execPath, [...flags, script], env)
}
