/** @file Storage types of two bytes and their conversion to and from float32, to the nearest. */
#pragma once

#include "launch.hpp"

#ifndef SLUICE_CUDA_EMULATION
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#else
#include <cstring>
#endif

#include "core/commands.h"

namespace sluice::cuda {

#ifndef SLUICE_CUDA_EMULATION

SLUICE_DEVICE float f16_to_float(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
SLUICE_DEVICE float bf16_to_float(uint16_t bits) { return __uint_as_float(uint32_t(bits) << 16); }
SLUICE_DEVICE uint16_t float_to_f16(float x) { return __half_as_ushort(__float2half_rn(x)); }
SLUICE_DEVICE uint16_t float_to_bf16(float x) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}
SLUICE_DEVICE float float_of_bits(uint32_t bits) { return __uint_as_float(bits); }
SLUICE_DEVICE uint32_t bits_of_float(float x) { return __float_as_uint(x); }
SLUICE_DEVICE float fast_exp(float x) { return __expf(x); }
SLUICE_DEVICE float fast_divide(float a, float b) { return __fdividef(a, b); }

#else

inline float float_of_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline uint32_t bits_of_float(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float f16_to_float(uint16_t bits) {
  const uint32_t sign = uint32_t(bits & 0x8000) << 16, magnitude = bits & 0x7fff;
  if (magnitude >= 0x7c00) return float_of_bits(sign | 0x7f800000 | (magnitude << 13));
  // Exponents differ by 112: a product moves them, and normalises what is subnormal.
  return float_of_bits(sign | bits_of_float(float_of_bits(magnitude << 13) * 0x1p112f));
}
inline float bf16_to_float(uint16_t bits) { return float_of_bits(uint32_t(bits) << 16); }

inline uint16_t float_to_f16(float x) {
  const uint32_t u = bits_of_float(x), sign = (u >> 16) & 0x8000, magnitude = u & 0x7fffffff;
  if (magnitude > 0x7f800000) return uint16_t(sign | 0x7fff);
  if (magnitude >= 0x477ff000) return uint16_t(sign | 0x7c00); // rounds to 65536 and above
  if (magnitude < 0x38800000) { // subnormal: adding 0.5 puts the last kept bit at the unit place
    return uint16_t(sign | (bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000));
  }
  return uint16_t(sign | ((magnitude + 0xfff + ((magnitude >> 13) & 1) - 0x38000000) >> 13));
}
inline uint16_t float_to_bf16(float x) {
  const uint32_t u = bits_of_float(x);
  if ((u & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
inline float fast_exp(float x) { return std::exp(x); }
inline float fast_divide(float a, float b) { return a / b; }

#endif

/** A two-byte number of either type. */
SLUICE_DEVICE float narrow_to_float(DType dtype, uint16_t bits) {
  return dtype == DType::f16 ? f16_to_float(bits) : bf16_to_float(bits);
}
SLUICE_DEVICE uint16_t float_to_narrow(DType dtype, float x) {
  return dtype == DType::f16 ? float_to_f16(x) : float_to_bf16(x);
}

SLUICE_DEVICE float sigmoid(float x) { return fast_divide(1.0f, 1.0f + fast_exp(-x)); }

/** x * Phi(x), Phi by erf. */
SLUICE_DEVICE float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.707106781f)); }

/** Every activation but geglu. */
SLUICE_DEVICE float activate(float x, Act act) {
  switch (act) {
    case Act::silu:
      return x * sigmoid(x);
    case Act::gelu:
      return gelu(x);
    case Act::quick_gelu:
      return x * sigmoid(1.702f * x);
    case Act::gelu_tanh: // 0.5 (1 + tanh u) = sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)
      return x * sigmoid(1.595769122f * x * (1.0f + 0.044715f * x * x));
    case Act::sigmoid:
      return sigmoid(x);
    default:
      return x;
  }
}

} // namespace sluice::cuda
