/**
 * @file
 * A 3x3 convolution that reads through a nearest upsampling by two, as four 2x2 convolutions of the
 * stored image. A phase is the outputs whose first tap falls on an odd or an even logical row, and
 * the same of columns: under an odd position lies the end of one stored pixel, then both halves of
 * the next; under an even one both halves come first. The taps that share a pixel are one weight
 * (PackForm panelPhases), and each phase is multiplied as any convolution is: its sums depend on
 * the layer alone, wherever a slice or a tile begins.
 */
#pragma once

#include "cpu/kernels/conv_input.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {

/** The convolution of the stored image that packs and multiplies; row0 and col0 stay logical. */
inline ConvCommand stored_conv(const ConvCommand &c) {
  ConvCommand stored = c;
  if (!c.phases) return stored;
  stored.kernel_h = stored.kernel_w = 2;
  stored.in_rows = c.phys_rows;
  stored.in_cols = c.phys_cols;
  return stored;
}

/** What of the stored image is packed for a tile of outputs, in the coordinates of pack_tile, which
 * adds row0 and col0. */
inline Tile stored_tile(const Conv &v, const Tile &tile) {
  const int32_t row = v.c.row0 + tile.y, col = v.c.col0 + tile.x;
  Tile stored = tile;
  stored.y = (row >> 1) - v.c.row0;
  stored.x = (col >> 1) - v.c.col0;
  // The last of three taps under the last output lies at row + rows - 1 + 2.
  stored.in_rows = ((row + tile.rows + 1) >> 1) - (row >> 1) + 1;
  stored.in_cols = ((col + tile.cols + 1) >> 1) - (col >> 1) + 1;
  return stored;
}

/** Outputs of a tile that are of one phase: every second row and column from the first on. */
struct Phase {
  int32_t y, x, rows, cols;
  const char *weight;
};

/** Phases in the order of the packed weights: bit 1 for an even row under the first tap, bit 0 for
 * an even column. */
inline Phase phase_at(const Conv &v, const Tile &tile, int32_t index) {
  const int32_t even_row = index >> 1, even_col = index & 1;
  Phase p;
  p.y = ((v.c.row0 + tile.y) & 1) == even_row;
  p.x = ((v.c.col0 + tile.x) & 1) == even_col;
  p.rows = (tile.rows - p.y + 1) / 2;
  p.cols = (tile.cols - p.x + 1) / 2;
  const int64_t rows = (int64_t)index * kPhaseTaps * v.in_channels;
  p.weight = v.weight + rows * kPanel * (int64_t)sizeof(float);
  return p;
}

/** As find_pixels, of a phase. */
inline void find_phase_pixels(const Conv &v, const Tile &tile, const Phase &phase, int32_t begin,
                              int32_t end, Pixels &pixels) {
  const ConvCommand &c = v.c;
  const Tile stored = stored_tile(v, tile);
  const int32_t row0 = c.row0 + tile.y, col0 = c.col0 + tile.x;
  int32_t x = begin % phase.cols, y = begin / phase.cols % phase.rows;
  int32_t f = begin / phase.cols / phase.rows;
  pixels.input = v.packed;
  divide_pixels(pixels, end - begin);
  for (int32_t i = 0; i < pixels.count; ++i) {
    const int32_t row = phase.y + 2 * y, col = phase.x + 2 * x;
    const int64_t line = (int64_t)f * stored.in_rows + ((row0 + row) >> 1) - (row0 >> 1);
    pixels.in[i] = (line * stored.in_cols + ((col0 + col) >> 1) - (col0 >> 1)) * c.pixel_stride;
    pixels.out[i] = element(c.out, tile.frame + f, tile.y + row, tile.x + col);
    pixels.residual[i] = element(c.residual, tile.frame + f, tile.y + row, tile.x + col);
    pixels.vector[i] = (tile.frame + f) * (int64_t)c.vector.stride_f;
    if (++x == phase.cols && (x = 0, ++y == phase.rows)) y = 0, ++f;
  }
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
