/** @file The table of this instruction set. */
#include "cpu/kernels/support.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {
namespace {

template <Products kProducts>
int execute(const Header *command, void *const *slots, const volatile uint8_t *stop, int32_t thread,
            int32_t threads) {
  const Bases bases = {slots, stop};
  switch (command->opcode) {
    case Opcode::conv:
      return run_conv(*(const ConvCommand *)command, bases, thread, threads, kProducts);
    case Opcode::norm_partials:
      return run_norm_partials(*(const NormPartialsCommand *)command, bases, thread, threads);
    case Opcode::norm_fold:
      return run_norm_fold(*(const NormFoldCommand *)command, bases, thread, threads);
    case Opcode::affine:
      return run_affine(*(const AffineCommand *)command, bases, thread, threads);
    case Opcode::layer_norm:
      return run_layer_norm(*(const LayerNormCommand *)command, bases, thread, threads);
    case Opcode::attention:
      return run_attention(*(const AttentionCommand *)command, bases, thread, threads);
    case Opcode::binary:
      return run_binary(*(const BinaryCommand *)command, bases, thread, threads);
    case Opcode::unary:
      return run_unary(*(const UnaryCommand *)command, bases, thread, threads);
    case Opcode::combine:
      return run_combine(*(const CombineCommand *)command, bases, thread, threads);
    case Opcode::resize:
      return run_resize(*(const ResizeCommand *)command, bases, thread, threads);
    case Opcode::embedding:
      return run_embedding(*(const EmbeddingCommand *)command, bases, thread, threads);
    case Opcode::timestep:
      return run_timestep(*(const TimestepCommand *)command, bases, thread, threads);
    case Opcode::quantise:
      return run_quantise(*(const QuantiseCommand *)command, bases, thread, threads);
    case Opcode::dequantise:
      return run_dequantise(*(const QuantiseCommand *)command, bases, thread, threads);
    case Opcode::copy:
      return run_copy(*(const CopyCommand *)command, bases, thread, threads);
    case Opcode::join: // copies are done when their command is
      return SLUICE_OK;
    case Opcode::fetch:
      break;
  }
  return SLUICE_BAD_COMMAND;
}

} // namespace

constexpr Products kProducts = kPairs ? Products::pairs : Products::none;

extern const Kernels kTable;
const Kernels kTable = {kIsaName, kProducts, execute<kProducts>, pack, multiply_adds};
#if defined(SLUICE_AMX)
extern const Kernels kAmxTable;
const Kernels kAmxTable = {"amx", Products::amx, execute<Products::amx>, pack, multiply_adds};
#endif
#if defined(SLUICE_AMX_MODEL)
extern const Kernels kAmxModelTable;
const Kernels kAmxModelTable = {"amx-emulated", Products::amx_model, execute<Products::amx_model>,
                                pack, multiply_adds};
#endif

} // namespace sluice::SLUICE_ISA_NAMESPACE
