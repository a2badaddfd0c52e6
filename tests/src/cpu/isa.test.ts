import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { native } from '../../../lib/runtime/native.js'
import { finished } from '../../support/process.js'
import { again } from './children.js'

/** The compiled tests here that compute; each runs again on every other instruction set. */
const files = ['conv', 'attention', 'norm', 'pointwise']
const nativeModule = new URL('../../../lib/runtime/native.js', import.meta.url).href

const script = `import { native } from '${nativeModule}'; console.log(native().cpu().selected)`
const selected = (isa: string) =>
  finished(process.execPath, ['--input-type=module', '-e', script], { SLUICE_ISA: isa })

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
  for (const file of files) test(`${file} on ${isa}`, () => again(file, { SLUICE_ISA: isa }))
}

test.run()
