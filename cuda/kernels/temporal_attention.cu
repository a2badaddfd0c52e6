/** @file Chooses what an attention along the frames is computed in. */
#include "kernels/attention_choice.hpp"
#include "kernels/temporal_problem.hpp"

namespace sluice::cuda {

/** The choice follows the operation alone, never the part of it that a command covers. */
cudaError_t run_time_attention(const AttentionCommand &c, const Launch &launch) {
  const TimeProblem p = time_problem(c, launch);
  if (c.head_dim <= kMostTensorChannels && c.key_frames <= kMostTensorFrames) {
    switch (attention_arithmetic(c, launch)) {
      case Arithmetic::f16:
        return run_time_f16(p, launch);
      case Arithmetic::bf16:
        return run_time_bf16(p, launch);
      case Arithmetic::f32:
        break;
    }
  }
  return run_time_simt(p, launch);
}

} // namespace sluice::cuda
