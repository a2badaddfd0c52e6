/** @file Sums and maxima over a warp, in a fixed order, the same in every lane. */
#pragma once

#include "launch.hpp"

namespace sluice::cuda {

constexpr int32_t kWarp = 32;

SLUICE_DEVICE float warp_sum(float x) {
#pragma unroll
  for (int32_t mask = kWarp / 2; mask > 0; mask /= 2) x += shuffle_xor(x, mask);
  return x;
}

SLUICE_DEVICE float warp_max(float x) {
#pragma unroll
  for (int32_t mask = kWarp / 2; mask > 0; mask /= 2) x = fmaxf(x, shuffle_xor(x, mask));
  return x;
}

} // namespace sluice::cuda
