/**
 * @file
 * Convolution and linear. The unit of work is a tile of output pixels: a block of its input
 * channels is packed once, then every panel of weights passes over it, piece by piece, so that a
 * piece stays in the first cache while all pixels go by and the packed tile stays in the second.
 */
#include "cpu/kernels/conv_input.hpp"
#include "cpu/kernels/conv_narrow.hpp"
#include "cpu/kernels/pair_tile.hpp"
#include "cpu/kernels/register_tile.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {
namespace {

constexpr int32_t kGroupPanels = 2 * kTilePanels; // GEGLU needs panels in pairs

/** A group of panels over pixels of the packed tile. */
struct Group {
  int32_t first, panels; ///< of the output; with pairs each has two panels of weights
  bool resumes, ends; ///< whether earlier channels are in `out` already; whether these are the last
};

int32_t lanes_of(const Conv &v, int32_t panel) {
  return least(v.c.channels - panel * kPanel, kPanel);
}

/**
 * What the sums of all pixels start from: what `out` holds of earlier channels, unrounded,
 * or bias, vector and residual (with pairs, the bias is padded and there is nothing else).
 */
void begin_pixels(const Conv &v, const Group &g, const Pixels &pixels, float *sums,
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
      const Pixel &p = pixels.at[i];
      f32x16 start = bias;
      if (g.resumes) {
        start = load_some(v.out + p.out + column, lanes);
      } else {
        if (v.vector) start = start + load_some(v.vector + p.vector + column, lanes);
        if (v.residual) start = start + load_some(v.residual + p.residual + column, lanes);
      }
      store(sums + i * sums_stride + 16 * j, start);
    }
  }
}

void finish_pixels(const Conv &v, const Group &g, const Pixels &pixels, int32_t begin, int32_t end,
                   const float *sums, int64_t sums_stride) {
  const Act act = g.ends ? v.c.act : Act::none;
  for (int32_t j = 0; j < g.panels; ++j) {
    const int32_t lanes = lanes_of(v, g.first + j), column = (g.first + j) * kPanel;
    for (int32_t i = begin; i < end; ++i) {
      const float *s = sums + i * sums_stride;
      const f32x16 y = v.geglu ? load(s + 32 * j) * gelu(load(s + 32 * j + 16))
                               : activate(load(s + 16 * j), act);
      store_some(v.out + pixels.at[i].out + column, y, lanes);
    }
  }
}

/** Fetches where the sums of pixels [begin, end) go. */
void fetch_pixels(const Conv &v, const Group &g, const Pixels &pixels, int32_t begin, int32_t end) {
  const int32_t column = g.first * kPanel, last = least(column + g.panels * kPanel, v.c.channels);
  for (int32_t i = begin; i < end; ++i) {
    for (int32_t x = column; x < last; x += kPanel)
      __builtin_prefetch(v.out + pixels.at[i].out + x, 1);
  }
}

/** Fetches elements [begin, end) of each of some panels of weights. */
template <class W>
void fetch_rows(const W *panels, int64_t panel_stride, int32_t count, int64_t begin, int64_t end) {
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
 * Piece that begins at row k of a block's own K (taps times the block's channels). A piece's rows
 * are contiguous in the panels: over all taps where the block is all channels, else within one.
 */
Piece piece_at(const Conv &v, Channels channels, int64_t k) {
  const int64_t width = channels.end - channels.begin;
  const int64_t taps = (int64_t)v.c.kernel_h * v.c.kernel_w;
  const int64_t run = width == v.in_channels ? taps * width : width;
  const int64_t step = (ceil_div(run, ceil_div(run, (int64_t)kPieceRows)) + 1) & ~1; // whole pairs
  const int64_t tap = k / run, position = k % run;
  const int64_t left = run - position;
  return {tap * v.in_channels + channels.begin + position, least(step, left)};
}

template <class W>
const W *piece_of(const Conv &v, int32_t panel, const Piece &piece) {
  return (const W *)v.weight + ((int64_t)panel * v.k_total + piece.weight) * kPanel;
}

