/**
 * @file
 * The panels of a convolution in AMX: groups of up to four over tiles of up to sixteen pixels.
 * An element's sum is taken in blocks of 32 k from the start of each run of contiguous weights, so
 * that it depends on the number of input channels and taps alone.
 */
#pragma once

#include "cpu/kernels/amx_tile.hpp"
#include "cpu/kernels/conv_sums.hpp"
#include "cpu/kernels/pair_tile.hpp"
#if defined(SLUICE_AMX)
#include "cpu/kernels/amx.hpp"
#endif

namespace sluice::SLUICE_ISA_NAMESPACE {

/** Pixels in tiles of equal size, of which the last may lack some. */
struct AmxPixels {
  int32_t rows, tiles;
  /** Elements between a tile's pixels, packed and in `out`, where they are evenly spaced and none
   * is lacking; else negative. */
  int64_t in[kMostPixels / kAmxRows], out[kMostPixels / kAmxRows];

  explicit AmxPixels(const Pixels &pixels);
};

/** The distance of elements [begin, end), where it is the same for all. */
inline int64_t spacing(const int64_t *at, int32_t begin, int32_t end) {
  if (end - begin < 2) return 0;
  const int64_t distance = at[begin + 1] - at[begin];
  for (int32_t i = begin + 2; i < end; ++i) {
    if (at[i] - at[i - 1] != distance) return -1;
  }
  return distance < 0 ? -1 : distance;
}

inline AmxPixels::AmxPixels(const Pixels &pixels) {
  tiles = ceil_div(pixels.count, kAmxRows);
  rows = ceil_div(pixels.count, tiles);
  for (int32_t t = 0; t < tiles; ++t) {
    const int32_t begin = t * rows, end = begin + rows;
    const bool whole = end <= pixels.count;
    in[t] = whole ? spacing(pixels.in, begin, end) : -1;
    out[t] = whole ? spacing(pixels.out, begin, end) : -1;
  }
}

template <class Tiles, class W>
inline void pair_rows_for(const W *rows, int64_t panel_stride, int32_t panels, int64_t count,
                          int64_t room, bf16 *to) {
  if constexpr (Tiles::kHardware)
    pair_rows(rows, panel_stride, panels, count, room, to);
  else
    pair_rows_plainly(rows, panel_stride, panels, count, room, to);
}

/** Panels [first, last) over the packed channels of some pixels. Returns false where the tiles saw
 * an error. */
template <class Tiles, class W>
bool run_amx(const Conv &v, const Tile &tile, const Pixels &pixels, Channels channels,
             int32_t first, int32_t last) {
  constexpr int64_t kFloat = sizeof(float);
  const ConvCommand &c = v.c;
  const int32_t width = v.geglu ? 2 : 1; // panels of weights to one of the output
  const int32_t groups = ceil_div(last - first, kAmxPanels);
  const int64_t depth = (int64_t)c.kernel_h * c.kernel_w * (channels.end - channels.begin);
  const int64_t weight_stride = v.k_total * kPanel;
  const AmxPixels tiled(pixels);
  const int32_t room = tiled.tiles * tiled.rows;

  Tiles tiles(amx_config(tiled.rows));
  alignas(64) float sums[(kMostPixels + 2 * kAmxRows) * kAmxPanels * kPanel];
  alignas(64) bf16 pairs[kAmxPanels * kAmxPieceRows * kPanel];
  alignas(64) float start[kAmxPanels * kPanel];
  Walk walk = walk_of(v, tile, channels);
  for (int32_t i = 0; i < groups; ++i) {
    const Group g = group_at(v, channels, first, last, groups, i);
    const int64_t sums_stride = (int64_t)g.panels * width * kPanel;
    if (g.from_bias) {
      begin_from_bias(v, g, start);
    } else {
      begin_pixels(v, g, pixels, sums, sums_stride);
    }
    // Sums of the pixels that the last tile lacks.
    __builtin_memset(sums + pixels.count * sums_stride, 0,
                     (room - pixels.count) * sums_stride * kFloat);
    for (int32_t part = 0; part < width; ++part) {
      const int32_t panel = g.first * width + part * g.panels;
      for (int64_t k = 0; k < depth;) {
        const Piece piece = piece_at(v, channels, k, kAmxPieceRows, kAmxBlock);
        start_walk(walk, k, piece.count);
        const bool begins = part == 0 && k == 0;
        const bool finishes = part + 1 == width && k + piece.count == depth;
        k += piece.count;
        const int64_t padded = ceil_div(piece.count, (int64_t)kAmxBlock) * kAmxBlock;
        pair_rows_for<Tiles>(piece_of<W>(v, panel, piece), weight_stride, g.panels, piece.count,
                             padded, pairs);
        const int64_t after = k < depth ? k : 0;
        const W *next = piece_of<W>(v, panel + (after ? 0 : g.panels),
                                    piece_at(v, channels, after, kAmxPieceRows, kAmxBlock));
        const int64_t fetched = ceil_div(piece.count, (int64_t)2 * tiled.tiles) * 2 * kPanel;
        for (int32_t t = 0; t < tiled.tiles; ++t) {
          const int32_t begin = t * tiled.rows, end = least(begin + tiled.rows, pixels.count);
          if (finishes) fetch_pixels(v, g, pixels, begin, end);
          fetch_rows(next, weight_stride, g.panels, t * fetched,
                     least((t + 1) * fetched, piece.count * kPanel));
          AmxJob job;
          job.count = end - begin;
          for (int32_t r = begin; r < end; ++r)
            job.rows[r - begin] = (const bf16 *)pixels.input + pixels.in[r];
          job.row_stride = tiled.in[t] * (int64_t)sizeof(bf16);
          float *const own = sums + begin * sums_stride;
          const bool straight = finishes && g.to_out && tiled.out[t] >= 0;
          job.from = begins && g.from_bias ? start : own;
          job.from_stride = begins && g.from_bias ? 0 : sums_stride * kFloat;
          job.to = straight ? v.out + pixels.out[begin] + g.first * kPanel : own;
          job.to_stride = (straight ? tiled.out[t] : sums_stride) * kFloat;
          amx_kernel_for<Tiles>(g.panels)(tiles, job, walk, pairs, padded * kPanel,
                                          part * g.panels * kPanel);
          if (finishes && !straight) finish_pixels(v, g, pixels, begin, end, sums, sums_stride);
        }
      }
    }
  }
  return !tiles.error();
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
