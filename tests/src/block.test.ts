import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { native } from '../../lib/runtime/native.js'
import { throwsCode } from './support.js'

const tile = 2 << 20

test('a block is made of whole tiles, zeroed, and booked in the pool until it is released', () => {
  const before = native().pool()
  const block = native().createBlock('cpu', tile + 1)
  assert.is(block.bytes, tile + 1)
  assert.is(block.tileBytes, 2 * tile)
  assert.is(block.lastDifferent(0, 0), 0)
  assert.is(native().pool().bytes, before.bytes + 2 * tile)
  assert.is(native().pool().blocks, before.blocks + 1)
  assert.ok(native().pool().peakBytes >= before.bytes + 2 * tile)

  block.release()
  block.release()
  assert.is(native().pool().bytes, before.bytes)
  assert.is(native().pool().blocks, before.blocks)
  assert.is(block.bytes, tile + 1)
})

test('what was written is read back, by any view', () => {
  const block = native().createBlock('cpu', 1000)
  const values = Float32Array.of(1, -2, 3.5)
  block.write(100, values)
  const back = new Float32Array(3)
  block.read(100, back)
  assert.equal(back, values)

  const bytes = new Uint8Array(values.buffer)
  const data = new DataView(new ArrayBuffer(4), 1, 2)
  block.read(102, data)
  assert.is(data.getUint8(0), bytes[2])
  assert.is(data.getUint8(1), bytes[3])

  const shared = new Uint8Array(new SharedArrayBuffer(12))
  block.read(100, shared)
  assert.equal([...shared], [...bytes])

  block.write(0, new BigInt64Array([-1n]))
  block.write(1000, new Uint8Array(0))
  const last = new Uint8Array(1)
  block.read(7, last)
  assert.is(last[0], 255)
  block.release()
})

test('the last byte that differs from a fill is found, at every seam of the scan', () => {
  const block = native().createBlock('cpu', 3 * tile)
  block.fill(0, block.tileBytes, 0xa5)
  assert.is(block.lastDifferent(0, 0xa5), 0)
  assert.is(block.lastDifferent(12345, 0xa5), 12345)
  for (const at of [0, 1, 5000, tile - 1, tile, 2 * tile + 77, 3 * tile - 1]) {
    block.fill(0, block.tileBytes, 0xa5)
    block.fill(at, 1, 0)
    assert.is(block.lastDifferent(0, 0xa5), at + 1)
    assert.is(block.lastDifferent(at, 0xa5), at + 1)
    assert.is(block.lastDifferent(at + 1, 0xa5), at + 1)
  }
  block.release()
})

test('accesses outside a block are refused', () => {
  const block = native().createBlock('cpu', 100)
  const four = new Uint8Array(4)
  throwsCode(() => block.write(97, four), 'argument', /write: expected a range inside .* 100 bytes/)
  throwsCode(() => block.read(97, four), 'argument', /read: expected a range/)
  throwsCode(() => block.read(2 ** 53 - 1, four), 'argument', /read: expected a range/)
  throwsCode(() => block.fill(tile, 1, 0), 'argument', /fill: expected a range/)
  throwsCode(() => block.fill(1, tile, 0), 'argument', /fill: expected a range/)
  throwsCode(() => block.lastDifferent(tile + 1, 0), 'argument', /lastDifferent: expected a range/)
  for (const offset of [-1, 0.5, Number.NaN, Infinity, 2 ** 53, '0' as unknown as number]) {
    throwsCode(() => block.write(offset, four), 'argument', /write: offset: expected an integer/)
  }
  throwsCode(
    () => block.fill(0, 1, 256),
    'argument',
    /fill: value: expected an integer from 0 to 255/,
  )
  throwsCode(() => block.write(0, [1] as never), 'argument', /expected a typed array/)
  block.release()
  throwsCode(() => block.read(0, four), 'argument', /released/)
  throwsCode(() => block.fill(0, 1, 0), 'argument', /released/)
})

test('impossible sizes are refused and leave the pool as it was', () => {
  const before = native().pool()
  for (const bytes of [0, -1, 1.5, Number.NaN, Infinity, 2 ** 60]) {
    throwsCode(() => native().createBlock('cpu', bytes), 'argument', /createBlock/)
  }
  for (const bytes of [2 ** 45, 2 ** 53 - 1]) {
    throwsCode(() => native().createBlock('cpu', bytes), 'out-of-memory', /createBlock: expected/)
  }
  throwsCode(() => native().createBlock('tpu:0', 1), 'argument', /expected one of cpu/)
  const { bytes, blocks } = native().pool()
  assert.equal({ bytes, blocks }, { bytes: before.bytes, blocks: before.blocks })
})

test('blocks together cannot pass what the process may use', () => {
  const total = native().devices()[0]!.memoryBytes
  const first = native().createBlock('cpu', Math.floor(total * 0.6))
  const half = Math.floor(total * 0.6)
  throwsCode(() => native().createBlock('cpu', half), 'out-of-memory', /lower the budget/)
  first.release()
  native().createBlock('cpu', half).release()
})

test('objects of the addon cannot be forged', () => {
  const block = native().createBlock('cpu', 8)
  const { constructor: Forged } = block as unknown as { constructor: new () => unknown }
  assert.throws(() => new Forged(), /Illegal constructor/)
  assert.throws(() => block.read.call({} as never, 0, new Uint8Array(1)), /Illegal invocation/)
  const job = {
    file: {},
    sourceOffset: 0,
    sourceBytes: 4,
    dtype: 0,
    form: 1,
    outputs: 1,
    inputs: 1,
    taps: 1,
    destination: 0,
  }
  throwsCode(() => native().pack({} as never, [], 1), 'argument', /expected a block/)
  throwsCode(() => native().pack(block, [job as never], 1), 'argument', /job 0: expected a file/)
  throwsCode(
    () => native().pack(block, [{ ...job, file: block } as never], 1),
    'argument',
    /expected a file/,
  )
  block.release()
})

test('the machine is described', () => {
  const cpu = native().cpu()
  assert.ok(cpu.available.includes('generic'))
  assert.ok(cpu.available.includes(cpu.selected))
  assert.ok(cpu.threads >= 1)
  assert.ok(cpu.model.length > 0)
  const [device] = native().devices()
  assert.is(device!.id, 'cpu')
  assert.is(device!.tileBytes, tile)
  assert.ok(device!.freeBytes > 0 && device!.freeBytes <= device!.memoryBytes)
})

test.run()
