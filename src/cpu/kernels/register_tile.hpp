/**
 * @file
 * The one inner loop behind convolution, linear and attention: a few rows times a few panels of 16
 * columns, held in registers.
 *
 *   to[i][16 j + lane] = (from_zero ? 0 : from[i][16 j + lane]) + sum_k rows[i][offset(k)] *
 * panels[j][k][lane]
 *
 * k ascending, one fused multiply-add each, so a result does not depend on the rows and panels that
 * share its tile, nor on where the caller cuts K.
 */
#pragma once

#include "cpu/kernels/support.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {

/**
 * A range of K as runs of contiguous floats of a row: runs of `length`, `runs_per_line` of them
 * `run_stride` apart, lines `line_stride` apart. The range starts at (line, run, position), `first`
 * elements into the row, and has `count` elements.
 */
struct Walk {
  int64_t length, run_stride, runs_per_line, line_stride;
  int64_t line, run, position, first, count;
};

inline Walk straight_walk(int64_t count) { return {count, 0, 1, 0, 0, 0, 0, 0, count}; }

inline void start_walk(Walk &walk, int64_t k, int64_t count) {
  const int64_t run = k / walk.length;
  walk.position = k % walk.length;
  walk.line = run / walk.runs_per_line;
  walk.run = run % walk.runs_per_line;
  walk.first = walk.line * walk.line_stride + walk.run * walk.run_stride + walk.position;
  walk.count = count;
}

/** Rows of a register tile: its operands, and where its sums come from and go to, each in elements
 * from a base. */
struct TileJob {
  const void *rows; ///< float, or bf16 in pairs
  const int64_t *row_at;
  const float *from; ///< first sums of each row, where not from_zero
  const int64_t *from_at;
  float *to;
  const int64_t *to_at;
  bool from_zero;

  /** Sums in one block of memory, their rows at `at`. */
  void set_sums(float *sums, const int64_t *at) {
    from = to = sums;
    from_at = to_at = at;
  }
};

/** Where rows `stride` apart begin. */
struct EvenRows {
  int64_t at[kTileRows];

  explicit EvenRows(int64_t stride) {
    for (int32_t i = 0; i < kTileRows; ++i) at[i] = i * stride;
  }
};

/** panels: at the first k of the range, panel_stride elements apart; their first column is `column`
 * of `from` and `to`. */
using TileKernel = void (*)(const TileJob &, const Walk &, const void *panels, int64_t panel_stride,
                            int64_t column);

/** @tparam kStep elements from one k to the next within a panel */
template <int MR, int NV, class W, int kStep = kPanel>
void tile_kernel(const TileJob &job, const Walk &walk, const void *first_panel,
                 int64_t panel_stride, int64_t column) {
  f32x16 acc[MR][NV];
  const float *rows[MR];
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
    rows[i] = (const float *)job.rows + job.row_at[i];
    const float *from = job.from + job.from_at[i] + column;
#pragma GCC unroll 3
    for (int j = 0; j < NV; ++j) acc[i][j] = job.from_zero ? zero() : load(from + 16 * j);
  }
  const W *panels = (const W *)first_panel;
  int64_t line = walk.line, run = walk.run, first = walk.first, left = walk.count;
  int64_t last = first + least(walk.length - walk.position, left);
  while (true) {
#pragma GCC unroll 2
    for (int64_t k = first; k < last; ++k) {
      f32x16 w[NV];
#pragma GCC unroll 3
      for (int j = 0; j < NV; ++j) w[j] = load(panels + j * panel_stride);
#pragma GCC unroll 8
      for (int i = 0; i < MR; ++i) {
        const f32x16 a = splat(rows[i][k]);
#pragma GCC unroll 3
        for (int j = 0; j < NV; ++j) acc[i][j] = fma(a, w[j], acc[i][j]);
      }
      panels += kStep;
    }
    left -= last - first;
    if (left <= 0) break;
    if (++run == walk.runs_per_line) run = 0, ++line;
    first = line * walk.line_stride + run * walk.run_stride;
    last = first + least(walk.length, left);
  }
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
    float *to = job.to + job.to_at[i] + column;
#pragma GCC unroll 3
    for (int j = 0; j < NV; ++j) store(to + 16 * j, acc[i][j]);
  }
}

#define SLUICE_TILE(mr, nv) \
  if (rows == mr && panels == nv) return tile_kernel<mr, nv, W, kStep>;
#if defined(__AVX512F__)
#define SLUICE_TILES(mr) SLUICE_TILE(mr, 1) SLUICE_TILE(mr, 2) SLUICE_TILE(mr, 3)
#else
#define SLUICE_TILES(mr) SLUICE_TILE(mr, 1)
#endif
template <class W, int kStep = kPanel>
inline TileKernel tile_kernel_for(int32_t rows, int32_t panels) {
  SLUICE_TILES(1)
  SLUICE_TILES(2)
  if constexpr (kTileRows >= 4) {
    SLUICE_TILES(3)
    SLUICE_TILES(4)
  }
  if constexpr (kTileRows >= 6) {
    SLUICE_TILES(5)
    SLUICE_TILES(6)
  }
  if constexpr (kTileRows >= 8) {
    SLUICE_TILES(7)
    SLUICE_TILES(8)
  }
  return nullptr;
}
#undef SLUICE_TILES
#undef SLUICE_TILE

/** `rows` rows (at most kTileRows, set in job) times `panels` panels, in register tiles of panels
 * of nearly equal width. */
template <class W>
inline void multiply_rows(const TileJob &job, const Walk &walk, int32_t rows, int32_t panels,
                          const W *first, int64_t panel_stride) {
  const int32_t parts = ceil_div(panels, kTilePanels);
  for (int32_t i = 0; i < parts; ++i) {
    const int32_t begin = part_begin(panels, parts, i), end = part_begin(panels, parts, i + 1);
    tile_kernel_for<W>(rows, end - begin)(job, walk, first + begin * panel_stride, panel_stride,
                                          16 * begin);
  }
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
