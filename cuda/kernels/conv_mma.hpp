/**
 * @file
 * Convolution and matrix product on tensor cores: an implicit matrix product whose tiles pass
 * through a ring of stages in shared memory. Sums of an output element run over the depth in
 * ascending blocks of 16, in whatever tile it falls: no slice changes a bit.
 *
 * In shared memory a stage is the input's [kRows][32] and the weights' panels [32][16], in chunks
 * of eight elements whose places are exchanged so that ldmatrix meets no bank twice.
 */
#pragma once

#include "kernels/conv_problem.hpp"
#include "ptx.hpp"

namespace sluice::cuda {

/** How the input reaches shared memory. */
enum class Fill {
  direct,     ///< copied as it is: sources of type T, whole chunks, no prologue
  prologue,   ///< the same through registers, with affine and activation on the way
  elementwise ///< one by one: any types, any number of channels
};

constexpr int kBlockDepth = 32;
constexpr int kChunk = 8; ///< elements of 16 bytes
constexpr int kStages = 3;
constexpr int kWarpColumns = 32; ///< of weights: a pair of panels, as GEGLU wants
constexpr int kStagingStride = kWarpColumns + 8;

template <class T_, int kRows_, int kColumns_, int kWarpRows_, Fill kFill_>
struct ConvTile {
  using T = T_;
  static constexpr int kRows = kRows_, kColumns = kColumns_, kWarpRows = kWarpRows_;
  static constexpr Fill kFill = kFill_;
  static constexpr int kWarpsAcross = kColumns / kWarpColumns;
  static constexpr int kWarps = kRows / kWarpRows * kWarpsAcross;
  static constexpr int kThreads = 32 * kWarps;
  /** Of a multiprocessor: as many as leave registers for this tile's sums. */
  static constexpr int kBlocks = kThreads < 256                             ? 3 + SLUICE_SM_80
                                 : kFill == Fill::prologue || !SLUICE_SM_80 ? 1
                                                                            : 2;
  static constexpr int kInputElements = kRows * kBlockDepth;
  static constexpr int kStageElements = kInputElements + kBlockDepth * kColumns;
  static constexpr int kInputChunks = kInputElements / kChunk / kThreads;
  static constexpr int kWeightChunks = kBlockDepth * kColumns / kChunk;
  static constexpr int kRingBytes = kStages * kStageElements * 2;
  static constexpr int kStagingBytes = kWarps * 16 * kStagingStride * 4;
  static constexpr int kSharedBytes = kRingBytes > kStagingBytes ? kRingBytes : kStagingBytes;
  static_assert(kInputElements % (kChunk * kThreads) == 0, "threads share the input evenly");
};

/** Element of a stage's input where row and chunk lie: two rows fill the 32 banks. */
SLUICE_DEVICE int32_t input_place(int32_t row, int32_t chunk) {
  return row * kBlockDepth + (chunk ^ (row >> 1 & 3)) * kChunk;
}
/** Element of a stage's weights where half a row of a panel lies. */
SLUICE_DEVICE int32_t weight_place(int32_t panel, int32_t k, int32_t half) {
  return (panel * kBlockDepth + k) * kPanel + (half ^ (k >> 2 & 1)) * kChunk;
}

/**
 * This thread's chunks of the input: one place in the depth, every so many rows. Where they are in
 * the sources is worked out anew at each tap and source alone.
 */
template <class Tile>
struct InputCursor {
  using T = typename Tile::T;
  static constexpr int kRowStep = Tile::kThreads * kChunk / kBlockDepth;

  /** An input row far outside: every tap reads zeros. */
  static constexpr int32_t kNowhere = -(1 << 30);

  int32_t first_row; ///< of the tile
  ConvPixel pixels[Tile::kInputChunks];
  int64_t offsets[Tile::kInputChunks]; ///< of channel 0 in the source; -1: zeros
  int32_t row, chunk;                  ///< in the stage
  int32_t k, tap, channel;
  bool second = false; ///< whether the chunk is in the second source
  Words4 raw[Tile::kInputChunks];

  SLUICE_DEVICE void start(const ConvProblem &p, int32_t tile_row) {
    first_row = tile_row;
    row = int32_t(threadIdx.x) / (kBlockDepth / kChunk);
    chunk = int32_t(threadIdx.x) % (kBlockDepth / kChunk);
#pragma unroll
    for (int i = 0; i < Tile::kInputChunks; ++i) {
      const int32_t index = first_row + row + i * kRowStep;
      pixels[i] = conv_pixel(p, index < p.pixels ? index : 0);
      if (index >= p.pixels) pixels[i].in_row = kNowhere;
    }
    k = chunk * kChunk;
    tap = k / p.in_channels;
    channel = k - tap * p.in_channels;
    if constexpr (Tile::kFill != Fill::elementwise) locate(p);
  }

  SLUICE_DEVICE void locate(const ConvProblem &p) {
    second = channel >= p.first_channels;
#pragma unroll
    for (int i = 0; i < Tile::kInputChunks; ++i)
      offsets[i] = k < p.depth ? conv_source(p, p.source[second], pixels[i], tap) : -1;
  }

