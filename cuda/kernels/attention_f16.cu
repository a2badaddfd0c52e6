/** @file Attention in f16 on tensor cores. */
#include "kernels/attention_mma.hpp"

namespace sluice::cuda {

cudaError_t run_attention_f16(AttentionProblem &p, int32_t batch, const Launch &launch) {
  return choose_attention<f16>(p, batch, launch);
}

} // namespace sluice::cuda
