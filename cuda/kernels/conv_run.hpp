/** @file How a convolution on tensor cores is launched: its tiles and the way its input is read. */
#pragma once

#include "kernels/conv_mma.hpp"

namespace sluice::cuda {

template <class Tile>
cudaError_t launch_conv(const ConvProblem &p, const Launch &launch) {
  const int32_t down = ceil_div(p.pixels, Tile::kRows);
  const int32_t across = ceil_div(p.panels * kPanel, Tile::kColumns);
  const bool converts =
      p.weight.dtype != (std::is_same_v<typename Tile::T, f16> ? DType::f16 : DType::bf16) ||
      uintptr_t(p.weight.data) % 16 != 0;
  return cuda::launch("conv", conv_mma<Tile>,
                      {Grid(uint32_t(down) * uint32_t(across)), Tile::kThreads, Tile::kSharedBytes},
                      launch.stream, p, down, across, converts, conv_is_wide(p));
}

/** The tile changes no bit: it follows what there is to compute and what the device has. */
template <class T, Fill kFill>
cudaError_t choose_tile(const ConvProblem &p, const Launch &launch) {
  if (p.panels * kPanel <= 32) return launch_conv<ConvTile<T, 128, 32, 32, kFill>>(p, launch);
  if constexpr (kFill != Fill::elementwise) {
    const int64_t large =
        int64_t(ceil_div(p.pixels, 128)) * int64_t(ceil_div(p.panels * kPanel, 128));
    if (large >= launch.device.multiprocessors)
      return launch_conv<ConvTile<T, 128, 128, 64, kFill>>(p, launch);
  }
  return launch_conv<ConvTile<T, 64, 64, 32, kFill>>(p, launch);
}

/** Computes in T, f16 or bf16, whatever the operands are stored as. */
template <class T>
cudaError_t run_conv_mma(const ConvProblem &p, const Launch &launch) {
  const DType dtype = std::is_same_v<T, f16> ? DType::f16 : DType::bf16;
  bool whole = p.first_channels % kChunk == 0 && p.in_channels % kChunk == 0;
  for (const Operand &source : p.source)
    whole &= !source.present() || (source.dtype == dtype && is_vector(source));
  const bool plain = !p.affine.present() && p.prologue_act == Act::none;
  const bool aligned = uintptr_t(p.affine.data) % 16 == 0 && p.affine_stride % 4 == 0;
  if (!whole || !aligned) return choose_tile<T, Fill::elementwise>(p, launch);
  return plain ? choose_tile<T, Fill::direct>(p, launch)
               : choose_tile<T, Fill::prologue>(p, launch);
}

// In conv_f16.cu, conv_bf16.cu and conv_simt.cu: compiled apart, as each takes its time.
cudaError_t run_conv_f16(const ConvProblem &, const Launch &);
cudaError_t run_conv_bf16(const ConvProblem &, const Launch &);
cudaError_t run_conv_simt(const ConvProblem &, const Launch &);

} // namespace sluice::cuda
