/**
 * @file
 * Sixteen float32 lanes, whatever the instruction set: one register of AVX-512, two of AVX2, four
 * of what is left. A value computed in a lane never depends on its place or its neighbours, so
 * results do not change with how work is cut.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__AVX2__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized" // gcc 12's own headers
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include "core/commands.h"

#ifndef SLUICE_ISA_NAMESPACE
#error "compile with -DSLUICE_ISA_NAMESPACE=avx512|avx2|generic"
#endif

namespace sluice::SLUICE_ISA_NAMESPACE {

/** Storage types of two bytes. */
struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

#if defined(__AVX512F__)
#include "cpu/kernels/simd_avx512.hpp"
#elif defined(__AVX2__)
#include "cpu/kernels/simd_avx2.hpp"
#else
#include "cpu/kernels/simd_generic.hpp"
#endif

inline f32x16 zero() { return splat(0.0f); }

template <class T>
inline f32x16 load_lanes(const T *p, int32_t lanes) {
  T t[16] = {};
  for (int32_t i = 0; i < lanes; ++i) t[i] = p[i];
  return load(t);
}
template <class T>
inline void store_lanes(T *p, f32x16 a, int32_t lanes) {
  T t[16];
  store(t, a);
  for (int32_t i = 0; i < lanes; ++i) p[i] = t[i];
}

/** 2^x as a product. */
struct Power {
  f32x16 root, rest;
};

/**
 * Of the nearest power of 2^(1/kRoots) and a polynomial for what is left. Adding 1.5 2^23 / kRoots
 * rounds to multiples of 1 / kRoots; 127 more, and the low bits of the sum are the biased exponent
 * and the place in the table kRootBits: (the bits of 2^(i/kRoots) past the exponent) - i of the
 * lowest places above them, which the shift to the exponent's place leaves there.
 */
inline Power power_of_two(f32x16 x) {
  const f32x16 shift = splat(0x1.8p23f / kRoots + 127.0f);
  const f32x16 y = max(splat(-127.0f), x);
  const f32x16 shifted = y + shift;
  const f32x16 r = y - (shifted - shift); // exact
  f32x16 p = splat(kRootTerms[0]);
#pragma GCC unroll 8
  for (size_t i = 1; i < sizeof kRootTerms / sizeof *kRootTerms; ++i)
    p = fma(p, r, splat(kRootTerms[i]));
  return {root(shifted), p};
}

/** 2^x for x <= 127, relative error below 2^-22; below -126 less than 2^-126, 0 from -127 on. NaN
 * stays. */
inline f32x16 exp2(f32x16 x) {
  const Power power = power_of_two(x);
  return power.root * power.rest;
}

/** e^-x for x >= 0, its exponent rounded as a power of two: within (x + 2) 2^-23 of the value. */
inline f32x16 exp_negated(f32x16 x) { return exp2(x * splat(-1.44269504f)); }

/** 1 / (1 + e^-x), relative error below (|x| + 4) 2^-23; past 87, where it is 1 or subnormal, some
 * value near it. */
inline f32x16 sigmoid(f32x16 x) {
  const Power power = power_of_two(min(splat(126.0f), x * splat(-1.44269504f)));
  return reciprocal(fma(power.root, power.rest, splat(1.0f)));
}

/** erf(x), absolute error below 5e-7: Abramowitz and Stegun 7.1.26. */
inline f32x16 erf(f32x16 x) {
  // From 6 on it is 1; a reciprocal of infinity would not be 0.
  const f32x16 a = min(splat(8.0f), abs(x)), one = splat(1.0f);
  const f32x16 t = reciprocal(fma(a, splat(0.3275911f), one));
  f32x16 p = splat(1.061405429f);
  p = fma(p, t, splat(-1.453152027f));
  p = fma(p, t, splat(1.421413741f));
  p = fma(p, t, splat(-0.284496736f));
  p = fma(p, t, splat(0.254829592f));
  return copy_sign(fnma(p * t, exp_negated(a * a), one), x);
}

inline f32x16 gelu(f32x16 x) {
  const f32x16 half = x * splat(0.5f);
  return fma(half, erf(x * splat(0.707106781f)), half);
}

/** x * s where s is the sigmoid of x or more of it: past 87 that stops short of 0, so x does. */
inline f32x16 times_sigmoid(f32x16 x, f32x16 s) { return max(splat(-100.0f), x) * s; }

/** Activation of one value for all but geglu. */
inline f32x16 activate(f32x16 x, Act act) {
  switch (act) {
    case Act::silu:
      return times_sigmoid(x, sigmoid(x));
    case Act::gelu:
      return gelu(x);
    case Act::quick_gelu:
      return times_sigmoid(x, sigmoid(x * splat(1.702f)));
    case Act::sigmoid:
      return sigmoid(x);
    case Act::gelu_tanh: { // 0.5 (1 + tanh u) = sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)
      const f32x16 cubic = fma(x * x, splat(0.044715f), splat(1.0f));
      return times_sigmoid(x, sigmoid(x * cubic * splat(1.595769122f)));
    }
    default:
      return x;
  }
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
