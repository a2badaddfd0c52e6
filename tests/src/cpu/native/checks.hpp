/** @file What the programs that check AMX share. */
#pragma once

#include <cstdio>
#include <random>

#include "cpu/kernels/amx_model.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {

inline int failures = 0;

inline void expect(bool holds, const char *what) {
  if (holds) return;
  printf("FAILED: %s\n", what);
  ++failures;
}

inline std::mt19937 random_bits(1);

inline int32_t between(int32_t low, int32_t high) {
  return std::uniform_int_distribution<int32_t>(low, high)(random_bits);
}

/** Of about unit size; now and then tiny, subnormal, large or zero. */
inline uint16_t random_bf16() {
  const int32_t kind = between(0, 99);
  const uint16_t bits = (uint16_t)random_bits();
  const uint16_t sign = bits & 0x8000, digits = bits & 0x7f;
  if (kind == 0) return sign;
  if (kind == 1) return sign | digits;                          // subnormal
  if (kind == 2) return sign | digits | between(1, 63) << 7;    // products of such underflow
  if (kind == 3) return sign | digits | between(180, 190) << 7; // large
  return sign | digits | between(120, 130) << 7;
}

inline uint16_t bf16_of(float x) { return nearest_bf16(x); }
inline float value_of(uint16_t bits) { return float_of((uint32_t)bits << 16); }

} // namespace sluice::SLUICE_ISA_NAMESPACE
