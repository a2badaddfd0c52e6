/**
 * @file
 * Convolution and matrix product of compute capability 9.0: one group of warps has TMA bring boxes
 * of the input and panels of the weights into a ring of stages, two groups multiply them by wgmma.
 *
 * The rows of a tile are a box of output pixels: for each tap TMA brings the same box of the input,
 * shifted, and zeros for what lies outside: the padding. A block of the depth is 64 channels of one
 * source under one tap; where a source's channels are no multiple of 64 the rest is zeros, whatever
 * weights they meet. Where the source is read through an upsampling to twice its size the pixels of
 * a box are every other one of the output, which read neighbours of the source.
 *
 * Sums of an output element run over taps, sources and channels in ascending blocks of 16, each one
 * product of the tensor cores. Neither the box, nor the tile's width, nor the rows that a slice has
 * change that order, and whether this kernel is taken at all follows from the layer (see
 * conv_wgmma_run.hpp): no slice changes a bit.
 */
#pragma once

#include "kernels/conv_problem.hpp"
#include "ptx_hopper.hpp"

namespace sluice::cuda {

constexpr int32_t kBoxChannels = 64; ///< 128 bytes, the width of the swizzle

/** Where tiles lie and what a block of the depth is. */
struct BoxPlan {
  int32_t cols, rows, frames;       ///< of the output, dimensions without gaps as one
  int32_t log_cols, log_rows;       ///< of a tile's box; its frames are what is left
  int32_t tiles_x, tiles_y;         ///< boxes across a frame's columns and rows
  int32_t tiles_down, tiles_across; ///< of the matrix product
  int32_t log_up;                   ///< 1: read through an upsampling to twice the size; else 0
  int32_t source_channels[2];       ///< 0: absent
  int32_t taps;
};

/** Rows 128 or 256: each of the groups that multiply has half of them, as products of 64. */
template <class T_, int kRows_, int kColumns_>
struct BoxTile {
  using T = T_;
  static constexpr int32_t kRows = kRows_, kColumns = kColumns_;
  static constexpr int32_t kGroups = 2;                      ///< that multiply
  static constexpr int32_t kProducts = kRows / 64 / kGroups; ///< of a group, one below another
  static constexpr int32_t kSums = kColumns / 2;             ///< of a thread in each of them
  static constexpr int32_t kWarps = kGroups * kGroupThreads / 32;
  static constexpr int32_t kThreads = (kGroups + 1) * kGroupThreads;
  static constexpr int32_t kInputElements = kRows * kBoxChannels;
  static constexpr int32_t kStageElements = kInputElements + kBoxChannels * kColumns;
  static constexpr int32_t kStageBytes = kStageElements * 2;
  static constexpr int32_t kMostShared = 227 * 1024;
  static constexpr int32_t kFit = (kMostShared - 1024) / kStageBytes;
  static constexpr int32_t kStages = kFit < 6 ? kFit : 6;
  static constexpr int32_t kRingBytes = kStages * kStageBytes;
  static constexpr int32_t kSharedBytes = kRingBytes + 2 * kStages * 8;
  /** Floats between rows of a warp's sums: eight lanes of a store meet no bank twice. */
  static constexpr int32_t kStagingStride = kColumns + 8;
  static constexpr int32_t kStagingBytes = 16 * kStagingStride * 4;
  static_assert(kStageBytes % 1024 == 0, "the pattern of the swizzle begins at every stage");
  static_assert(kStagingBytes * kWarps <= kRingBytes, "sums leave through the ring");
  // 384 threads begin with 168 registers each; what the first group gives, the others take.
  static constexpr int32_t kFewRegisters = 40, kManyRegisters = 232;
  static_assert((kFewRegisters + kGroups * kManyRegisters) * kGroupThreads <=
                    65536 / kThreads / 8 * 8 * kThreads,
                "no more registers than the block began with");
};

/** A stage of the ring and the parity of its phase. */
template <class Tile>
struct RingPlace {
  int32_t stage = 0;
  uint32_t parity = 0;

  SLUICE_DEVICE void advance() {
    if (++stage == Tile::kStages) stage = 0, parity ^= 1;
  }
};

/** The ring, and for each stage a barrier that says it is full and one that says it is empty. */
template <class Tile>
struct Ring {
  using T = typename Tile::T;
  Shared<T> elements;
  ptx::Barriers barriers;

