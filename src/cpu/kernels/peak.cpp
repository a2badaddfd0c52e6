/** @file The ceiling that benchmarks hold products against: multiply-adds that touch registers
 * alone. */
#include "cpu/kernels/support.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {

int64_t multiply_adds(int64_t rounds) {
  // As many sums as the register tile of products holds, so that none waits for the one before it.
  constexpr int32_t kSums = kTileRows * kTilePanels;
  f32x16 sums[kSums];
  for (int32_t i = 0; i < kSums; ++i) sums[i] = splat(1.0f + (float)i);
  const f32x16 factor = splat(0.999f), term = splat(1e-3f);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
    for (int32_t i = 0; i < kSums; ++i) sums[i] = fma(sums[i], factor, term);
  }
  f32x16 total = zero();
  for (int32_t i = 0; i < kSums; ++i) total = total + sums[i];
  // All sums tend to one; a use that the compiler cannot leave out.
  return reduce_sum(total) < 0.0f ? 0 : rounds * kSums * 16 * 2;
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