  SLUICE_DEVICE void advance(const ConvProblem &p) {
    k += kBlockDepth;
    if constexpr (Tile::kFill == Fill::elementwise) return;
    channel += kBlockDepth;
    const bool same_source = second || channel < p.first_channels;
    if (channel < p.in_channels && same_source) return;
    while (channel >= p.in_channels) channel -= p.in_channels, ++tap;
    locate(p);
  }

  /** Begins to bring the chunks of this block of the depth to `stage`. */
  SLUICE_DEVICE void fetch(const ConvProblem &p, Shared<T> stage) {
    if constexpr (Tile::kFill == Fill::elementwise) return;
    const int32_t at = channel - (second ? p.first_channels : 0);
#pragma unroll
    for (int i = 0; i < Tile::kInputChunks; ++i) {
      const int32_t r = row + i * kRowStep;
      if constexpr (Tile::kFill == Fill::direct) {
        ptx::copy_16(stage, input_place(r, chunk),
                     Global<const T>{static_cast<const T *>(p.source[second].data)},
                     offsets[i] + at, k < p.depth && offsets[i] >= 0);
      } else if constexpr (Tile::kFill == Fill::prologue) {
        raw[i] = {0, 0, 0, 0};
        if (k < p.depth && offsets[i] >= 0)
          raw[i] = Global<const T>{static_cast<const T *>(p.source[second].data)}
                       .template load_as<Words4>(offsets[i] + at);
      }
    }
  }

  /** The rest of fetch, once other work has covered the wait. */
  SLUICE_DEVICE void deliver(const ConvProblem &p, Shared<T> stage) {
    if constexpr (Tile::kFill == Fill::prologue) {
#pragma unroll
      for (int i = 0; i < Tile::kInputChunks; ++i) {
        if (k < p.depth && offsets[i] >= 0) raw[i] = prologue(p, raw[i], pixels[i].frame);
        stage.template store_as<Words4>(input_place(row + i * kRowStep, chunk), raw[i]);
      }
    }
    if constexpr (Tile::kFill == Fill::elementwise) {
      // Rare, and long when unrolled: two elements at a time, their pixel worked out anew.
#pragma unroll 1
      for (int32_t i = 0; i < Tile::kInputChunks * kChunk / 2; ++i) {
        const int32_t r = row + i / (kChunk / 2) * kRowStep, j = i % (kChunk / 2) * 2;
        const int32_t index = first_row + r;
        ConvPixel pixel = conv_pixel(p, index < p.pixels ? index : 0);
        if (index >= p.pixels) pixel.in_row = kNowhere;
        stage.template store_as<uint32_t>(
            input_place(r, chunk) + j,
            ptx::pack2<T>(conv_input(p, pixel, k + j), conv_input(p, pixel, k + j + 1)));
      }
    }
  }

  SLUICE_DEVICE Words4 prologue(const ConvProblem &p, const Words4 &from, int32_t frame) const {
    const uint32_t in[4] = {from.x, from.y, from.z, from.w};
    float x[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) x[j] = ptx::widen(T{uint16_t(in[j / 2] >> (16 * (j % 2)))});
    if (p.affine.present()) {
      const Global<const float> scale = conv_scale(p, frame) + channel;
      const Global<const float> shift = scale + p.in_channels;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const Floats4 a = scale.load_as<Floats4>(4 * half), b = shift.load_as<Floats4>(4 * half);
        x[4 * half] = x[4 * half] * a.x + b.x;
        x[4 * half + 1] = x[4 * half + 1] * a.y + b.y;
        x[4 * half + 2] = x[4 * half + 2] * a.z + b.z;
        x[4 * half + 3] = x[4 * half + 3] * a.w + b.w;
      }
    }
    activate8(x, p.prologue_act);
    return {ptx::pack2<T>(x[0], x[1]), ptx::pack2<T>(x[2], x[3]), ptx::pack2<T>(x[4], x[5]),
            ptx::pack2<T>(x[6], x[7])};
  }
};

/** Brings a block of the weights to `stage`: k0 is its first row of the depth. */
template <class Tile>
SLUICE_DEVICE void fetch_weights(const ConvProblem &p, Shared<typename Tile::T> stage,
                                 int32_t first_panel, int32_t k0, bool converts) {
  using T = typename Tile::T;
  const Global<const T> weight{static_cast<const T *>(p.weight.data)};
#pragma unroll
  for (int32_t i = int32_t(threadIdx.x); i < Tile::kWeightChunks; i += Tile::kThreads) {
    const int32_t panel = i / (2 * kBlockDepth), k = i / 2 % kBlockDepth, half = i % 2;
    const bool inside = first_panel + panel < p.panels && k0 + k < p.depth;
    const int32_t to = weight_place(panel, k, half);
    const int64_t from = (int64_t(first_panel + panel) * p.depth + k0 + k) * kPanel + half * kChunk;
    if (!converts) {
      ptx::copy_16(stage, to, weight, from, inside);
    } else {
      float x[8] = {};
      if (inside) load<8>(p.weight, from, x);
      stage.template store_as<Words4>(to, {ptx::pack2<T>(x[0], x[1]), ptx::pack2<T>(x[2], x[3]),
                                           ptx::pack2<T>(x[4], x[5]), ptx::pack2<T>(x[6], x[7])});
    }
  }
}

