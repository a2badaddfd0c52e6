/**
 * @file
 * What every way of computing a convolution's sums shares: where they begin and go to, and how K
 * is cut into pieces.
 */
#pragma once

#include "cpu/kernels/conv_input.hpp"
#include "cpu/kernels/register_tile.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {

/** A group of panels over pixels of the packed tile. */
struct Group {
  int32_t first, panels; ///< of the output; with pairs each has two panels of weights
  bool resumes, ends; ///< whether earlier channels are in `out` already; whether these are the last
  /** Whole panels go straight from the bias to registers and from there to the output, where
   * nothing else is done to them. */
  bool from_bias, to_out;
};

/** Group i of so many of panels [first, last), over these input channels. */
inline Group group_at(const Conv &v, Channels channels, int32_t first, int32_t last, int32_t groups,
                      int32_t i) {
  Group g;
  g.first = first + part_begin(last - first, groups, i);
  g.panels = first + part_begin(last - first, groups, i + 1) - g.first;
  g.resumes = channels.begin > 0;
  g.ends = channels.end == v.in_channels;
  const bool whole = !v.geglu && (g.first + g.panels) * kPanel <= v.c.channels;
  g.from_bias = whole && !g.resumes && !v.vector && !v.residual;
  g.to_out = whole && (!g.ends || v.c.act == Act::none);
  return g;
}

/** What every pixel's sums start from, where that is the bias. */
inline void begin_from_bias(const Conv &v, const Group &g, float *start) {
  for (int32_t x = 0; x < g.panels * kPanel; x += kPanel)
    store(start + x, v.bias ? load(v.bias + g.first * kPanel + x) : zero());
}

inline int32_t lanes_of(const Conv &v, int32_t panel) {
  return least(v.c.channels - panel * kPanel, kPanel);
}

/**
 * What the sums of all pixels start from: what `out` holds of earlier channels, unrounded,
 * or bias, vector and residual (with pairs, the bias is padded and there is nothing else).
 */
inline void begin_pixels(const Conv &v, const Group &g, const Pixels &pixels, float *sums,
                         int64_t sums_stride) {
  for (int32_t j = 0; j < g.panels; ++j) {
    const int32_t lanes = lanes_of(v, g.first + j), column = (g.first + j) * kPanel;
    if (v.geglu) {
      const f32x16 value = v.bias ? load(v.bias + 2 * column) : zero();
      const f32x16 gate = v.bias ? load(v.bias + 2 * column + kPanel) : zero();
      for (int32_t i = 0; i < pixels.count; ++i) {
        store(sums + i * sums_stride + 32 * j, value);
        store(sums + i * sums_stride + 32 * j + 16, gate);
      }
      continue;
    }
    const f32x16 bias = v.bias && !g.resumes ? load_some(v.bias + column, lanes) : zero();
    for (int32_t i = 0; i < pixels.count; ++i) {
      f32x16 start = bias;
      if (g.resumes) {
        start = load_some(v.out + pixels.out[i] + column, lanes);
      } else {
        if (v.vector) start = start + load_some(v.vector + pixels.vector[i] + column, lanes);
        if (v.residual) start = start + load_some(v.residual + pixels.residual[i] + column, lanes);
      }
      store(sums + i * sums_stride + 16 * j, start);
    }
  }
}

inline void finish_pixels(const Conv &v, const Group &g, const Pixels &pixels, int32_t begin,
                          int32_t end, const float *sums, int64_t sums_stride) {
  const Act act = g.ends ? v.c.act : Act::none;
  for (int32_t j = 0; j < g.panels; ++j) {
    const int32_t lanes = lanes_of(v, g.first + j), column = (g.first + j) * kPanel;
    for (int32_t i = begin; i < end; ++i) {
      const float *s = sums + i * sums_stride;
      const f32x16 y = v.geglu ? load(s + 32 * j) * gelu(load(s + 32 * j + 16))
                               : activate(load(s + 16 * j), act);
      store_some(v.out + pixels.out[i] + column, y, lanes);
    }
  }
}

// Inlined always: a function that does nothing but fetch counts as one without effect, whose calls
// GCC drops.

/** Fetches where the sums of pixels [begin, end) go, with few instructions for a whole group: sums
 * of few k would wait for them. */
SLUICE_INLINE inline void fetch_pixels(const Conv &v, const Group &g, const Pixels &pixels,
                                       int32_t begin, int32_t end) {
  for (int32_t i = begin; i < end; ++i) {
    const float *out = v.out + pixels.out[i] + g.first * kPanel;
    if (g.panels == kTilePanels) {
#pragma GCC unroll 3
      for (int32_t p = 0; p < kTilePanels; ++p) __builtin_prefetch(out + p * kPanel, 1);
    } else {
      for (int32_t p = 0; p < g.panels; ++p) __builtin_prefetch(out + p * kPanel, 1);
    }
  }
}

/** Fetches elements [begin, end) of each of some panels of weights. */
template <class W>
SLUICE_INLINE inline void fetch_rows(const W *panels, int64_t panel_stride, int32_t count,
                                     int64_t begin, int64_t end) {
  constexpr int64_t kLine = 64 / sizeof(W);
  for (int32_t p = 0; p < count; ++p, panels += panel_stride) {
    for (int64_t q = begin; q < end; q += kLine) __builtin_prefetch(panels + q, 0, 2);
  }
}

/** A piece of K: `count` rows of each panel from row `weight` on, against the packed block from
 * `walk` on. */
struct Piece {
  int64_t weight, count;
};

/**
 * Piece that begins at row k of a block's own K (taps times the block's channels), of `most` rows
 * at most and a multiple of `unit` where it is not the last of its run. A piece's rows are
 * contiguous in the panels: over all taps where the block is all channels, else within one.
 */
inline Piece piece_at(const Conv &v, Channels channels, int64_t k, int64_t most, int64_t unit) {
  const int64_t width = channels.end - channels.begin;
  const int64_t taps = (int64_t)v.c.kernel_h * v.c.kernel_w;
  const int64_t run = width == v.in_channels ? taps * width : width;
  const int64_t step = ceil_div(ceil_div(run, ceil_div(run, most)), unit) * unit;
  const int64_t tap = k / run, position = k % run;
  const int64_t left = run - position;
  return {tap * v.in_channels + channels.begin + position, least(step, left)};
}

template <class W>
inline const W *piece_of(const Conv &v, int32_t panel, const Piece &piece) {
  return (const W *)v.weight + ((int64_t)panel * v.k_total + piece.weight) * kPanel;
}

/** How the rows of a block of channels lie. */
inline Walk walk_of(const Conv &v, const Tile &tile, Channels channels) {
  const ConvCommand &c = v.c;
  Walk walk = {};
  walk.line_stride = (int64_t)tile.in_cols * c.pixel_stride;
  // Where nothing lies between the pixels, taps of a line follow each other.
  const bool solid = !v.in_place && v.block == v.in_channels && c.pixel_stride == v.in_channels;
  walk.length = solid ? (int64_t)v.in_channels * c.kernel_w : channels.end - channels.begin;
  walk.runs_per_line = solid ? 1 : c.kernel_w;
  walk.run_stride = c.pixel_stride;
  return walk;
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
