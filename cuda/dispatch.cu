#include "dispatch.hpp"

namespace sluice::cuda {
namespace {

template <class Command>
const Command &as(const Header &command) {
  return reinterpret_cast<const Command &>(command);
}

/** A command's name, and what its launch returned. */
struct Launched {
  const char *name;
  cudaError_t code;
};

Launched launch_command(const Header &command, const Launch &launch) {
  switch (command.opcode) {
    case Opcode::conv:
      return {"conv", run_conv(as<ConvCommand>(command), launch)};
    case Opcode::norm_partials:
      return {"norm_partials", run_norm_partials(as<NormPartialsCommand>(command), launch)};
    case Opcode::norm_fold:
      return {"norm_fold", run_norm_fold(as<NormFoldCommand>(command), launch)};
    case Opcode::affine:
      return {"affine", run_affine(as<AffineCommand>(command), launch)};
    case Opcode::layer_norm:
      return {"layer_norm", run_layer_norm(as<LayerNormCommand>(command), launch)};
    case Opcode::attention:
      return {"attention", run_attention(as<AttentionCommand>(command), launch)};
    case Opcode::binary:
      return {"binary", run_binary(as<BinaryCommand>(command), launch)};
    case Opcode::unary:
      return {"unary", run_unary(as<UnaryCommand>(command), launch)};
    case Opcode::combine:
      return {"combine", run_combine(as<CombineCommand>(command), launch)};
    case Opcode::resize:
      return {"resize", run_resize(as<ResizeCommand>(command), launch)};
    case Opcode::embedding:
      return {"embedding", run_embedding(as<EmbeddingCommand>(command), launch)};
    case Opcode::timestep:
      return {"timestep", run_timestep(as<TimestepCommand>(command), launch)};
    case Opcode::quantise:
      return {"quantise", run_quantise(as<QuantiseCommand>(command), launch)};
    case Opcode::dequantise:
      return {"dequantise", run_dequantise(as<QuantiseCommand>(command), launch)};
  }
  return {"?", cudaErrorNotSupported};
}

} // namespace

int dispatch(const Header &command, const Launch &launch, const Complaint &complaint) {
  const auto [name, code] = launch_command(command, launch);
  if (code == cudaSuccess) return SLUICE_OK;
  if (code != cudaErrorNotSupported) return failed(complaint, name, code);
  return fail(SLUICE_BAD_COMMAND, complaint.text, complaint.capacity,
              "expected a command that the CUDA kernels know, got %s in a form that none computes",
              name);
}

} // namespace sluice::cuda
