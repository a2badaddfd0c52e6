/** @file Convolution and matrix product in f16 on tensor cores. */
#include "kernels/conv_run.hpp"

namespace sluice::cuda {

cudaError_t run_conv_f16(const ConvProblem &p, const Launch &launch) {
  return run_conv_mma<f16>(p, launch);
}

} // namespace sluice::cuda
