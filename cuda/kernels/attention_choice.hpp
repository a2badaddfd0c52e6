/** @file What products of an attention are computed in. */
#pragma once

#include "dispatch.hpp"

namespace sluice::cuda {

/** Heads that have kernels on tensor cores: channels at most. */
constexpr int32_t kMostTensorChannels = 160;

enum class Arithmetic { f32, f16, bf16 };

/** As convolutions: in the narrow type of any operand, or in float32 where there is none. */
inline Arithmetic attention_arithmetic(const AttentionCommand &c, const Launch &launch) {
  const auto has = [&](DType dtype) {
    return c.q.dtype == dtype || c.k.dtype == dtype || c.v.dtype == dtype || c.out.dtype == dtype;
  };
  if (has(DType::f16) && !has(DType::bf16)) return Arithmetic::f16;
  if (has(DType::bf16) && launch.device.architecture >= 80) return Arithmetic::bf16;
  return Arithmetic::f32;
}

} // namespace sluice::cuda
