/**
 * @file
 * Convolution and linear. The unit of work is a tile of output pixels of one frame: its input is
 * packed once (sources joined, prologue applied, upsampling read through, padding as zeros), then
 * every panel of weights passes over it.
 */
#include "cpu/kernels/register_tile.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {
namespace {

constexpr int32_t kGroupPanels = 2 * kTilePanels; // GEGLU needs panels in pairs
constexpr int32_t kWideFloats =
    16384; // of a block of weights that is widened once for all pixels of a tile

struct Conv {
  const ConvCommand &c;
  const float *source[2];
  float *out;
  const char *weight;
  const float *bias, *vector, *residual, *affine;
  float *packed;
  int32_t in_channels, panels, tile_rows, tile_cols;
  int64_t k_total;
  bool pairs;

  int32_t tiles_down, tiles_across; ///< tiles of a frame, of nearly equal size

  Conv(const ConvCommand &command, Bases bases, int32_t thread);
};

struct Tile {
  int32_t frame, y, x, rows, cols;
};

Conv::Conv(const ConvCommand &command, Bases bases, int32_t thread) : c(command) {
  for (int i = 0; i < 2; ++i)
    source[i] = i < c.sources ? address<const float>(c.source[i], bases) : nullptr;
  out = address<float>(c.out, bases);
  weight = address<const char>(c.weight, bases);
  bias = address<const float>(c.bias, bases);
  vector = address<const float>(c.vector, bases);
  residual = address<const float>(c.residual, bases);
  affine = address<const float>(c.affine, bases);
  packed = (float *)(address<char>(c.scratch, bases) + (uint64_t)thread * c.scratch_bytes);
  in_channels = c.source_channels[0] + (c.sources > 1 ? c.source_channels[1] : 0);
  pairs = c.act == Act::geglu;
  panels = ceil_div(c.channels, kPanel);
  k_total = (int64_t)c.kernel_h * c.kernel_w * in_channels;
  tiles_down = ceil_div(c.rows, c.tile_rows);
  tiles_across = ceil_div(c.cols, c.tile_cols);
}

Tile tile_at(const Conv &v, int64_t index) {
  const int32_t tx = (int32_t)(index % v.tiles_across);
  const int32_t ty = (int32_t)(index / v.tiles_across % v.tiles_down);
  const int32_t y = part_begin(v.c.rows, v.tiles_down, ty),
                x = part_begin(v.c.cols, v.tiles_across, tx);
  return {(int32_t)(index / v.tiles_across / v.tiles_down), y, x,
          part_begin(v.c.rows, v.tiles_down, ty + 1) - y,
          part_begin(v.c.cols, v.tiles_across, tx + 1) - x};
}

// ------------------------------------------------------------------------------------------------

/** One pixel's channels of one source, after the prologue. */
template <bool kAffine, Act kAct>
void pack_channels(float *to, const float *from, const float *scale, const float *shift,
                   int32_t n) {
  for_lanes(n, [&](int32_t i, int32_t lanes) {
    f32x16 x = load_some(from + i, lanes);
    if constexpr (kAffine) x = fma(x, load_some(scale + i, lanes), load_some(shift + i, lanes));
    store_some(to + i, activate(x, kAct), lanes);
  });
}

using PackChannels = void (*)(float *, const float *, const float *, const float *, int32_t);

template <bool kAffine>
PackChannels pack_channels_for(Act act) {
  switch (act) {
    case Act::silu:
      return pack_channels<kAffine, Act::silu>;
    case Act::gelu:
      return pack_channels<kAffine, Act::gelu>;
    case Act::quick_gelu:
      return pack_channels<kAffine, Act::quick_gelu>;
    case Act::gelu_tanh:
      return pack_channels<kAffine, Act::gelu_tanh>;
    case Act::sigmoid:
      return pack_channels<kAffine, Act::sigmoid>;
    default:
      return pack_channels<kAffine, Act::none>;
  }
}

/** The tile's input as [rows][cols][pixel_stride]. */
void pack_tile(const Conv &v, const Tile &tile) {
  const ConvCommand &c = v.c;
  const int32_t in_cols = (tile.cols - 1) * c.stride + c.kernel_w,
                in_rows = (tile.rows - 1) * c.stride + c.kernel_h;
  const int32_t row0 = tile.y * c.stride + c.row0, col0 = tile.x * c.stride + c.col0;
  const bool scaled_rows = c.in_rows != c.phys_rows, scaled_cols = c.in_cols != c.phys_cols;
  const float *scale = v.affine ? v.affine + (int64_t)tile.frame * c.affine.stride_f : nullptr;
  const float *shift = scale ? scale + v.in_channels : nullptr;
  const PackChannels pack_some =
      v.affine ? pack_channels_for<true>(c.prologue_act) : pack_channels_for<false>(c.prologue_act);

  float *to = v.packed;
  for (int32_t r = 0; r < in_rows; ++r) {
    const int32_t row = row0 + r;
    const bool inside = row >= 0 && row < c.in_rows;
    const int32_t y =
        (scaled_rows && inside ? (int32_t)((int64_t)row * c.phys_rows / c.in_rows) : row) -
        c.src_row0;
    for (int32_t q = 0; q < in_cols; ++q, to += c.pixel_stride) {
      const int32_t col = col0 + q;
      if (!inside || col < 0 || col >= c.in_cols) {
        for_lanes(v.in_channels,
                  [&](int32_t i, int32_t lanes) { store_some(to + i, zero(), lanes); });
        continue;
      }
      const int32_t x =
          (scaled_cols ? (int32_t)((int64_t)col * c.phys_cols / c.in_cols) : col) - c.src_col0;
      int32_t at = 0;
      for (int s = 0; s < c.sources; ++s) {
        const float *from = v.source[s] + element(c.source[s], tile.frame, y, x);
        pack_some(to + at, from, scale ? scale + at : nullptr, scale ? shift + at : nullptr,
                  c.source_channels[s]);
        at += c.source_channels[s];
      }
    }
  }
}

// ------------------------------------------------------------------------------------------------

/** A group of panels over all pixels of the packed tile. */
struct Group {
  int32_t first, panels; ///< of the output; with pairs each has two panels of weights
  float start[kGroupPanels][16];
  float gate_start[kGroupPanels][16];
};

int32_t lanes_of(const Conv &v, int32_t panel) {
  return least(v.c.channels - panel * kPanel, kPanel);
}

/** What every sum of a column starts from: bias and vector (with pairs, the bias is padded and
 * there is no vector). */
void set_start(const Conv &v, const Tile &tile, Group &g) {
  for (int32_t j = 0; j < g.panels; ++j) {
    const int32_t column = (g.first + j) * kPanel, lanes = lanes_of(v, g.first + j);
    if (v.pairs) {
      store(g.start[j], v.bias ? load(v.bias + 2 * column) : zero());
      store(g.gate_start[j], v.bias ? load(v.bias + 2 * column + kPanel) : zero());
      continue;
    }
    f32x16 start = v.bias ? load_lanes(v.bias + column, lanes) : zero();
    if (v.vector)
      start =
          start + load_lanes(v.vector + (int64_t)tile.frame * v.c.vector.stride_f + column, lanes);
    store(g.start[j], start);
  }
}

/** Rows of a register tile: where its pixels are in the packed tile and in the output. */
struct PixelRows {
  int32_t count;
  const float *in[kTileRows];
  int64_t out[kTileRows], residual[kTileRows];
};

void set_rows(const Conv &v, const Tile &tile, int32_t begin, int32_t end, PixelRows &rows) {
  const ConvCommand &c = v.c;
  const int64_t in_cols = (tile.cols - 1) * c.stride + c.kernel_w;
  int32_t y = begin / tile.cols, x = begin % tile.cols;
  rows.count = end - begin;
  for (int32_t i = 0; i < rows.count; ++i) {
    rows.in[i] = v.packed + (y * in_cols + x) * c.stride * c.pixel_stride;
    rows.out[i] = element(c.out, tile.frame, tile.y + y, tile.x + x);
    rows.residual[i] = v.residual ? element(c.residual, tile.frame, tile.y + y, tile.x + x) : 0;
    if (++x == tile.cols) x = 0, ++y;
  }
}

void finish_rows(const Conv &v, const Group &g, const PixelRows &rows, const float *sums,
                 int64_t sums_stride, Act act) {
  for (int32_t j = 0; j < g.panels; ++j) {
    const int32_t lanes = lanes_of(v, g.first + j), column = (g.first + j) * kPanel;
    for (int32_t i = 0; i < rows.count; ++i) {
      const float *s = sums + i * sums_stride;
      const f32x16 y = v.pairs ? load(s + 32 * j) * gelu(load(s + 32 * j + 16))
                               : activate(load(s + 16 * j), act);
      store_some(v.out + rows.out[i] + column, y, lanes);
    }
  }
}

void begin_rows(const Conv &v, const Group &g, const PixelRows &rows, float *sums,
                int64_t sums_stride, bool resume) {
  for (int32_t j = 0; j < g.panels; ++j) {
    const int32_t lanes = lanes_of(v, g.first + j), column = (g.first + j) * kPanel;
    const f32x16 start = load(g.start[j]);
    for (int32_t i = 0; i < rows.count; ++i) {
      float *s = sums + i * sums_stride;
      if (v.pairs) {
        store(s + 32 * j, start);
        store(s + 32 * j + 16, load(g.gate_start[j]));
      } else if (resume) {
        store(s + 16 * j, load_some(v.out + rows.out[i] + column, lanes));
      } else if (v.residual) {
        store(s + 16 * j, start + load_some(v.residual + rows.residual[i] + column, lanes));
      } else {
        store(s + 16 * j, start);
      }
    }
  }
}

/** Panels [first, last) over the packed tile. */
template <class W>
void run_panels(const Conv &v, const Tile &tile, int32_t first, int32_t last) {
  const ConvCommand &c = v.c;
  const int32_t pixels = tile.rows * tile.cols, tiles = ceil_div(pixels, kTileRows);
  const int32_t width = v.pairs ? 2 : 1; // panels of weights to one of the output
  const int32_t groups = ceil_div(last - first, kTilePanels);

  Walk walk = {};
  walk.line_stride = ((int64_t)(tile.cols - 1) * c.stride + c.kernel_w) * c.pixel_stride;
  const bool solid = c.pixel_stride == v.in_channels; // taps of a line follow each other
  walk.length = solid ? (int64_t)v.in_channels * c.kernel_w : v.in_channels;
  walk.runs_per_line = solid ? 1 : c.kernel_w;
  walk.run_stride = c.pixel_stride;

  alignas(64) float sums[kTileRows * kGroupPanels * kPanel], wide[kWidenFirst ? kWideFloats : 16];
  Group g;
  PixelRows rows;
  TileJob job;
  job.c = sums;
  job.from_zero = false;
  for (int32_t i = 0; i < groups; ++i) {
    g.first = first + part_begin(last - first, groups, i);
    g.panels = first + part_begin(last - first, groups, i + 1) - g.first;
    set_start(v, tile, g);
    job.c_stride = (int64_t)g.panels * width * kPanel;

    // K in blocks that stay near: partial sums go through `out`, unrounded, so the cut changes no
    // bit.
    const int64_t across = (int64_t)g.panels * width * kPanel;
    int64_t block = v.k_total;
    if (!v.pairs && tiles > 1) {
      const int64_t most = kBlockBytes / (across * (int64_t)sizeof(W));
      block = ceil_div(v.k_total, ceil_div(v.k_total, most));
    }
    const bool widen = kWidenFirst && sizeof(W) == 2 && tiles > 1 && block * across <= kWideFloats;
    for (int64_t k = 0; k < v.k_total; k += block) {
      const bool ends = k + block >= v.k_total;
      const int64_t count = least(block, v.k_total - k);
      start_walk(walk, k, count);
      const W *panels = (const W *)v.weight + ((int64_t)g.first * width * v.k_total + k) * kPanel;
      job.panels = panels;
      if (widen) {
        for (int32_t p = 0; p < g.panels * width; ++p) {
          for (int64_t q = 0; q < count * kPanel; q += kPanel) {
            store(wide + p * count * kPanel + q, load(panels + p * v.k_total * kPanel + q));
          }
        }
        job.panels = wide;
      }
      job.panel_stride = (widen ? count : v.k_total) * kPanel;
      for (int32_t t = 0; t < tiles; ++t) {
        set_rows(v, tile, part_begin(pixels, tiles, t), part_begin(pixels, tiles, t + 1), rows);
        for (int32_t r = 0; r < rows.count; ++r) job.rows[r] = rows.in[r];
        begin_rows(v, g, rows, sums, job.c_stride, k > 0);
        if (widen)
          multiply_rows<float>(job, walk, rows.count, g.panels * width);
        else
          multiply_rows<W>(job, walk, rows.count, g.panels * width);
        finish_rows(v, g, rows, sums, job.c_stride, ends ? c.act : Act::none);
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
  // Every thread gets an equal run of (tile, panel) in order: whole tiles while there are many, a
  // range of panels where there are few, so that each then reads its own part of the weights.
  const Share share = share_of((int64_t)c.frames * c.rows * c.cols * v.panels, thread, threads);
  const int64_t tiles = (int64_t)c.frames * v.tiles_down * v.tiles_across;
  int64_t work = 0;
  for (int64_t i = 0; i < tiles && work < share.end; ++i) {
    const Tile tile = tile_at(v, i);
    const int32_t pixels = tile.rows * tile.cols;
    const int32_t first = panel_at(share.begin - work, pixels, v.panels);
    const int32_t last = panel_at(share.end - work, pixels, v.panels);
    work += (int64_t)pixels * v.panels;
    if (first >= last) continue;
    if (*bases.stop) return SLUICE_ABORTED;
    pack_tile(v, tile);
    switch (c.weight.dtype) {
      case DType::f16:
        run_panels<f16>(v, tile, first, last);
        break;
      case DType::bf16:
        run_panels<bf16>(v, tile, first, last);
        break;
      default:
        run_panels<float>(v, tile, first, last);
    }
  }
  return SLUICE_OK;
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
