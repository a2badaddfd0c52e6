/**
 * @file
 * Convolutions to so few channels that a panel would be padding for the most part: a register holds
 * sixteen input channels of a pixel instead of sixteen outputs, and its lanes are summed at the
 * end.
 */
#pragma once

#include "cpu/kernels/conv_input.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {

constexpr int32_t kNarrowPair = 2;      // outputs at a time: their weights stay in the first cache
constexpr int32_t kNarrowChannels = 64; // of a piece
constexpr int32_t kNarrowDepth = 9 * 320; // taps times the channels of a block, at most
/** Pixels whose sums are kept in registers at a time. */
constexpr int32_t kNarrowPixels = kTilePanels > 1 ? 8 : 2;

/** Decided by the operation alone, never by the slice: the lanes of a sum are another order. */
inline bool is_narrow(const Conv &v) {
  const int32_t taps = v.c.kernel_h * v.c.kernel_w;
  return v.c.outputs <= kFewOutputs && !v.geglu && !v.in_pairs && v.in_channels % 16 == 0 &&
         v.block % 16 == 0 && v.block * taps <= kNarrowDepth;
}

/** The weights of a block of channels, of whatever block came last: for each pair of outputs
 * [kernel_h][channels / 16][kernel_w][2 or 1][16]. */
class NarrowWeights {
 public:
  template <class W>
  void take(const Conv &v, Channels channels);

  /** Of the pair that begins at an output. */
  const float *pair(int32_t output) const { return values_ + output * depth_; }

 private:
  int32_t block_ = -1; ///< its first channel
  int32_t depth_ = 0;  ///< weights of an output
  alignas(64) float values_[kNarrowDepth * kFewOutputs];
};

template <class W>
void NarrowWeights::take(const Conv &v, Channels channels) {
  if (block_ == channels.begin) return;
  block_ = channels.begin;
  const int32_t width = channels.end - channels.begin;
  depth_ = v.c.kernel_h * v.c.kernel_w * width;
  int32_t step = 0;
  for (int32_t ky = 0; ky < v.c.kernel_h; ++ky) {
    for (int32_t k = 0; k < width; k += 16) {
      for (int32_t kx = 0; kx < v.c.kernel_w; ++kx, ++step) {
        const int64_t row = (int64_t)(ky * v.c.kernel_w + kx) * v.in_channels + channels.begin + k;
        const W *from = (const W *)v.weight + row * kPanel;
        f32x16 block[16];
        for (int32_t i = 0; i < 16; ++i) block[i] = load(from + i * kPanel);
        transpose(block);
        for (int32_t n = 0; n < v.c.channels; ++n) {
          const int32_t first = n / kNarrowPair * kNarrowPair;
          const int32_t together = least(v.c.channels - first, kNarrowPair);
          store(values_ + first * depth_ + (step * together + n - first) * 16, block[n]);
        }
      }
    }
  }
}

/** Sums of a few pixels, still by lanes. */
template <int N>
using NarrowSums = f32x16[kNarrowPixels][N];

/** Sums of the lanes, as [kNarrowPixels][N]. */
template <int N>
void add_lanes(const NarrowSums<N> &acc, float *sums) {
  if constexpr (kNarrowPixels * N >= 8) {
    f32x16 lanes[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i)
      lanes[i] = i < kNarrowPixels * N ? acc[i / N % kNarrowPixels][i % N] : zero();
    transpose(lanes);
#pragma GCC unroll 4
    for (int step = 8; step > 0; step /= 2) {
#pragma GCC unroll 8
      for (int i = 0; i < step; ++i) lanes[i] = lanes[i] + lanes[i + step];
    }
    store(sums, lanes[0]);
  } else {
    for (int i = 0; i < kNarrowPixels; ++i) {
      for (int n = 0; n < N; ++n) sums[i * N + n] = reduce_sum(acc[i][n]);
    }
  }
}

/** Some of the packed channels: they and the rows of pixels that share them stay in the first
 * cache. */
struct NarrowPiece {
  int32_t begin, end;   ///< channels, multiples of 16
  int32_t width;        ///< of the packed block
  const float *weights; ///< of a pair of outputs

  template <int N>
  const float *weights_at(int32_t ky, int32_t k, int32_t kernel_w) const {
    return weights + (ky * (width / 16) + k / 16) * kernel_w * N * 16;
  }
};

/** Adds the products of a piece for a few pixels. */
template <int N>
void add_narrow(const Conv &v, const Tile &tile, const float *const (&from)[kNarrowPixels],
                const NarrowPiece &piece, NarrowSums<N> &sums) {
  for (int32_t ky = 0; ky < v.c.kernel_h; ++ky) {
    const int64_t line = (int64_t)ky * tile.in_cols * v.c.pixel_stride;
    const float *weights = piece.weights_at<N>(ky, piece.begin, v.c.kernel_w);
    for (int32_t k = piece.begin; k < piece.end; k += 16) {
      for (int32_t kx = 0; kx < v.c.kernel_w; ++kx, weights += N * 16) {
        const int64_t at = line + (int64_t)kx * v.c.pixel_stride + k;
#pragma GCC unroll 8
        for (int i = 0; i < kNarrowPixels; ++i) {
          const f32x16 x = load(from[i] + at);
#pragma GCC unroll 2
          for (int n = 0; n < N; ++n) sums[i][n] = fma(x, load(weights + n * 16), sums[i][n]);
        }
      }
    }
  }
}

