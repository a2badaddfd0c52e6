/** Element types of safetensors files, with their bytes. */
export const dtypeBytes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
} as const

export type FileDtype = keyof typeof dtypeBytes

export function isFileDtype(name: unknown): name is FileDtype {
  return typeof name === 'string' && Object.hasOwn(dtypeBytes, name)
}

/** float16 bit patterns to float32. */
export function widenF16(halves: Uint16Array): Float32Array {
  const words = new Uint32Array(halves.length)
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i]!
    const sign = (half & 0x8000) << 16
    const exponent = (half >> 10) & 0x1f
    let mantissa = half & 0x3ff
    if (exponent === 0x1f) {
      words[i] = sign | 0x7f800000 | (mantissa << 13)
    } else if (exponent !== 0) {
      words[i] = sign | ((exponent + 112) << 23) | (mantissa << 13)
    } else if (mantissa === 0) {
      words[i] = sign
    } else {
      // Subnormal: shift the leading one into the implicit bit.
      const shift = Math.clz32(mantissa) - 21
      mantissa = (mantissa << shift) & 0x3ff
      words[i] = sign | ((113 - shift) << 23) | (mantissa << 13)
    }
  }
  return new Float32Array(words.buffer)
}

/** bfloat16 bit patterns to float32. */
export function widenBf16(halves: Uint16Array): Float32Array {
  const words = new Uint32Array(halves.length)
  for (let i = 0; i < halves.length; i++) words[i] = halves[i]! << 16
  return new Float32Array(words.buffer)
}
