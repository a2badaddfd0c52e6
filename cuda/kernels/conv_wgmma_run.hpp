/** @file Which convolutions wgmma computes, and how such a one is launched. */
#pragma once

#include "kernels/conv_wgmma.hpp"

namespace sluice::cuda {

/**
 * Whether a device has conv_wgmma: what it is, what was built, and SLUICE_CUDA_WGMMA. Plans for it
 * leave no prologue in what takes_wgmma would take without.
 */
bool offers_wgmma(const Device &);

/**
 * Whether conv_wgmma computes it, in `dtype`. A layer is cut into slices of frames, rows and output
 * channels, and all must take the same kernel: asked is what they have in common alone. That is the
 * device, the types, input channels, taps, stride, upsampling and prologue; and strides and
 * addresses, which are multiples of 16 bytes in every slice where pixels of all sources are.
 * Same as takesWgmma in lib/planner/wgmma.ts.
 */
bool takes_wgmma(const ConvCommand &, const ConvProblem &, const Launch &, DType dtype);

// In conv_wgmma_f16.cu and conv_wgmma_bf16.cu.
cudaError_t run_conv_wgmma_f16(const ConvCommand &, const ConvProblem &, const Launch &);
cudaError_t run_conv_wgmma_bf16(const ConvCommand &, const ConvProblem &, const Launch &);

// In conv_wgmma.cu: what does not depend on the type.

/** The convolution's boxes of `rows` pixels; tiles_across is left open. */
BoxPlan box_plan(const ConvCommand &, const ConvProblem &, int32_t rows);
/** The input and the weights as TMA sees them: boxes of `rows` pixels, `columns` of the weights. */
cudaError_t map_source(TensorMap &, const ConvCommand &, const ConvProblem &, const BoxPlan &,
                       int32_t rows, int which);
cudaError_t map_weights(TensorMap &, const ConvProblem &, int32_t columns);

template <class Tile>
cudaError_t launch_wgmma(const ConvCommand &c, const ConvProblem &p, const Launch &launch) {
  BoxPlan plan = box_plan(c, p, Tile::kRows);
  plan.tiles_across = ceil_div(p.panels * kPanel, Tile::kColumns);
  TensorMap first, second, weights;
  cudaError_t code = map_source(first, c, p, plan, Tile::kRows, 0);
  if (code == cudaSuccess) code = map_source(second, c, p, plan, Tile::kRows, c.sources - 1);
  if (code == cudaSuccess) code = map_weights(weights, p, Tile::kColumns);
  if (code != cudaSuccess) return code;
  const int32_t blocks = plan.taps * (ceil_div(plan.source_channels[0], kBoxChannels) +
                                      ceil_div(plan.source_channels[1], kBoxChannels));
  return cuda::launch("conv_wgmma", conv_wgmma<Tile>,
                      {Grid(uint32_t(plan.tiles_down) * uint32_t(plan.tiles_across)),
                       Tile::kThreads, Tile::kSharedBytes},
                      launch.stream, p, plan, blocks, conv_is_wide(p), first, second, weights);
}

/**
 * The tile changes no bit, whatever its size: it follows what there is to compute and what the
 * device has. A wave of tiles takes the time of its area and what a tile takes before and after. Of
 * tiles alike the first is taken: weights are brought for all of its rows at once.
 */
template <class T>
cudaError_t run_conv_wgmma(const ConvCommand &c, const ConvProblem &p, const Launch &launch) {
  int64_t least = 0;
  cudaError_t (*best)(const ConvCommand &, const ConvProblem &, const Launch &) = nullptr;
  const int32_t down[] = {box_plan(c, p, 128).tiles_down, box_plan(c, p, 256).tiles_down};
  const auto consider = [&]<class Tile>(Tile) {
    constexpr int64_t kAround = 128 * 48; // of area
    const int64_t tiles =
        int64_t(down[Tile::kRows / 128 - 1]) * int64_t(ceil_div(p.panels * kPanel, Tile::kColumns));
    const int64_t at_once = launch.device.multiprocessors;
    const int64_t cost = (tiles + at_once - 1) / at_once * (Tile::kRows * Tile::kColumns + kAround);
    if (!best || cost < least) least = cost, best = launch_wgmma<Tile>;
  };
  consider(BoxTile<T, 256, 160>{});
  consider(BoxTile<T, 256, 128>{});
  consider(BoxTile<T, 128, 256>{});
  consider(BoxTile<T, 128, 160>{});
  consider(BoxTile<T, 128, 128>{});
  consider(BoxTile<T, 128, 64>{});
  return best(c, p, launch);
}

} // namespace sluice::cuda
