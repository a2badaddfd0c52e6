/** @file Chooses what a convolution is computed in. */
#include "kernels/conv_run.hpp"
#include "kernels/conv_wgmma_run.hpp"

namespace sluice::cuda {

/**
 * In the type that its activations are stored in: where any is narrow, products of that type on
 * tensor cores; where all are float32, and for bf16 before sm_80, float32. Sums are float32.
 */
cudaError_t run_conv(const ConvCommand &c, const Launch &launch) {
  const ConvProblem p = conv_problem(c, launch);
  const auto has = [&](DType dtype) {
    return p.out.dtype == dtype || p.source[0].dtype == dtype ||
           (p.source[1].present() && p.source[1].dtype == dtype);
  };
  if (has(DType::f16) && !has(DType::bf16))
    return takes_wgmma(c, p, launch, DType::f16) ? run_conv_wgmma_f16(c, p, launch)
                                                 : run_conv_f16(p, launch);
  if (has(DType::bf16) && launch.device.architecture >= 80)
    return takes_wgmma(c, p, launch, DType::bf16) ? run_conv_wgmma_bf16(c, p, launch)
                                                  : run_conv_bf16(p, launch);
  return run_conv_simt(p, launch);
}

} // namespace sluice::cuda
