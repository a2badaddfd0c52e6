import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { absent, actCode, CommandWriter, dtypeCode, type View } from '../../lib/planner/commands.js'
import { native } from '../../lib/runtime/native.js'
import { rows, throwsCode } from './support.js'

const load = (words: Int32Array, [arena, weights]: readonly number[] = [1 << 16, 1 << 16]) =>
  native().loadStream('cpu', words, Float64Array.of(arena!, weights!, 0))

/** One unary command over 4 x 8 floats; `change` edits its words. */
function unary(change: (words: Int32Array) => void = () => {}): Int32Array {
  const writer = new CommandWriter()
  writer.unary(7, 0, {
    act: actCode.silu,
    extents: [1, 1, 4, 8],
    source: rows(0, 8),
    out: rows(128, 8),
  })
  const words = writer.finish()
  change(words)
  return words
}

/** Words of a unary command: header 0-3, act 4, extents 5-8, source 9-15, out 16-22. */
const at = {
  opcode: 0,
  length: 1,
  act: 4,
  frames: 5,
  rows: 6,
  cols: 7,
  channels: 8,
  source: 9,
  out: 16,
}
/** Words of a view. */
const field = { slot: 0, dtype: 1, low: 2, high: 3, strideF: 4, strideH: 5, strideW: 6 }

function refused(edit: (words: Int32Array) => void, message: RegExp): void {
  throwsCode(() => load(unary(edit)), 'bad-command', message)
}

test('a good stream loads, an empty one too', () => {
  assert.is(load(unary()).commands, 1)
  assert.is(load(new Int32Array(0)).commands, 0)
})

test('opcodes and lengths must be those of the structs', () => {
  for (const opcode of [0, 18, -1, 2 ** 31 - 1, -(2 ** 31)]) {
    refused(w => w.fill(opcode, 0, 1), /command 0 \(node 7\): expected a known opcode/)
  }
  for (const length of [0, -1, 22, 24, 2 ** 31 - 1]) {
    refused(w => w.fill(length, 1, 2), /command 0 \(unary, node 7\): expected 23 words/)
  }
  const words = unary()
  for (let length = 1; length < words.length; length++) {
    throwsCode(() => load(words.slice(0, length)), 'bad-command', /command 0.*expected/)
  }
  const twice = Int32Array.of(...unary(), ...unary(w => w.fill(99, 0, 1)))
  throwsCode(() => load(twice), 'bad-command', /command 1 \(node 7\)/)
})

test('extents must be positive and sane', () => {
  for (const word of [at.frames, at.rows, at.cols, at.channels]) {
    for (const value of [0, -1, -(2 ** 31), 2 ** 31 - 1]) {
      refused(w => w.fill(value, word, word + 1), /(frames|rows|cols|channels): expected 1 to/)
    }
  }
  refused(w => w.fill(1 << 20, at.rows, at.cols + 1), /fewer than 2\^31 positions/)
  refused(w => w.fill(99, at.act, at.act + 1), /act: expected 0 to 6, got 99/)
  refused(w => w.fill(actCode.geglu, at.act, at.act + 1), /anything but geglu/)
})

