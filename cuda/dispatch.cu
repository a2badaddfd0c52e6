#include "dispatch.hpp"

#ifdef SLUICE_CUDA_EMULATION
#include "core/ranges.h"
#include "emulation/memory.hpp"
#endif

namespace sluice::cuda {
namespace {

#ifdef SLUICE_CUDA_EMULATION

/** While it lives, kernels may touch what the command claims, and nothing else. */
class Claims {
 public:
  Claims(const Header &command, const Launch &launch) {
    sluice::Claims claimed;
    ranges(command, 1, claimed);
    for (int i = 0; i < claimed.count; ++i) {
      const sluice_range &r = claimed.items[i].range;
      emulation::claim(static_cast<char *>(launch.bases[r.slot]) + r.begin, r.end - r.begin,
                       r.written);
    }
    emulation::claim_flag(launch.trouble, sizeof *launch.trouble);
  }
  ~Claims() { emulation::clear_claims(); }
  Claims(const Claims &) = delete;
  Claims &operator=(const Claims &) = delete;
};

#else

/** A device checks no claims. */
struct Claims {
  Claims(const Header &, const Launch &) {}
};

#endif

template <class Command>
const Command &as(const Header &command) {
  return reinterpret_cast<const Command &>(command);
}

/** A command's name, and what its launch returned. */
struct Launched {
  const char *name;
  cudaError_t code; ///< kNotSupported, or what launch() returned
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
      return as<AttentionCommand>(command).time
                 ? Launched{"time_attention",
                            run_time_attention(as<AttentionCommand>(command), launch)}
                 : Launched{"attention", run_attention(as<AttentionCommand>(command), launch)};
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
    case Opcode::copy:
      return {"copy", launch.copies.begin(as<CopyCommand>(command), launch.bases, launch.stream)};
    case Opcode::join:
      return {"join", launch.copies.join(as<JoinCommand>(command).ticket, launch.stream)};
    case Opcode::fetch: // the host's own way to stream
      return {"fetch", kNotSupported};
  }
  return {"?", kNotSupported};
}

} // namespace

int dispatch(const Header &command, const Launch &launch, const Complaint &complaint) {
  const Claims claims(command, launch);
  const auto [name, code] = launch_command(command, launch);
  if (code == cudaSuccess) return SLUICE_OK;
  if (code != kNotSupported) {
    cudaGetLastError();
    return fail(SLUICE_DEVICE_LOST, complaint.text, complaint.capacity,
                "expected %s to be launched, got: %s", name, launch_error(code));
  }
  return fail(SLUICE_BAD_COMMAND, complaint.text, complaint.capacity,
              "expected a command that the CUDA kernels know, got %s in a form that none computes",
              name);
}

} // namespace sluice::cuda