/** The same for neighbours in a row under a kernel three wide, whose columns are read once for all
 * taps: as many sums in the same order. */
template <int N>
void add_narrow_row(const Conv &v, const Tile &tile, const float *from, const NarrowPiece &piece,
                    NarrowSums<N> &sums) {
  constexpr int kTaps = 3;
  const int64_t stride = v.c.pixel_stride;
  NarrowSums<N> acc;
#pragma GCC unroll 8
  for (int i = 0; i < kNarrowPixels; ++i) {
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) acc[i][n] = sums[i][n];
  }
  for (int32_t ky = 0; ky < v.c.kernel_h; ++ky, from += tile.in_cols * stride) {
    const float *weights = piece.weights_at<N>(ky, piece.begin, kTaps);
    const float *at = from + piece.begin;
    for (int32_t k = piece.begin; k < piece.end; k += 16, at += 16, weights += kTaps * N * 16) {
      f32x16 x[kNarrowPixels + kTaps - 1];
#pragma GCC unroll 10
      for (int i = 0; i < kNarrowPixels + kTaps - 1; ++i) x[i] = load(at + i * stride);
#pragma GCC unroll 3
      for (int kx = 0; kx < kTaps; ++kx) {
#pragma GCC unroll 2
        for (int n = 0; n < N; ++n) {
          const f32x16 w = load(weights + (kx * N + n) * 16);
#pragma GCC unroll 8
          for (int i = 0; i < kNarrowPixels; ++i) acc[i][n] = fma(x[i + kx], w, acc[i][n]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kNarrowPixels; ++i) {
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) sums[i][n] = acc[i][n];
  }
}

/** Outputs [output, output + N) of some pixels of the packed tile, its channels from `channels`. */
template <int N>
void run_narrow_pair(const Conv &v, const Tile &tile, const Pixels &pixels, Channels channels,
                     const float *weights, int32_t output) {
  NarrowSums<N> sums[kMostPixels / kNarrowPixels];
  const int32_t groups = ceil_div(pixels.count, kNarrowPixels);
  for (int32_t g = 0; g < groups; ++g) {
    for (int i = 0; i < kNarrowPixels; ++i) {
      for (int n = 0; n < N; ++n) sums[g][i][n] = zero();
    }
  }
  NarrowPiece piece = {0, 0, channels.end - channels.begin, weights};
  for (; piece.begin < piece.width; piece.begin = piece.end) {
    piece.end = least(piece.begin + kNarrowChannels, piece.width);
    for (int32_t g = 0; g < groups; ++g) {
      const int32_t first = g * kNarrowPixels;
      const int32_t count = least(pixels.count - first, kNarrowPixels);
      const float *from[kNarrowPixels];
      for (int32_t i = 0; i < kNarrowPixels; ++i) // absent ones repeat the last and are not written
        from[i] = (const float *)pixels.input + pixels.in[first + least(i, count - 1)];
      const bool neighbours = count == kNarrowPixels && v.c.kernel_w == 3 && v.c.stride == 1 &&
                              from[count - 1] - from[0] == (count - 1) * (int64_t)v.c.pixel_stride;
      if (neighbours)
        add_narrow_row<N>(v, tile, from[0], piece, sums[g]);
      else
        add_narrow<N>(v, tile, from, piece, sums[g]);
    }
  }

  const bool resumes = channels.begin > 0, ends = channels.end == v.in_channels;
  const f32x16 bias = v.bias ? load_some(v.bias + output, N) : zero();
  alignas(64) float totals[kNarrowPixels * N + 16] = {};
  for (int32_t i = 0; i < pixels.count; ++i) {
    if (i % kNarrowPixels == 0) add_lanes<N>(sums[i / kNarrowPixels], totals);
    float *const out = v.out + pixels.out[i] + output;
    f32x16 y = bias;
    if (resumes) {
      y = load_some(out, N);
    } else {
      if (v.vector) y = y + load_some(v.vector + pixels.vector[i] + output, N);
      if (v.residual) y = y + load_some(v.residual + pixels.residual[i] + output, N);
    }
    y = y + load(totals + i % kNarrowPixels * N);
    store_some(out, ends ? activate(y, v.c.act) : y, N);
  }
}

/** Every output of some pixels of the packed tile, its channels from `channels`. */
inline void run_narrow(const Conv &v, const Tile &tile, const Pixels &pixels, Channels channels,
                       const NarrowWeights &weights) {
  for (int32_t output = 0; output < v.c.channels; output += kNarrowPair) {
    const auto run = output + 1 < v.c.channels ? run_narrow_pair<2> : run_narrow_pair<1>;
    run(v, tile, pixels, channels, weights.pair(output), output);
  }
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