  SLUICE_DEVICE Shared<T> input(int32_t stage) const {
    return elements + stage * Tile::kStageElements;
  }
  SLUICE_DEVICE Shared<T> weights(int32_t stage) const {
    return elements + (stage * Tile::kStageElements + Tile::kInputElements);
  }
  SLUICE_DEVICE static int32_t full(int32_t stage) { return stage; }
  SLUICE_DEVICE static int32_t empty(int32_t stage) { return Tile::kStages + stage; }
};

/** A tile's place: its box, and its columns of the weights. */
struct BoxPlace {
  int32_t col, row, frame; ///< of the box's first pixel, in steps of 1 << log_up
  int32_t right, below;    ///< of that step, which pixels
  int32_t column;
};

template <class Tile>
SLUICE_DEVICE BoxPlace box_place(const BoxPlan &plan) {
  // Blocks go down eight rows of tiles before they go across, so that inputs stay in the cache.
  constexpr int32_t kDown = 8;
  const int32_t strip = int32_t(blockIdx.x) / (kDown * plan.tiles_across) * kDown;
  const int32_t height = plan.tiles_down - strip < kDown ? plan.tiles_down - strip : kDown;
  const int32_t within = int32_t(blockIdx.x) - strip * plan.tiles_across;
  const int32_t down = strip + within % height, up = plan.log_up;
  const int32_t box = down >> (2 * up), line = box / plan.tiles_x, layer = line / plan.tiles_y;
  const int32_t box_frames = Tile::kRows >> (plan.log_cols + plan.log_rows);
  return {(box - line * plan.tiles_x) << plan.log_cols,
          (line - layer * plan.tiles_y) << plan.log_rows,
          layer * box_frames,
          down & up,
          down >> up & up,
          within / height * Tile::kColumns};
}

/** One thread's work: fills stages as they become empty. */
template <class Tile>
SLUICE_DEVICE void fill_ring(const ConvProblem &p, const BoxPlan &plan, const BoxPlace &place,
                             const Ring<Tile> &ring, const TensorMap &first,
                             const TensorMap &second, const TensorMap &weights) {
  RingPlace<Tile> at;
  const int32_t x = place.col * p.stride - p.src_col0, y = place.row * p.stride - p.src_row0;
  const auto fill = [&](const TensorMap &source, int32_t channel, int32_t tap, int32_t k) {
    const int32_t full = ring.full(at.stage);
    ptx::barrier_wait(ring.barriers, ring.empty(at.stage), at.parity ^ 1);
    ptx::barrier_expect(ring.barriers, full, Tile::kStageBytes);
    const int32_t tap_row = tap / p.kernel_w, tap_col = tap - tap_row * p.kernel_w;
    const int32_t right = (place.right + tap_col + p.col0) >> plan.log_up;
    const int32_t down = (place.below + tap_row + p.row0) >> plan.log_up;
    ptx::load_box(ring.input(at.stage), 0, source, channel, x + right, y + down, place.frame,
                  ring.barriers, full);
    ptx::load_box(ring.weights(at.stage), 0, weights, 0, k, place.column / kPanel, ring.barriers,
                  full);
    at.advance();
  };
  for (int32_t tap = 0; tap < plan.taps; ++tap) {
    const int32_t k = tap * p.in_channels;
    for (int32_t c = 0; c < plan.source_channels[0]; c += kBoxChannels) fill(first, c, tap, k + c);
    for (int32_t c = 0; c < plan.source_channels[1]; c += kBoxChannels)
      fill(second, c, tap, k + plan.source_channels[0] + c);
  }
}

/** A group's half of the sums; a stage is given back once the products that read it have ended. */
template <class Tile>
SLUICE_DEVICE void sum_ring(const Ring<Tile> &ring, int32_t blocks, int32_t group,
                            float (&sums)[Tile::kProducts][Tile::kSums]) {
  using T = typename Tile::T;
  constexpr uint64_t kInputForm = ptx::matrix_form(ptx::Swizzle::bytes_128, 16, 1024);
  constexpr uint64_t kWeightForm =
      ptx::matrix_form(ptx::Swizzle::bytes_32, kBoxChannels * kPanel * 2, 256);
  const bool speaks = threadIdx.x % 32 == 0;
  RingPlace<Tile> at;
  int32_t before = 0;
  for (int32_t block = 0; block < blocks; ++block) {
    ptx::barrier_wait(ring.barriers, ring.full(at.stage), at.parity);
    const Shared<T> input = ring.input(at.stage) + group * Tile::kProducts * 64 * kBoxChannels;
    const Shared<T> weights = ring.weights(at.stage);
    ptx::product_fence();
#pragma unroll
    for (int32_t k = 0; k < kBoxChannels; k += 16)
#pragma unroll
      for (int32_t i = 0; i < Tile::kProducts; ++i)
        ptx::product_add<T, Tile::kColumns>(
            sums[i], ptx::matrix_at(kInputForm, input, i * 64 * kBoxChannels + k),
            ptx::matrix_at(kWeightForm, weights, k * kPanel));
    ptx::product_commit();
    ptx::product_wait<1>(); // the block before
    if (block > 0 && speaks) ptx::barrier_arrive(ring.barriers, ring.empty(before));
    before = at.stage;
    at.advance();
  }
  ptx::product_wait<0>();
#pragma unroll
  for (int32_t i = 0; i < Tile::kProducts; ++i) ptx::product_end(sums[i]);
}

/** Sixteen rows of a warp, from `first` of the tile on, leave through shared memory, where a lane
 * finds eight columns of a pixel together. */
template <class Tile>
SLUICE_DEVICE void finish_rows(const ConvProblem &p, const BoxPlan &plan, const BoxPlace &place,
                               Shared<float> staging, int32_t first,
                               const float (&sums)[Tile::kSums], bool wide) {
  constexpr int32_t kStride = Tile::kStagingStride, kChunks = Tile::kColumns / 8;
  const int32_t lane = int32_t(threadIdx.x) % 32;
#pragma unroll
  for (int32_t j = 0; j < kChunks; ++j) {
    const int32_t at = lane / 4 * kStride + 8 * j + lane % 4 * 2;
    staging.store_as<Floats2>(at, {sums[4 * j], sums[4 * j + 1]});
    staging.store_as<Floats2>(at + 8 * kStride, {sums[4 * j + 2], sums[4 * j + 3]});
  }
  warp_sync();
  // With pairs every other panel holds gates: half as many chunks.
  const int32_t chunks = p.pairs() ? kChunks / 2 : kChunks;
#pragma unroll 1
  for (int32_t i = lane; i < 16 * chunks; i += 32) {
    const int32_t row = i / chunks, chunk = i - row * chunks;
    const int32_t column = p.pairs() ? chunk / 2 * 2 * kPanel + chunk % 2 * 8 : chunk * 8;
    const int32_t within = first + row;
    const int32_t across = place.col + (within & ((1 << plan.log_cols) - 1));
    const int32_t down = place.row + (within >> plan.log_cols & ((1 << plan.log_rows) - 1));
    const int32_t pixel_col = (across << plan.log_up) + place.right;
    const int32_t pixel_row = (down << plan.log_up) + place.below;
    const int32_t frame = place.frame + (within >> (plan.log_cols + plan.log_rows));
    if (pixel_col >= plan.cols || pixel_row >= plan.rows || frame >= plan.frames) continue;
    float x[8], gate[8] = {};
    read_staged(staging, row * kStride + column, x);
    if (p.pairs()) read_staged(staging, row * kStride + column + kPanel, gate);
    conv_finish(p, (frame * plan.rows + pixel_row) * plan.cols + pixel_col, place.column + column,
                x, gate, wide);
  }
}

template <class Tile>
SLUICE_KERNEL(Tile::kThreads, 1)
conv_wgmma(const ConvProblem p, const BoxPlan plan, int32_t blocks, bool wide, SLUICE_MAP first,
           SLUICE_MAP second, SLUICE_MAP weights) {
  using T = typename Tile::T;
  const Ring<Tile> ring{dynamic_shared<T>(0, Tile::kStages * Tile::kStageElements),
                        dynamic_shared<uint64_t>(Tile::kRingBytes, 2 * Tile::kStages)};
  const BoxPlace place = box_place<Tile>(plan);
  if (threadIdx.x == 0) {
    for (int32_t stage = 0; stage < Tile::kStages; ++stage) {
      ptx::barrier_init(ring.barriers, ring.full(stage), 1);
      ptx::barrier_init(ring.barriers, ring.empty(stage), Tile::kWarps);
    }
    ptx::async_fence();
  }
  block_sync();

  const int32_t group = int32_t(threadIdx.x) / kGroupThreads - 1;
  if (group < 0) {
    ptx::give_registers<Tile::kFewRegisters>();
    if (threadIdx.x == 0) fill_ring<Tile>(p, plan, place, ring, first, second, weights);
  } else {
    ptx::take_registers<Tile::kManyRegisters>();
    float sums[Tile::kProducts][Tile::kSums] = {};
    sum_ring<Tile>(ring, blocks, group, sums);
    ptx::group_sync(1, Tile::kGroups * kGroupThreads); // nobody reads the ring any more
    const int32_t warp = int32_t(threadIdx.x) / 32 - kGroupThreads / 32;
    const Shared<float> staging =
        dynamic_shared<float>(warp * Tile::kStagingBytes, 16 * Tile::kStagingStride);
#pragma unroll
    for (int32_t i = 0; i < Tile::kProducts; ++i) {
      if (i > 0) warp_sync();
      finish_rows<Tile>(p, plan, place, staging, (group * Tile::kProducts + i) * 64 + warp % 4 * 16,
                        sums[i], wide);
    }
  }
}

} // namespace sluice::cuda
