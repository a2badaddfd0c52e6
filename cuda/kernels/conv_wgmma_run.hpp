/** @file Which convolutions wgmma computes, and how such a one is launched. */
#pragma once

#include "kernels/conv_wgmma.hpp"

namespace sluice::cuda {

/**
 * Whether conv_wgmma computes it, in `dtype`. A layer is cut into slices of frames, rows and output
 * channels, and all must take the same kernel: asked is what they have in common alone. That is the
 * device, the types, input channels, taps, stride, upsampling and prologue; and strides and
 * addresses, which are multiples of 16 bytes in every slice where pixels of all sources are.
 */
bool takes_wgmma(const ConvCommand &, const ConvProblem &, const Launch &, DType dtype);

// In conv_wgmma_f16.cu and conv_wgmma_bf16.cu.
cudaError_t run_conv_wgmma_f16(const ConvCommand &, const ConvProblem &, const Launch &);
cudaError_t run_conv_wgmma_bf16(const ConvCommand &, const ConvProblem &, const Launch &);

// In conv_wgmma.cu: what does not depend on the type.

/** The convolution's boxes; tiles_across is left open. */
BoxPlan box_plan(const ConvCommand &, const ConvProblem &);
/** The input and the weights as TMA sees them: boxes of the plan, `columns` of the weights. */
cudaError_t map_source(TensorMap &, const ConvCommand &, const ConvProblem &, const BoxPlan &,
                       int which);
cudaError_t map_weights(TensorMap &, const ConvProblem &, int32_t columns);

template <class Tile>
cudaError_t launch_wgmma(const ConvCommand &c, const ConvProblem &p, BoxPlan plan,
                         const Launch &launch) {
  TensorMap first, second, weights;
  cudaError_t code = map_source(first, c, p, plan, 0);
  if (code == cudaSuccess) code = map_source(second, c, p, plan, c.sources - 1);
  if (code == cudaSuccess) code = map_weights(weights, p, Tile::kColumns);
  if (code != cudaSuccess) return code;
  plan.tiles_across = ceil_div(p.panels * kPanel, Tile::kColumns);
  const int32_t blocks = plan.taps * (ceil_div(plan.source_channels[0], kBoxChannels) +
                                      ceil_div(plan.source_channels[1], kBoxChannels));
  return cuda::launch("conv_wgmma", conv_wgmma<Tile>,
                      {Grid(uint32_t(plan.tiles_down) * uint32_t(plan.tiles_across)),
                       Tile::kThreads, Tile::kSharedBytes},
                      launch.stream, p, plan, blocks, conv_is_wide(p), first, second, weights);
}

/**
 * The tile changes no bit, however wide: it follows what there is to compute and what the device
 * has. A wave of tiles takes the time of its columns and what a tile takes before and after.
 */
template <class T>
cudaError_t run_conv_wgmma(const ConvCommand &c, const ConvProblem &p, const Launch &launch) {
  const BoxPlan plan = box_plan(c, p);
  const auto cost = [&](int32_t columns) {
    const int64_t tiles = int64_t(plan.tiles_down) * int64_t(ceil_div(p.panels * kPanel, columns));
    const int64_t at_once = launch.device.multiprocessors;
    return (tiles + at_once - 1) / at_once * (columns + 48);
  };
  int32_t best = 256;
  for (const int32_t columns : {160, 128, 64})
    if (cost(columns) < cost(best)) best = columns;
  if (best == 256) return launch_wgmma<BoxTile<T, 256>>(c, p, plan, launch);
  if (best == 160) return launch_wgmma<BoxTile<T, 160>>(c, p, plan, launch);
  if (best == 128) return launch_wgmma<BoxTile<T, 128>>(c, p, plan, launch);
  return launch_wgmma<BoxTile<T, 64>>(c, p, plan, launch);
}

} // namespace sluice::cuda
