import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { native } from '../../../lib/runtime/native.js'

/** The compiled tests here that compute; each runs again on every other instruction set. */
const files = ['conv', 'attention', 'norm', 'pointwise']
const nativeModule = new URL('../../../lib/runtime/native.js', import.meta.url).href

async function node(args: string[], isa: string): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, args, {
    env: { ...process.env, SLUICE_ISA: isa },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', text => {
      output += text
    })
  }
  const code = await new Promise<number | null>(resolve => child.on('close', resolve))
  return { code, output: output.trim() }
}

const script = `import { native } from '${nativeModule}'; console.log(native().cpu().selected)`
const selected = (isa: string) => node(['--input-type=module', '-e', script], isa)

test('SLUICE_ISA chooses; what is not there is refused by name', async () => {
  const { available } = native().cpu()
  for (const isa of available) assert.is((await selected(isa)).output, isa)
  const unknown = await selected('none such')
  assert.is.not(unknown.code, 0)
  assert.match(unknown.output, /NativeError: SLUICE_ISA: expected one of .*generic, got none such/)
  assert.ok(available.includes('generic'))
})

for (const isa of native().cpu().available) {
  if (isa === native().cpu().selected) continue
  for (const file of files) {
    test(`${file} on ${isa}`, async () => {
      const { code, output } = await node(
        [fileURLToPath(new URL(`${file}.test.js`, import.meta.url))],
        isa,
      )
      assert.is(code, 0, output)
    })
  }
}

test.run()
