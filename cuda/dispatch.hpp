/**
 * @file
 * From a command to the launch of its kernels. Each family has one function that chooses a kernel's
 * instance, its grid and its block.
 */
#pragma once

#include "copies.hpp"
#include "core/commands.h"
#include "device.hpp"
#include "launch.hpp"

namespace sluice::cuda {

/** What a launch needs besides the command. */
struct Launch {
  const Device &device;
  cudaStream_t stream;
  void *const *bases; ///< address of each slot
  int32_t *trouble;   ///< see Lane
  Copies &copies;     ///< of the lane
};

/** Launches the kernels of a command that check_command has accepted. */
int dispatch(const Header &command, const Launch &launch, const Complaint &complaint);

/** An operand's first byte; null where it is absent. */
template <class T = void>
T *address(const View &view, const Launch &launch) {
  if (!view.present()) return nullptr;
  return reinterpret_cast<T *>(static_cast<char *>(launch.bases[view.slot]) + view.offset());
}

/** What run_ functions return for a form of the command that no kernel computes. */
constexpr cudaError_t kNotSupported = cudaErrorNotSupported;

// One function an opcode, in kernels/. Each returns what launch() returned.
cudaError_t run_conv(const ConvCommand &, const Launch &);
cudaError_t run_norm_partials(const NormPartialsCommand &, const Launch &);
cudaError_t run_norm_fold(const NormFoldCommand &, const Launch &);
cudaError_t run_affine(const AffineCommand &, const Launch &);
cudaError_t run_layer_norm(const LayerNormCommand &, const Launch &);
cudaError_t run_attention(const AttentionCommand &, const Launch &);      // time = 0
cudaError_t run_time_attention(const AttentionCommand &, const Launch &); // time = 1
cudaError_t run_binary(const BinaryCommand &, const Launch &);
cudaError_t run_unary(const UnaryCommand &, const Launch &);
cudaError_t run_combine(const CombineCommand &, const Launch &);
cudaError_t run_resize(const ResizeCommand &, const Launch &);
cudaError_t run_embedding(const EmbeddingCommand &, const Launch &);
cudaError_t run_timestep(const TimestepCommand &, const Launch &);
cudaError_t run_quantise(const QuantiseCommand &, const Launch &);
cudaError_t run_dequantise(const QuantiseCommand &, const Launch &);

} // namespace sluice::cuda
