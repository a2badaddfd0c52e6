/** @file Chooses what an attention within a frame is computed in. */
#include "kernels/attention_choice.hpp"
#include "kernels/attention_problem.hpp"

namespace sluice::cuda {

cudaError_t run_attention(const AttentionCommand &c, const Launch &launch) {
  if (c.time) return run_time_attention(c, launch);
  AttentionProblem p = attention_problem(c, launch);
  const int32_t batch = c.frames * c.heads;
  if (c.head_dim <= kMostTensorChannels) {
    switch (attention_arithmetic(c, launch)) {
      case Arithmetic::f16:
        return run_attention_f16(p, batch, launch);
      case Arithmetic::bf16:
        return run_attention_bf16(p, batch, launch);
      case Arithmetic::f32:
        break;
    }
  }
  return run_attention_simt(p, batch, launch);
}

} // namespace sluice::cuda