template <class Tile>
SLUICE_KERNEL(Tile::kThreads, Tile::kBlocks)
conv_mma(const ConvProblem p, int32_t tiles_down, int32_t tiles_across, bool converts, bool wide) {
  using T = typename Tile::T;
  constexpr int kM = Tile::kWarpRows / 16, kN = kWarpColumns / 8;
  // Blocks go down eight rows of tiles before they go across, so that inputs stay in the cache.
  constexpr int32_t kDown = 8;
  const int32_t strip = int32_t(blockIdx.x) / (kDown * tiles_across) * kDown;
  const int32_t height = tiles_down - strip < kDown ? tiles_down - strip : kDown;
  const int32_t within = int32_t(blockIdx.x) - strip * tiles_across;
  const int32_t first_row = (strip + within % height) * Tile::kRows;
  const int32_t first_column = within / height * Tile::kColumns;

  const int32_t warp = int32_t(threadIdx.x) / 32, lane = int32_t(threadIdx.x) % 32;
  const int32_t warp_row = warp / Tile::kWarpsAcross * Tile::kWarpRows;
  const int32_t warp_column = warp % Tile::kWarpsAcross * kWarpColumns;

  const Shared<T> ring = dynamic_shared<T>(0, kStages * Tile::kStageElements);
  const auto stage_of = [&](int32_t block) {
    return ring + block % kStages * Tile::kStageElements;
  };
  const int32_t blocks = ceil_div(p.depth, kBlockDepth);
  InputCursor<Tile> cursor;
  cursor.start(p, first_row);
  const auto fetch = [&](int32_t block) {
    const Shared<T> stage = stage_of(block);
    cursor.fetch(p, stage);
    fetch_weights<Tile>(p, stage + Tile::kInputElements, first_column / kPanel, block * kBlockDepth,
                        converts);
  };
  const auto deliver = [&](int32_t block) {
    cursor.deliver(p, stage_of(block));
    cursor.advance(p);
  };

  for (int32_t block = 0; block < kStages - 1; ++block) {
    if (block < blocks) {
      fetch(block);
      deliver(block);
    }
    ptx::copy_commit();
  }

  float sums[kM][kN][4] = {};
  for (int32_t block = 0; block < blocks; ++block) {
    ptx::copy_wait<kStages - 2>();
    block_sync();
    const int32_t next = block + kStages - 1;
    if (next < blocks) fetch(next);
    ptx::copy_commit();

    const Shared<T> input = stage_of(block), weights = input + Tile::kInputElements;
#pragma unroll
    for (int32_t kk = 0; kk < kBlockDepth; kk += 16) {
      uint32_t a[kM][4], b[kN][2];
#pragma unroll
      for (int i = 0; i < kM; ++i) {
        const int32_t row = warp_row + 16 * i + lane % 16;
        ptx::load_matrices(a[i], input, input_place(row, kk / kChunk + lane / 16));
      }
#pragma unroll
      for (int j = 0; j < kN; j += 2) {
        uint32_t both[4];
        ptx::load_matrices_transposed(
            both, weights, weight_place(warp_column / kPanel + j / 2, kk + lane % 16, lane / 16));
        b[j][0] = both[0], b[j][1] = both[1], b[j + 1][0] = both[2], b[j + 1][1] = both[3];
      }
      ptx::mma_tile<T>(sums, a, b);
    }
    if (next < blocks) deliver(next);
  }
  block_sync(); // every group with copies was waited for; the ring is free

  // Sixteen rows at a time through this warp's part of shared memory, where a lane finds eight
  // columns of a pixel together.
  const Shared<float> staging =
      dynamic_shared<float>(warp * 16 * kStagingStride * 4, 16 * kStagingStride);
#pragma unroll
  for (int i = 0; i < kM; ++i) {
    if (i > 0) warp_sync();
#pragma unroll
    for (int j = 0; j < kN; ++j) {
      const int32_t at = lane / 4 * kStagingStride + 8 * j + lane % 4 * 2;
      staging.store_as<Floats2>(at, {sums[i][j][0], sums[i][j][1]});
      staging.store_as<Floats2>(at + 8 * kStagingStride, {sums[i][j][2], sums[i][j][3]});
    }
    warp_sync();
    // With pairs two lanes a row, each eight columns and their gates; else four lanes a row.
    const int32_t across = p.pairs() ? 2 : 4, down = 32 / across;
#pragma unroll 1
    for (int32_t from = 0; from < 16; from += down) {
      const int32_t row = from + lane / across, column = lane % across * 8;
      const int32_t index = first_row + warp_row + 16 * i + row;
      if (index >= p.pixels) continue;
      float x[8], gate[8] = {};
      read_staged(staging, row * kStagingStride + column, x);
      if (p.pairs()) read_staged(staging, row * kStagingStride + kPanel + column, gate);
      conv_finish(p, index, first_column + warp_column + column, x, gate, wide);
    }
  }
}

} // namespace sluice::cuda
