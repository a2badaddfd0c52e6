/** @file Attention in bf16 on tensor cores. */
#include "kernels/attention_mma.hpp"

namespace sluice::cuda {

cudaError_t run_attention_bf16(AttentionProblem &p, int32_t batch, const Launch &launch) {
  return choose_attention<bf16>(p, batch, launch);
}

} // namespace sluice::cuda
