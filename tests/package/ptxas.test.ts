import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ROOT } from './checkout.js'

interface Kernel {
  name: string
  architecture: string
  registers: number
  spillBytes: number
  stackBytes: number
  sharedBytes: number
}
interface Ptxas {
  parsePtxas(text: string): Kernel[]
  faultsOf(kernels: readonly Kernel[]): string[]
}
const ptxas: Ptxas = await import(pathToFileURL(join(ROOT, 'scripts/ptxas.mjs')).href)

// As nvcc 13.0 writes it; the second kernel is one that was given too few registers.
const said = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z4coldv' for 'sm_75'
ptxas info    : Function properties for _Z4coldv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 112 registers, used 1 barriers, 26112 bytes smem, 624 bytes cmem[0]
ptxas info    : Compile time = 114.826 ms
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z4warmi' for 'sm_90a'
ptxas info    : Function properties for _Z4warmi
    16 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers, 16 bytes cumulative stack size
`

test("the compiler's words on kernels are read", () => {
  assert.equal(ptxas.parsePtxas(said), [
    {
      name: '_Z4coldv',
      architecture: 'sm_75',
      registers: 112,
      spillBytes: 0,
      stackBytes: 0,
      sharedBytes: 26112,
    },
    {
      name: '_Z4warmi',
      architecture: 'sm_90a',
      registers: 32,
      spillBytes: 32,
      stackBytes: 16,
      sharedBytes: 0,
    },
  ])
  assert.equal(ptxas.parsePtxas('nothing of kernels'), [])
})

test('spills and what is beyond limits are faults', () => {
  const [cold, warm] = ptxas.parsePtxas(said)
  assert.equal(ptxas.faultsOf([cold!]), [])
  assert.equal(ptxas.faultsOf([warm!]), ['_Z4warmi on sm_90a: 32 bytes of spills'])
  const large = { ...cold!, registers: 256, sharedBytes: 49153 }
  assert.equal(ptxas.faultsOf([large]), [
    '_Z4coldv on sm_75: 256 registers',
    '_Z4coldv on sm_75: 49153 bytes of static shared memory',
  ])
  assert.equal(ptxas.faultsOf([{ ...cold!, registers: 0 }]), [
    '_Z4coldv on sm_75: no count of registers',
  ])
})

test.run()
