/** A recorded component on the GPU: `component.js NAME DTYPE`. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { verify } from '../../../lib/verify/verify.js'
import { fixture } from '../../../tests/support/recorded.js'
import { materialise } from '../../../tests/support/seeded.js'
import { tell } from '../child.js'
import { gpu } from '../device.js'
import { componentTolerance, type Storage } from '../tolerance.js'

const [name, dtype] = process.argv.slice(2) as [string, Storage]
const folder = mkdtempSync(join(tmpdir(), 'sluice-gpu-'))
try {
  cpSync(fixture(name), folder, { recursive: true })
  await materialise(fixture(name), folder)
  const { passed, outputs, programs } = await verify(folder, componentTolerance[dtype], {
    device: gpu,
    dtype,
  })
  const exact = programs.every(
    ({ predictedBytes, measuredBytes }) => predictedBytes === measuredBytes,
  )
  const worst = outputs.map(({ output, relative }) => `${output} ${relative.toExponential(1)}`)
  tell({
    passed: passed && exact,
    detail: `largest difference over std: ${worst.join(', ')}; bytes ${exact ? 'as predicted' : 'DIFFER'}`,
    values: { tolerance: componentTolerance[dtype], outputs, programs },
  })
} finally {
  rmSync(folder, { recursive: true })
}