/** Panels [first, last) over the packed channels of some pixels, which are of type A. */
template <class A, class W>
void run_panels(const Conv &v, const Tile &tile, const Pixels &pixels, Channels channels,
                int32_t first, int32_t last) {
  const ConvCommand &c = v.c;
  const int32_t width = v.geglu ? 2 : 1; // panels of weights to one of the output
  const int32_t groups = ceil_div(last - first, kTilePanels);
  const int64_t depth = (int64_t)c.kernel_h * c.kernel_w * (channels.end - channels.begin);
  constexpr bool kInPairs = sizeof(A) == 2;
  const bool widen = !kInPairs && kWidenFirst && sizeof(W) == 2 && pixels.tiles > 1;

  Walk walk = {};
  walk.line_stride = (int64_t)tile.in_cols * c.pixel_stride;
  // Where nothing lies between the pixels, taps of a line follow each other.
  const bool solid = v.block == v.in_channels && c.pixel_stride == v.in_channels;
  walk.length = solid ? (int64_t)v.in_channels * c.kernel_w : channels.end - channels.begin;
  walk.runs_per_line = solid ? 1 : c.kernel_w;
  walk.run_stride = c.pixel_stride;

  alignas(64) float sums[kMostPixels * kGroupPanels * kPanel];
  alignas(64) float wide[kWidenFirst ? kTilePanels * kPieceRows * kPanel : 16];
  alignas(64) bf16 pairs[kInPairs ? kTilePanels * kPieceRows * kPanel : 32];
  alignas(64) float start[kTilePanels * kPanel];
  const int64_t weight_stride = v.k_total * kPanel;
  TileJob job;
  job.from_zero = false;
  Group g;
  g.resumes = channels.begin > 0;
  g.ends = channels.end == v.in_channels;
  for (int32_t i = 0; i < groups; ++i) {
    g.first = first + part_begin(last - first, groups, i);
    g.panels = first + part_begin(last - first, groups, i + 1) - g.first;
    const int64_t sums_stride = (int64_t)g.panels * width * kPanel;
    // Whole panels go straight from the bias to registers and from there to the output, where
    // nothing else is done to them.
    const bool whole = !v.geglu && (g.first + g.panels) * kPanel <= c.channels;
    const bool from_bias = whole && !g.resumes && !v.vector && !v.residual;
    const bool to_out = whole && (!g.ends || c.act == Act::none);
    if (from_bias) {
      for (int32_t x = 0; x < g.panels * kPanel; x += kPanel)
        store(start + x, v.bias ? load(v.bias + g.first * kPanel + x) : zero());
    }
    // With pairs, one half of the group's panels of weights after the other.
    for (int32_t part = 0; part < width; ++part) {
      const int32_t panel = g.first * width + part * g.panels;
      for (int64_t k = 0; k < depth;) {
        const Piece piece = piece_at(v, channels, k);
        start_walk(walk, k, piece.count);
        const bool begins = part == 0 && k == 0;
        const bool finishes = part + 1 == width && k + piece.count == depth;
        k += piece.count;
        const W *rows = piece_of<W>(v, panel, piece);
        const W *next = k < depth ? piece_of<W>(v, panel, piece_at(v, channels, k))
                                  : piece_of<W>(v, panel + g.panels, piece_at(v, channels, 0));
        if (widen) {
          for (int32_t p = 0; p < g.panels; ++p) {
            for (int64_t q = 0; q < piece.count * kPanel; q += kPanel)
              store(wide + p * piece.count * kPanel + q, load(rows + p * weight_stride + q));
          }
        }
        if constexpr (kInPairs) pair_rows(rows, weight_stride, g.panels, piece.count, pairs);
        // All at once: rows may lie a multiple of the caches' period apart, where what is fetched
        // ahead would not stay, but many loads wait together.
        if (begins && !from_bias) begin_pixels(v, g, pixels, sums, sums_stride);
        if (finishes) fetch_pixels(v, g, pixels, 0, least(pixels.count, kTileRows));
        // Whole cache lines of the next piece for each register tile of this one.
        const int64_t fetched = ceil_div(piece.count, (int64_t)2 * pixels.tiles) * 2 * kPanel;
        for (int32_t t = 0; t < pixels.tiles; ++t) {
          const int32_t begin = pixels.first[t], end = pixels.first[t + 1];
          // What comes next comes nearer while this is computed.
          if (finishes) fetch_pixels(v, g, pixels, end, least(pixels.count, end + kTileRows));
          fetch_rows(next, weight_stride, g.panels, t * fetched,
                     least((t + 1) * fetched, piece.count * kPanel));
          for (int32_t r = begin; r < end; ++r) {
            const Pixel &p = pixels.at[r];
            float *const own = sums + r * sums_stride, *const out =
                                                           v.out + p.out + g.first * kPanel;
            job.rows[r - begin] = (const float *)((const A *)v.packed + p.in);
            job.from[r - begin] = begins && from_bias ? start : own;
            job.to[r - begin] = finishes && to_out ? out : own;
          }
          const int64_t column = part * g.panels * kPanel;
          if constexpr (kInPairs) {
            pair_kernel_for(end - begin, g.panels)(job, walk, pairs, piece.count * kPanel, column);
          } else if (widen) {
            tile_kernel_for<float>(end - begin, g.panels)(job, walk, wide, piece.count * kPanel,
                                                          column);
          } else {
            tile_kernel_for<W>(end - begin, g.panels)(job, walk, rows, weight_stride, column);
          }
          if (finishes && !to_out) finish_pixels(v, g, pixels, begin, end, sums, sums_stride);
        }
      }
    }
  }
}

