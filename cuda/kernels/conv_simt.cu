/**
 * @file
 * Convolution and matrix product in float32, operands of any type: tiles of the input and of the
 * weights in shared memory, four by four sums a thread. Sums run over the depth in ascending order.
 */
#include "kernels/conv_run.hpp"

namespace sluice::cuda {
namespace {

constexpr int32_t kTile = 64; ///< pixels and columns of a thread block
constexpr int32_t kDepth = 16;
constexpr int32_t kSimtThreads = 256;
constexpr int32_t kStride = kTile + 4; ///< floats between rows: vectors stay aligned

SLUICE_KERNEL(kSimtThreads, 2)
conv_simt(const ConvProblem p, int32_t tiles_across, bool wide) {
  SLUICE_SHARED(float, inputs, kDepth *kStride);
  SLUICE_SHARED(float, weights, kDepth *kStride);
  SLUICE_SHARED(float, staging, kTile *kStride);
  const int32_t thread = int32_t(threadIdx.x);
  const int32_t first_row = int32_t(blockIdx.x) / tiles_across * kTile;
  const int32_t first_column = int32_t(blockIdx.x) % tiles_across * kTile;

  // Each thread brings four places of the depth of one pixel, and four columns of one place.
  const int32_t row = thread / 4, k = thread % 4 * 4;
  const int32_t index = first_row + row;
  ConvPixel pixel = conv_pixel(p, index < p.pixels ? index : 0);
  if (index >= p.pixels) pixel.in_row = -(1 << 30);
  const int32_t weight_k = thread / 16, column = thread % 16 * 4;

  const int32_t down = thread / 16 * 4, across = thread % 16 * 4; // of this thread's sums
  float sums[4][4] = {};
  for (int32_t k0 = 0; k0 < p.depth; k0 += kDepth) {
    float w[4];
#pragma unroll
    for (int32_t i = 0; i < 4; ++i) {
      inputs.store((k + i) * kStride + row, conv_input(p, pixel, k0 + k + i));
      w[i] = conv_weight(p, k0 + weight_k, first_column + column + i);
    }
    weights.store_as<Floats4>(weight_k * kStride + column, {w[0], w[1], w[2], w[3]});
    block_sync();
#pragma unroll 4
    for (int32_t i = 0; i < kDepth; ++i) {
      const Floats4 x = inputs.load_as<Floats4>(i * kStride + down);
      const Floats4 y = weights.load_as<Floats4>(i * kStride + across);
      const float a[4] = {x.x, x.y, x.z, x.w}, b[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
      for (int32_t r = 0; r < 4; ++r)
#pragma unroll
        for (int32_t c = 0; c < 4; ++c) sums[r][c] += a[r] * b[c];
    }
    block_sync();
  }

#pragma unroll
  for (int32_t r = 0; r < 4; ++r)
    staging.store_as<Floats4>((down + r) * kStride + across,
                              {sums[r][0], sums[r][1], sums[r][2], sums[r][3]});
  block_sync();
  for (int32_t i = thread; i < kTile * kTile / 8; i += kSimtThreads) {
    const int32_t at = i / (kTile / 8), chunk = i % (kTile / 8) * 8;
    if (first_row + at >= p.pixels || (p.pairs() && chunk / kPanel % 2)) continue;
    float x[8], gate[8] = {};
    read_staged(staging, at * kStride + chunk, x);
    if (p.pairs()) read_staged(staging, at * kStride + chunk + kPanel, gate);
    conv_finish(p, first_row + at, first_column + chunk, x, gate, wide);
  }
}

} // namespace

cudaError_t run_conv_simt(const ConvProblem &p, const Launch &launch) {
  const int32_t down = ceil_div(p.pixels, kTile), across = ceil_div(p.panels * kPanel, kTile);
  return cuda::launch("conv_simt", conv_simt,
                      {Grid(uint32_t(down) * uint32_t(across)), kSimtThreads}, launch.stream, p,
                      across, conv_is_wide(p));
}

} // namespace sluice::cuda
