/** @file Chooses what an attention is computed in. */
#include "kernels/attention_problem.hpp"

namespace sluice::cuda {

/** Heads that have kernels on tensor cores. */
constexpr int32_t kMostTensorChannels = 160;

/** As convolutions: in the narrow type of any operand, or in float32 where there is none. */
cudaError_t run_attention(const AttentionCommand &c, const Launch &launch) {
  if (c.time) return run_time_attention(c, launch);
  AttentionProblem p = attention_problem(c, launch);
  const int32_t batch = c.frames * c.heads;
  const auto has = [&](DType dtype) {
    return c.q.dtype == dtype || c.k.dtype == dtype || c.v.dtype == dtype || c.out.dtype == dtype;
  };
  if (c.head_dim <= kMostTensorChannels) {
    if (has(DType::f16) && !has(DType::bf16)) return run_attention_f16(p, batch, launch);
    if (has(DType::bf16) && launch.device.architecture >= 80)
      return run_attention_bf16(p, batch, launch);
  }
  return run_attention_simt(p, batch, launch);
}

} // namespace sluice::cuda
