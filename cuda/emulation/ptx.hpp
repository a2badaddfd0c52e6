/** @file The emulated half of ptx.hpp: what each instruction does, on the watched memories. */
#pragma once

#include "launch.hpp"

#define SLUICE_SM_80 1

namespace sluice::cuda::ptx {

// ------------------------------------------------------------------------------------------------
// Conversion and arithmetic

inline float float_of(uint32_t bits) {
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}
inline uint32_t bits_of(float x) {
  uint32_t out;
  std::memcpy(&out, &x, sizeof out);
  return out;
}

inline float widen(float x) { return x; }
inline float widen(f16 x) {
  const uint32_t sign = uint32_t(x.bits & 0x8000) << 16, magnitude = x.bits & 0x7fff;
  if (magnitude >= 0x7c00) return float_of(sign | 0x7f800000 | magnitude << 13);
  // Exponents differ by 112: a product moves them, and normalises what is subnormal.
  return float_of(sign | bits_of(float_of(magnitude << 13) * 0x1p112f));
}
inline float widen(bf16 x) { return float_of(uint32_t(x.bits) << 16); }

template <class T>
T narrow(float x);
template <>
inline float narrow<float>(float x) {
  return x;
}
template <>
inline f16 narrow<f16>(float x) {
  const uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return {uint16_t(sign | 0x7fff)};
  if (magnitude >= 0x477ff000) return {uint16_t(sign | 0x7c00)}; // rounds to 65536 and above
  if (magnitude < 0x38800000) // subnormal: adding 0.5 puts the last kept bit at the unit place
    return {uint16_t(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000))};
  return {uint16_t(sign | (magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000) >> 13)};
}
template <>
inline bf16 narrow<bf16>(float x) {
  const uint32_t bits = bits_of(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return {0x7fff};
  return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

template <class T>
uint32_t pack2(float low, float high) {
  return uint32_t(narrow<T>(low).bits) | uint32_t(narrow<T>(high).bits) << 16;
}

inline float exp2_fast(float x) { return std::exp2(x); }

// ------------------------------------------------------------------------------------------------
// Matrices in shared memory

struct MatrixDeposit {
  uint16_t row[8];
  uint32_t address;
  uint32_t *out;
};

template <bool kTransposed>
void deal_matrices(void *, void *const *deposits) {
  const auto at = [&](uint32_t lane) -> MatrixDeposit & {
    return *static_cast<MatrixDeposit *>(deposits[lane]);
  };
  for (uint32_t m = 0; m < 4; ++m) {
    uint32_t addresses[8];
    for (uint32_t i = 0; i < 8; ++i) addresses[i] = at(8 * m + i).address;
    emulation::count_banks(addresses, 8, 16);
    for (uint32_t lane = 0; lane < emulation::kWarp; ++lane) {
      const uint32_t g = lane / 4, t = 2 * (lane % 4);
      const uint16_t low = kTransposed ? at(8 * m + t).row[g] : at(8 * m + g).row[t];
      const uint16_t high = kTransposed ? at(8 * m + t + 1).row[g] : at(8 * m + g).row[t + 1];
      at(lane).out[m] = uint32_t(low) | uint32_t(high) << 16;
    }
  }
}

template <bool kTransposed, class T>
void load_matrices_some(uint32_t (&out)[4], Shared<T> s, int32_t i, emulation::Site site) {
  MatrixDeposit mine;
  const uint8_t *const row =
      emulation::shared_access(s.range, s.byte(i), 16, emulation::Access::read, site, true);
  std::memcpy(mine.row, row, 16);
  mine.address = s.range.begin + uint32_t(s.byte(i));
  mine.out = out;
  emulation::meet(emulation::Meeting::load_matrix, &mine, deal_matrices<kTransposed>, nullptr,
                  site);
}

template <class T>
void load_matrices(uint32_t (&out)[4], Shared<T> s, int32_t i,
                   emulation::Site site = emulation::Site::current()) {
  load_matrices_some<false>(out, s, i, site);
}
template <class T>
void load_matrices_transposed(uint32_t (&out)[4], Shared<T> s, int32_t i,
                              emulation::Site site = emulation::Site::current()) {
  load_matrices_some<true>(out, s, i, site);
}

// ------------------------------------------------------------------------------------------------
// Matrix product

struct MmaDeposit {
  const uint32_t *a, *b;
  float *c;
};

template <class T>
float half_of(uint32_t word, uint32_t which) {
  return widen(T{uint16_t(word >> (16 * which))});
}

/** All products of the warp's tile, each sum over the depth in ascending order. */
template <class T, int M, int N>
void multiply(void *, void *const *deposits) {
  static thread_local float a[16 * M][16], b[16][8 * N];
  const auto at = [&](uint32_t lane) -> const MmaDeposit & {
    return *static_cast<const MmaDeposit *>(deposits[lane]);
  };
  for (uint32_t lane = 0; lane < emulation::kWarp; ++lane) {
    const uint32_t g = lane / 4, t = 2 * (lane % 4);
    const MmaDeposit &d = at(lane);
    for (uint32_t i = 0; i < M; ++i)
      for (uint32_t r = 0; r < 4; ++r)
        for (uint32_t e = 0; e < 2; ++e)
          a[16 * i + g + 8 * (r % 2)][t + 8 * (r / 2) + e] = half_of<T>(d.a[4 * i + r], e);
    for (uint32_t j = 0; j < N; ++j)
      for (uint32_t r = 0; r < 2; ++r)
        for (uint32_t e = 0; e < 2; ++e)
          b[t + 8 * r + e][8 * j + g] = half_of<T>(d.b[2 * j + r], e);
  }
  for (uint32_t row = 0; row < 16 * M; ++row) {
    float sums[8 * N] = {};
    for (uint32_t k = 0; k < 16; ++k)
      for (uint32_t n = 0; n < 8 * N; ++n) sums[n] += a[row][k] * b[k][n];
    const uint32_t i = row / 16, g = row % 8, high = row % 16 / 8;
    for (uint32_t n = 0; n < 8 * N; ++n)
      at(4 * g + n % 8 / 2).c[4 * (i * N + n / 8) + 2 * high + n % 2] += sums[n];
  }
}

template <class T, int M, int N>
void mma_tile(float (&c)[M][N][4], const uint32_t (&a)[M][4], const uint32_t (&b)[N][2],
              emulation::Site site = emulation::Site::current()) {
  if constexpr (std::is_same_v<T, bf16>) {
    if (emulation::limits().architecture < 80)
      emulation::fault(site, "mma: bf16 needs sm_80, this is sm_%d",
                       emulation::limits().architecture);
  }
  MmaDeposit mine{&a[0][0], &b[0][0], &c[0][0][0]};
  emulation::meet(emulation::Meeting::mma, &mine, multiply<T, M, N>, nullptr, site);
}

// ------------------------------------------------------------------------------------------------
// Asynchronous copies

template <class T>
void copy_16(Shared<T> to, int32_t i, Global<const T> from, int64_t j, bool valid,
             emulation::Site site = emulation::Site::current()) {
  if (emulation::limits().architecture >= 80) {
    emulation::async_copy(to.range, to.byte(i), valid ? from.data + j : nullptr, site);
    return;
  }
  to.template store_as<Words4>(
      i, valid ? from.template load_as<Words4>(j, site) : Words4{0, 0, 0, 0}, site);
}
inline void copy_commit() {
  if (emulation::limits().architecture >= 80) emulation::async_commit();
}
template <int kLeft>
void copy_wait() {
  if (emulation::limits().architecture >= 80) emulation::async_wait(kLeft);
}

} // namespace sluice::cuda::ptx
