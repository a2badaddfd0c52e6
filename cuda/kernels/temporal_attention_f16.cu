/** @file Attention along the frames in f16 on tensor cores. */
#include "kernels/temporal_attention_mma.hpp"

namespace sluice::cuda {

cudaError_t run_time_f16(const TimeProblem &p, const Launch &launch) {
  return choose_time<f16>(p, launch);
}

} // namespace sluice::cuda