test('every operand must lie inside its slot', () => {
  const set = (view: number, word: number, value: number) => (w: Int32Array) => {
    w[view + word] = value
  }
  for (const [name, view] of [
    ['source', at.source],
    ['out', at.out],
  ] as const) {
    refused(set(view, field.slot, 3), new RegExp(`${name}: expected a slot below 3, got 3`))
    refused(set(view, field.slot, 2 ** 31 - 1), /expected a slot below 3/)
    refused(set(view, field.slot, -1), new RegExp(`${name}: expected an operand, got none`))
    refused(set(view, field.slot, -2), /expected/)
    refused(set(view, field.dtype, dtypeCode.i32), /expected dtype f32, f16 or bf16/)
    refused(set(view, field.dtype, 77), /expected dtype/)
    refused(
      set(view, field.low, 65536 - 124),
      /expected bytes inside slot 0 \(65536 bytes\), got 65412 to 65540/,
    )
    refused(set(view, field.low, 2), /multiple of the element's 4 bytes/)
    refused(set(view, field.low, -4), /expected bytes inside slot 0/)
    refused(set(view, field.high, 1), /expected bytes inside slot 0/)
    refused(set(view, field.high, -1), /expected bytes inside slot 0/)
    refused(set(view, field.strideW, -8), /expected strides of 0 or more/)
    refused(set(view, field.strideW, 2 ** 31 - 1), /expected bytes inside slot 0/)
  }
  refused(
    w => w.set([-4, -1], at.source + field.low),
    /got 18446744073709551612 to 18446744073709551615/,
  )
  refused(
    set(at.out, field.slot, 1),
    /out: expected an operand that may be written, got the weights/,
  )
  load(unary(set(at.out, field.low, 65536 - 128)))
})

test('extents and strides cannot overflow into the slot', () => {
  const huge = 2 ** 31 - 1
  refused(w => {
    w.set([1, 1, 2, 1 << 28], at.frames)
    w.set([huge, huge, huge], at.source + field.strideF)
    w.set([huge, huge, huge], at.out + field.strideF)
  }, /source: expected bytes inside slot 0 .* got 0 to 9663676412/)
  refused(w => {
    w.set([2, 1 << 14, 1 << 14, 1 << 28], at.frames)
    w.set([huge, huge, huge], at.source + field.strideF)
  }, /expected/)
  // 2^14 x 2^16 x 4 bytes are 2^32: zero in 32 bits.
  refused(w => {
    w.set([1, 1, 1 << 14, 1 << 16], at.frames)
    w[at.source + field.strideW] = 1 << 16
    w[at.out + field.strideW] = 1 << 16
  }, /source: expected bytes inside slot 0 .* got 0 to 4294967296/)
})

test('no element may be written twice', () => {
  const strides = (f: number, h: number, w: number) => (words: Int32Array) => {
    words.set([2, 3, 4, 8], at.frames)
    words.set([f, h, w], at.out + field.strideF)
  }
  load(unary(strides(96, 32, 8)))
  load(unary(strides(8, 64, 16)))
  load(unary(strides(1000, 40, 10)))
  for (const bad of [
    [0, 32, 8],
    [96, 0, 8],
    [96, 32, 0],
    [96, 32, 7],
    [95, 32, 8],
    [16, 64, 8],
  ]) {
    refused(strides(bad[0]!, bad[1]!, bad[2]!), /out: expected strides at which no element/)
  }
})

interface ConvChange {
  sourceSize?: [number, number]
  sourceOrigin?: [number, number]
  origin?: [number, number]
  pixelStride?: number
  scratch?: View
  scratchBytes?: number
  kernel?: [number, number]
  bias?: View
  act?: number
  compute?: number
  weightOffset?: number
  rows?: number
  /** By phases, of a doubled image whose stored size this is. */
  doubled?: [number, number]
  stride?: number
  weightDType?: number
  channels?: number
}

/** A 3x3 convolution of 4x4x8 to 4x4x20 channels; needs 2 x 9 x 8 x 16 floats of weights. */
function conv(change: ConvChange = {}): Int32Array {
  const stored = change.doubled ?? ([4, 4] as const)
  const writer = new CommandWriter()
  const grid = (offset: number, channels: number): View => ({
    slot: 0,
    dtype: 0,
    offset,
    strides: [16 * channels, 4 * channels, channels],
  })
  writer.conv(3, 0, {
    extents: [1, change.rows ?? 4, 4, change.channels ?? 20],
    kernel: change.kernel ?? [3, 3],
    stride: change.stride ?? 1,
    inSize: [4, 4],
    physSize: stored,
    origin: change.origin ?? [-1, -1],
    sourceOrigin: change.sourceOrigin ?? [0, 0],
    sourceSize: change.sourceSize ?? stored,
    sourceChannels: [8],
    sources: [grid(0, 8)],
    out: grid(512, 20),
    weight: {
      slot: 1,
      dtype: change.weightDType ?? 0,
      offset: change.weightOffset ?? 0,
      strides: [0, 0, 0],
    },
    bias: change.bias ?? absent,
    vector: absent,
    residual: absent,
    affine: absent,
    prologueAct: 0,
    act: change.act ?? 0,
    outputs: change.channels ?? 20,
    compute: change.compute ?? 0,
    phases: change.doubled !== undefined,
    tile: [2, 2, change.pixelStride ?? 8],
    scratch: change.scratch ?? { slot: 0, dtype: 0, offset: 2048, strides: [0, 0, 0] },
    scratchBytes: change.scratchBytes ?? 4 * 4 * 8 * 4,
  })
  return writer.finish()
}

test('a convolution is held to its window, its weights and its scratch', () => {
  const weights = 2 * 16 * 9 * 8 * 4
  const slots = [4096, weights]
  load(conv(), slots)
  const bad = (change: ConvChange, message: RegExp, sizes = slots) =>
    throwsCode(() => load(conv(change), sizes), 'bad-command', message)
  bad({ sourceSize: [3, 4] }, /src_rows: expected every source row/)
  bad({ sourceSize: [4, 3] }, /src_cols: expected every source column/)
  bad({ sourceOrigin: [1, 0] }, /src_rows/)
  bad({ sourceOrigin: [-1, 0] }, /src_row0/)
  load(conv({ sourceOrigin: [1, 0], sourceSize: [3, 4], origin: [1, -1] }), slots)
  bad({ pixelStride: 7 }, /pixel_stride: expected 8 or more, got 7/)
  bad({ scratchBytes: 508 }, /scratch_bytes: expected 512 or more, got 508/)
  bad({ scratchBytes: 510 }, /multiples of 4/)
  bad({}, /weight: expected bytes inside slot 1/, [4096, weights - 4])
  bad({ weightOffset: 4 }, /weight: expected bytes inside slot 1/)
  bad({ act: actCode.geglu }, /weight: expected bytes inside slot 1/, [4096, 2 * weights - 4])
  bad({ bias: { ...absent, slot: 1, offset: weights - 76 } }, /bias: expected bytes inside slot 1/)
  bad({}, /scratch: expected bytes inside slot 0/, [2048 + 508, weights])
})

test('phases are held to a doubled image, to their weights and their scratch', () => {
  const weights = 2 * 16 * 16 * 8 * 4
  const slots = [4096, weights]
  const doubled: [number, number] = [2, 2]
  const scratchBytes = 3 * 3 * 8 * 4
  load(conv({ doubled, scratchBytes }), slots)
  const bad = (change: ConvChange, message: RegExp, sizes = slots) =>
    throwsCode(() => load(conv({ doubled, ...change }), sizes), 'bad-command', message)
  bad({ doubled: [2, 4] }, /phases: expected an input of exactly twice/)
  bad({ doubled: [3, 2] }, /phases: expected an input of exactly twice/)
  bad({ kernel: [3, 1] }, /phases: expected a kernel of 3x3 at stride 1/)
  bad({ stride: 2, rows: 1 }, /phases: expected a kernel of 3x3 at stride 1/)
  bad({ weightDType: 1 }, /phases: expected weights in f32/)
  bad({ channels: 4 }, /outputs by phases: expected 5 or more, got 4/)
  bad({ act: actCode.geglu }, /phases: expected another activation/)
  bad({ sourceSize: [1, 2] }, /src_rows: expected every source row/)
  bad({ scratchBytes: scratchBytes - 4 }, /scratch_bytes: expected 288 or more, got 284/)
  bad({}, /weight: expected bytes inside slot 1/, [4096, weights - 4])
  const words = conv({ doubled })
  const flag = words.findIndex((word, i) => i > 60 && word === 1 && words[i - 2] === 20)
  words[flag] = 2
  throwsCode(() => load(words, slots), 'bad-command', /phases: expected 0 to 1, got 2/)
})

test('a convolution that reads in place has neither scratch nor padding', () => {
  const slots = [4096, 2 * 16 * 8 * 4]
  const place = { kernel: [1, 1], origin: [0, 0], scratch: absent, scratchBytes: 0 } as ConvChange
  load(conv(place), slots)
  const bad = (change: ConvChange, message: RegExp) =>
    throwsCode(() => load(conv({ ...place, ...change }), slots), 'bad-command', message)
  bad({ origin: [-1, 0] }, /row0, col0: expected no padding/)
  bad({ origin: [0, -1] }, /row0, col0: expected no padding/)
  bad({ scratch: rows(2048, 0), scratchBytes: 512 }, /scratch: expected/)
  bad({ scratchBytes: 4 }, /scratch_bytes: expected 0/)
  bad({ kernel: [3, 3], origin: [-1, -1] }, /scratch: expected/)
})

test('scratch is counted for the threads of the run', () => {
  const weights = native().createBlock('cpu', 9216)
  const arena = native().createBlock('cpu', 2048 + 2 * 512)
  const stream = load(conv(), [2048 + 2 * 512, 9216])
  const none = new Float64Array(0)
  throwsCode(
    () => stream.run(arena, weights, none, 3, undefined),
    'bad-command',
    /command 0 \(conv, node 3\), scratch: expected 3 x 512/,
  )
  arena.release()
  weights.release()
})

test('an attention command is held to its blocks and its keys', () => {
  const attention = (blocks: [number, number], keys: [number, number, number], time = false) => {
    const writer = new CommandWriter()
    writer.attention(0, 0, {
      extents: [2, 1, 16, 0],
      heads: 2,
      headDim: 8,
      time,
      keyExtents: keys,
      causal: false,
      query0: 0,
      scale: 1,
      q: { ...rows(0, 16), strides: [256, 256, 16] },
      k: { ...rows(2048, 16), strides: [256, 256, 16] },
      v: { ...rows(2048, 16), strides: [256, 256, 16] },
      out: { ...rows(0, 16), strides: [256, 256, 16] },
      tile: blocks,
      scratch: rows(8192, 0),
      scratchBytes: 4 * (16 * (8 + 16) + 8 * 16 + 8 * (16 + 8 + 2)),
    })
    return writer.finish()
  }
  const slots = [16384, 0]
  load(attention([8, 16], [1, 1, 16]), slots)
  load(attention([8, 16], [2, 9, 9], true), slots)
  const bad = (words: Int32Array, message: RegExp, sizes = slots) =>
    throwsCode(() => load(words, sizes), 'bad-command', message)
  bad(attention([4, 16], [1, 1, 16]), /block_q: expected 8/)
  bad(attention([12, 16], [1, 1, 16]), /block_q: expected a multiple of 8/)
  bad(attention([8, 24], [1, 1, 16]), /block_k: expected a multiple of 16/)
  bad(attention([16, 16], [1, 1, 16]), /scratch_bytes: expected/)
  bad(attention([8, 16], [1, 16, 100]), /k: expected bytes inside slot 0/)
  bad(attention([8, 16], [100, 1, 1], true), /k: expected bytes inside slot 0/)
  bad(attention([8, 16], [0, 1, 1], true), /frames: expected 1/)
})

test('lookups and norms are held to their tables and blocks', () => {
  const embedding = (table: number, tokens: number, token0: number) => {
    const writer = new CommandWriter()
    writer.embedding(0, 0, {
      tokens,
      channels: 4,
      tableRows: table,
      token0,
      positionRows: 8,
      ids: { slot: 0, dtype: dtypeCode.i32, offset: 0, strides: [0, 0, 0] },
      table: { slot: 1, dtype: dtypeCode.f16, offset: 0, strides: [0, 0, 4] },
      positions: rows(1024, 4, 1),
      out: rows(64, 4),
    })
    return writer.finish()
  }
  const slots = [192, 1024 + 128]
  load(embedding(128, 8, 0), slots)
  throwsCode(
    () => load(embedding(200000, 8, 0), slots),
    'bad-command',
    /table: expected bytes inside slot 1/,
  )
  throwsCode(() => load(embedding(128, 8, 1), slots), 'bad-command', /position_rows: expected 9/)
  throwsCode(() => load(embedding(128, 9, 0), [4096, 1152]), 'bad-command', /position_rows/)

  const fold = (blocks: [number, number], groups: number) => {
    const writer = new CommandWriter()
    const partial = (offset: number): View => ({ slot: 0, dtype: 0, offset, strides: [64, 16, 2] })
    writer.normFold(0, 0, {
      frames: 1,
      framesOut: 1,
      rows: 2,
      cols: 2,
      sourceChannels: [12, 4],
      blocks,
      groups,
      eps: 1e-5,
      partials: [partial(0), partial(512)],
      gamma: rows(0, 0, 1),
      beta: rows(64, 0, 1),
      out: rows(1024, 0),
    })
    return writer.finish()
  }
  const sizes = [1024 + 128, 128]
  load(fold([2, 2], 2), sizes)
  throwsCode(() => load(fold([5, 2], 2), sizes), 'bad-command', /block: expected a divisor/)
  throwsCode(() => load(fold([0, 2], 2), sizes), 'bad-command', /block\[0\]: expected 1/)
  throwsCode(() => load(fold([3, 2], 2), sizes), 'bad-command', /whole blocks/)
  throwsCode(() => load(fold([2, 2], 3), sizes), 'bad-command', /groups: expected a divisor/)
  throwsCode(() => load(fold([2, 2], 2), [1024 + 124, 128]), 'bad-command', /out: expected bytes/)
  throwsCode(() => load(fold([2, 2], 2), [1024 + 128, 124]), 'bad-command', /beta: expected bytes/)
})

test('random words are refused or load, and never crash', () => {
  let seed = 12345
  const random = () => {
    seed = (Math.imul(seed, 1103515245) + 12345) | 0
    return seed
  }
  const good = [unary(), conv(), conv({ doubled: [2, 2] })]
  let refusals = 0
  for (let i = 0; i < 20000; i++) {
    const words = good[i % 3]!.slice()
    const edits = 1 + ((random() >>> 16) % 3)
    for (let k = 0; k < edits; k++) {
      const value = [random(), (random() >>> 20) - 2048, 0, -1, 2 ** 31 - 1][(random() >>> 16) % 5]!
      words[(random() >>> 8) % words.length] = value
    }
    try {
      load(words, [4096, 16384])
    } catch (error) {
      assert.is((error as { code?: string }).code, 'bad-command')
      refusals++
    }
  }
  assert.ok(refusals > 10000, `only ${refusals} of 20000 were refused`)
})

test('arguments of loadStream are checked', () => {
  const words = unary()
  const slots = Float64Array.of(65536, 0, 0)
  throwsCode(
    () => native().loadStream('cpu', [] as never, slots),
    'argument',
    /expected an Int32Array/,
  )
  throwsCode(
    () => native().loadStream('cpu', words, [] as never),
    'argument',
    /expected a Float64Array/,
  )
  throwsCode(() => native().loadStream('cpu', words, Float64Array.of(1)), 'argument', /slotBytes/)
  throwsCode(
    () => native().loadStream('cpu', words, Float64Array.of(-1, 0)),
    'argument',
    /slotBytes\[0\]/,
  )
  throwsCode(
    () => native().loadStream('cuda:99', words, slots),
    'argument',
    /device: expected one of/,
  )
})

test.run()
