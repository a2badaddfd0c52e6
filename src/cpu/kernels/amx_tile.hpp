/**
 * @file
 * The inner loop of convolutions in AMX: up to sixteen pixels times up to four panels of sixteen
 * outputs, 32 k at a time. Four sums hide the latency of a product (52 cycles, one may begin every
 * 16), and a tile of pixels, which comes from the second cache, is read once for four of weights,
 * which come from the first. Two of pixels by two of weights would read twice as much of the
 * second cache.
 *
 * K is cut into blocks of 32 from where the caller's range begins, the last filled up with zeros.
 */
#pragma once

#include "cpu/kernels/amx_model.hpp"
#include "cpu/kernels/register_tile.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {

constexpr int32_t kAmxRows = kMostTileRows, kAmxPanels = 4;
constexpr int32_t kAmxBlock = 32; // of K: what a row of a tile holds
/** Of a panel's K that stay in the first cache while pixels go by: 32 KiB for four, of 48. */
constexpr int32_t kAmxPieceRows = 256;

/** Tiles of `rows` pixels: sums in 0 to 3, pixels in 4, weights in 5 to 7. */
inline TileConfig amx_config(int32_t rows) {
  TileConfig config;
  for (int32_t t = 0; t < kTiles; ++t) {
    config.row_bytes[t] = kMostRowBytes;
    config.rows[t] = t < 5 ? (uint8_t)rows : kAmxBlock / 2;
  }
  return config;
}

/** Rows of a tile: its operands, and where its sums come from and go to. Strides in bytes. */
struct AmxJob {
  const bf16 *rows[kAmxRows];
  int32_t count;
  int64_t row_stride; ///< between the rows, where they are evenly spaced; else negative
  const float *from;
  int64_t from_stride;
  float *to;
  int64_t to_stride;
};

/** Where a walk has come to. */
struct AmxPosition {
  int64_t line, run, position;

  void advance(const Walk &walk, int64_t n) {
    position += n;
    if (position < walk.length) return;
    position = 0;
    if (++run == walk.runs_per_line) run = 0, ++line;
  }
  int64_t offset(const Walk &walk) const {
    return line * walk.line_stride + run * walk.run_stride + position;
  }
};

/** The next n <= 32 k of every row, side by side and filled up with zeros. */
inline void gather_block(const AmxJob &job, const Walk &walk, AmxPosition &at, int64_t n,
                         bf16 (*to)[kAmxBlock]) {
  for (int64_t done = 0; done < n;) {
    const int64_t part = least(walk.length - at.position, n - done), offset = at.offset(walk);
    for (int32_t i = 0; i < job.count; ++i) {
      const bf16 *from = job.rows[i] + offset;
      if (part == kAmxBlock)
        __builtin_memcpy(to[i], from, kMostRowBytes);
      else
        __builtin_memcpy(to[i] + done, from, part * sizeof(bf16));
    }
    done += part;
    at.advance(walk, part);
  }
  if (n == kAmxBlock) return;
  for (int32_t i = 0; i < job.count; ++i)
    __builtin_memset(to[i] + n, 0, (kAmxBlock - n) * sizeof(bf16));
}

/** panels: pairs of k as pair_rows leaves them, panel_stride elements apart; `column`: their first
 * in `from` and `to`. */
template <class Tiles>
using AmxKernel = void (*)(Tiles &, const AmxJob &, const Walk &, const bf16 *panels,
                           int64_t panel_stride, int64_t column);

template <class Tiles, int NV>
void amx_kernel(Tiles &tiles, const AmxJob &job, const Walk &walk, const bf16 *panels,
                int64_t panel_stride, int64_t column) {
  const float *from = job.from + column;
  tiles.template load<0>(from, job.from_stride);
  if constexpr (NV > 1) tiles.template load<1>(from + 16, job.from_stride);
  if constexpr (NV > 2) tiles.template load<2>(from + 32, job.from_stride);
  if constexpr (NV > 3) tiles.template load<3>(from + 48, job.from_stride);
  // Rows that are not there stay zeros.
  alignas(64) bf16 block[kAmxRows][kAmxBlock] = {};
  AmxPosition at = {walk.line, walk.run, walk.position};
  for (int64_t left = walk.count; left > 0; left -= kAmxBlock) {
    if (job.row_stride >= 0 && left >= kAmxBlock && walk.length - at.position >= kAmxBlock) {
      tiles.template load<4>(job.rows[0] + at.offset(walk), job.row_stride);
      at.advance(walk, kAmxBlock);
    } else {
      gather_block(job, walk, at, least(left, (int64_t)kAmxBlock), block);
      tiles.template load<4>(block, kMostRowBytes);
    }
    tiles.template load<5>(panels, kMostRowBytes);
    tiles.template products<0, 4, 5>();
    if constexpr (NV > 1) {
      tiles.template load<6>(panels + panel_stride, kMostRowBytes);
      tiles.template products<1, 4, 6>();
    }
    if constexpr (NV > 2) {
      tiles.template load<7>(panels + 2 * panel_stride, kMostRowBytes);
      tiles.template products<2, 4, 7>();
    }
    if constexpr (NV > 3) {
      tiles.template load<5>(panels + 3 * panel_stride, kMostRowBytes);
      tiles.template products<3, 4, 5>();
    }
    panels += kAmxBlock * kPanel;
  }
  float *to = job.to + column;
  tiles.template store<0>(to, job.to_stride);
  if constexpr (NV > 1) tiles.template store<1>(to + 16, job.to_stride);
  if constexpr (NV > 2) tiles.template store<2>(to + 32, job.to_stride);
  if constexpr (NV > 3) tiles.template store<3>(to + 48, job.to_stride);
}

template <class Tiles>
inline AmxKernel<Tiles> amx_kernel_for(int32_t panels) {
  static constexpr AmxKernel<Tiles> kKernels[kAmxPanels] = {
      amx_kernel<Tiles, 1>, amx_kernel<Tiles, 2>, amx_kernel<Tiles, 3>, amx_kernel<Tiles, 4>};
  return kKernels[panels - 1];
}

/** pair_rows in plain code, where there may be no AVX512_BF16. */
template <class W>
void pair_rows_plainly(const W *rows, int64_t panel_stride, int32_t panels, int64_t count,
                       int64_t room, bf16 *to) {
  for (int32_t p = 0; p < panels; ++p, rows += panel_stride, to += room * kPanel) {
    for (int64_t k = 0; k < count; k += 2) {
      float two[2][kPanel];
      store(two[0], load(rows + k * kPanel));
      store(two[1], load(rows + (k + 1) * kPanel));
      for (int32_t n = 0; n < kPanel; ++n) {
        to[k * kPanel + 2 * n].bits = nearest_bf16(two[0][n]);
        to[k * kPanel + 2 * n + 1].bits = nearest_bf16(two[1][n]);
      }
    }
    __builtin_memset(to + count * kPanel, 0, (room - count) * kPanel * sizeof(bf16));
  }
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
