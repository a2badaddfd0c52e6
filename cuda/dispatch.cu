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
    emulation::claim(launch.trouble, sizeof *launch.trouble, true);
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

/** Plane by plane, in the stream's order; the addresses say which side is the host's. */
cudaError_t copy_between_slots(const CopyCommand &c, const Launch &launch) {
  const size_t size = c.source.dtype == DType::f16 || c.source.dtype == DType::bf16 ? 2 : 4;
  const char *source = static_cast<const char *>(launch.bases[c.source.slot]) + c.source.offset();
  char *out = static_cast<char *>(launch.bases[c.out.slot]) + c.out.offset();
  // A frame's rows follow each other in every tensor; cols, too, where both sides are dense.
  const bool dense = c.source.stride_w == c.channels && c.out.stride_w == c.channels;
  const int32_t planes = dense ? c.frames : c.frames * c.rows;
  const size_t width = size_t(dense ? c.cols * c.channels : c.channels) * size;
  for (int32_t i = 0; i < planes; ++i) {
    const int32_t f = dense ? i : i / c.rows, h = dense ? 0 : i % c.rows;
    const auto start = [&](const View &v) {
      return size_t(int64_t(f) * v.stride_f + int64_t(h) * v.stride_h) * size;
    };
    const auto pitch = [&](const View &v) { return size_t(dense ? v.stride_h : v.stride_w) * size; };
    const int32_t lines = dense ? c.rows : c.cols;
    const cudaError_t code = cudaMemcpy2DAsync(
        out + start(c.out), lines > 1 ? pitch(c.out) : width, source + start(c.source),
        lines > 1 ? pitch(c.source) : width, width, size_t(lines), cudaMemcpyDefault, launch.stream);
    if (code != cudaSuccess) return code;
  }
  return cudaSuccess;
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
      return {"copy", copy_between_slots(as<CopyCommand>(command), launch)};
    case Opcode::join: // copies are done in the stream's order
      return {"join", cudaSuccess};
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
