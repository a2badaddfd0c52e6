/** @file Families without kernels: their commands are refused. */
#include "dispatch.hpp"

namespace sluice::cuda {

__attribute__((weak)) cudaError_t run_conv(const ConvCommand &, const Launch &) {
  return kNotSupported;
}
__attribute__((weak)) cudaError_t run_attention(const AttentionCommand &, const Launch &) {
  return kNotSupported;
}

} // namespace sluice::cuda