template <class W>
void run_tile(const Conv &v, const Tile &tile, int32_t first, int32_t last, NarrowWeights &narrow) {
  Pixels pixels;
  const int32_t count = tile.frames * tile.rows * tile.cols;
  const int32_t parts = ceil_div(count, kMostPixels), blocks = ceil_div(v.in_channels, v.block);
  for (int32_t b = 0; b < blocks; ++b) {
    const Channels channels = {b * v.block, least((b + 1) * v.block, v.in_channels)};
    if (v.in_pairs)
      pack_tile<bf16>(v, tile, channels);
    else
      pack_tile<float>(v, tile, channels);
    for (int32_t i = 0; i < parts; ++i) {
      find_pixels(v, tile, part_begin(count, parts, i), part_begin(count, parts, i + 1), pixels);
      if (is_narrow(v)) {
        narrow.take<W>(v, channels);
        run_narrow(v, tile, pixels, channels, narrow);
      } else if (v.in_pairs) {
        if constexpr (kPairs) run_panels<bf16, W>(v, tile, pixels, channels, first, last);
      } else {
        run_panels<float, W>(v, tile, pixels, channels, first, last);
      }
    }
  }
}

/** The panel at which a share that begins `work` into a tile begins; work is counted in pixels
 * times panels. */
int32_t panel_at(int64_t work, int32_t pixels, int32_t panels) {
  if (work <= 0) return 0;
  const int64_t panel = (work + pixels / 2) / pixels;
  return panel < panels ? (int32_t)panel : panels;
}

} // namespace

int run_conv(const ConvCommand &c, Bases bases, int32_t thread, int32_t threads) {
  const Conv v(c, bases, thread);
  NarrowWeights narrow;
  // Every thread gets an equal run of (tile, panel) in order: whole tiles while there are many, a
  // range of panels where there are few, so that each then reads its own part of the weights.
  const Share share = share_of((int64_t)c.frames * c.rows * c.cols * v.panels, thread, threads);
  const int64_t tiles = (int64_t)v.frame_tiles * v.tiles_down * v.tiles_across;
  int64_t work = 0;
  for (int64_t i = 0; i < tiles && work < share.end; ++i) {
    const Tile tile = tile_at(v, i);
    const int32_t pixels = tile.frames * tile.rows * tile.cols;
    const int32_t first = panel_at(share.begin - work, pixels, v.panels);
    const int32_t last = panel_at(share.end - work, pixels, v.panels);
    work += (int64_t)pixels * v.panels;
    if (first >= last) continue;
    if (*bases.stop) return SLUICE_ABORTED;
    switch (c.weight.dtype) {
      case DType::f16:
        run_tile<f16>(v, tile, first, last, narrow);
        break;
      case DType::bf16:
        run_tile<bf16>(v, tile, first, last, narrow);
        break;
      default:
        run_tile<float>(v, tile, first, last, narrow);
    }
  }
  return SLUICE_OK;
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
