/** @file Convolution and matrix product in bf16 by wgmma. */
#include "kernels/conv_wgmma_run.hpp"

namespace sluice::cuda {

cudaError_t run_conv_wgmma_bf16(const ConvCommand &c, const ConvProblem &p, const Launch &launch) {
  return run_conv_wgmma<bf16>(c, p, launch);
}

} // namespace sluice::cuda
