/**
 * @file
 * Convolution and linear. The unit of work is a tile of output pixels: a block of its input
 * channels is packed once, or read in place, then every panel of weights passes over it, piece by
 * piece, so that a piece stays in the first cache while all pixels go by and the tile's input in
 * the second.
 */
#include "cpu/kernels/conv_narrow.hpp"
#include "cpu/kernels/conv_phases.hpp"
#include "cpu/kernels/conv_sums.hpp"
#include "cpu/kernels/pair_tile.hpp"
#if defined(SLUICE_AMX_MODEL)
#include "cpu/kernels/conv_amx.hpp"
#endif

namespace sluice::SLUICE_ISA_NAMESPACE {
namespace {

constexpr int64_t kWholePairs = 2; // of k, in a piece
constexpr int32_t kManyTiles = 12; // register tiles, of pixels

/** The kernel of `rows` rows by `panels` panels of weights of type W, widened first or in pairs. */
template <class A, class W>
TileKernel kernel_for(int32_t rows, int32_t panels, bool widen) {
  if constexpr (sizeof(A) == 2) return pair_kernel_for(rows, panels);
  return widen ? tile_kernel_for<float>(rows, panels) : tile_kernel_for<W>(rows, panels);
}

/** Panels [first, last) over these channels of some pixels, which are of type A. */
template <class A, class W>
void run_panels(const Conv &v, const Tile &tile, const Pixels &pixels, Channels channels,
                int32_t first, int32_t last) {
  const ConvCommand &c = v.c;
  const int32_t width = v.geglu ? 2 : 1; // panels of weights to one of the output
  const int32_t groups = ceil_div(last - first, kTilePanels);
  const int64_t depth = (int64_t)c.kernel_h * c.kernel_w * (channels.end - channels.begin);
  constexpr bool kInPairs = sizeof(A) == 2;
  // Pairs take half of the bytes. Few pixels would wait for longer pieces to come.
  constexpr int64_t kMostRows = kInPairs ? 2 * kPieceRows : kPieceRows;
  const int64_t most_rows = kInPairs && pixels.tiles > kManyTiles ? kMostRows : kPieceRows;
  const bool widen = !kInPairs && kWidenFirst && sizeof(W) == 2 && pixels.tiles > 1;

  Walk walk = walk_of(v, tile, channels);
  alignas(64) float sums[kMostPixels * kTilePanels * kPanel];
  alignas(64) float wide[kWidenFirst ? kTilePanels * kPieceRows * kPanel : 16];
  alignas(64) bf16 pairs[kInPairs ? kTilePanels * kMostRows * kPanel : 32];
  alignas(64) float start[kTilePanels * kPanel];
  const int64_t weight_stride = v.k_total * kPanel;
  const int32_t least_rows = pixels.count / pixels.tiles; // of a register tile, or one more
  const EvenRows one_row(0);
  TileJob job;
  job.rows = pixels.input;
  job.from_zero = false;
  for (int32_t i = 0; i < groups; ++i) {
    const Group g = group_at(v, channels, first, last, groups, i);
    const int64_t sums_stride = (int64_t)g.panels * width * kPanel;
    const EvenRows sum_rows(sums_stride);
    const TileKernel kernels[2] = {kernel_for<A, W>(least_rows, g.panels, widen),
                                   kernel_for<A, W>(least_rows + 1, g.panels, widen)};
    if (g.from_bias) begin_from_bias(v, g, start);
    // With pairs, one half of the group's panels of weights after the other.
    for (int32_t part = 0; part < width; ++part) {
      const int32_t panel = g.first * width + part * g.panels;
      const int64_t column = part * g.panels * kPanel;
      for (int64_t k = 0; k < depth;) {
        const Piece piece = piece_at(v, channels, k, most_rows, kWholePairs);
        start_walk(walk, k, piece.count);
        const bool begins = part == 0 && k == 0;
        const bool finishes = part + 1 == width && k + piece.count == depth;
        k += piece.count;
        const W *rows = piece_of<W>(v, panel, piece);
        const int64_t after = k < depth ? k : 0;
        const W *next = piece_of<W>(v, panel + (after ? 0 : g.panels),
                                    piece_at(v, channels, after, most_rows, kWholePairs));
        const void *panels = rows;
        int64_t panel_stride = weight_stride;
        if (widen) {
          panels = wide;
          panel_stride = piece.count * kPanel;
          for (int32_t p = 0; p < g.panels; ++p) {
            for (int64_t q = 0; q < panel_stride; q += kPanel)
              store(wide + p * panel_stride + q, load(rows + p * weight_stride + q));
          }
        }
        if constexpr (kInPairs) {
          panels = pairs;
          panel_stride = piece.count * kPanel;
          pair_rows(rows, weight_stride, g.panels, piece.count, piece.count, pairs);
        }
        // All at once: rows may lie a multiple of the caches' period apart, where what is fetched
        // ahead would not stay, but many loads wait together.
        if (begins && !g.from_bias) begin_pixels(v, g, pixels, sums, sums_stride);
        if (finishes) fetch_pixels(v, g, pixels, 0, least(pixels.count, kTileRows));
        // Whole cache lines of the next piece for each register tile of this one.
        const int64_t fetched = ceil_div(piece.count, (int64_t)2 * pixels.tiles) * 2 * kPanel;
        for (int32_t t = 0; t < pixels.tiles; ++t) {
          const int32_t begin = pixels.first[t], end = pixels.first[t + 1];
          // What comes next comes nearer while this is computed.
          if (finishes) fetch_pixels(v, g, pixels, end, least(pixels.count, end + kTileRows));
          fetch_rows(next, weight_stride, g.panels, t * fetched,
                     least((t + 1) * fetched, piece.count * kPanel));
          job.row_at = pixels.in + begin;
          job.set_sums(sums + begin * sums_stride, sum_rows.at);
          if (begins && g.from_bias) job.from = start, job.from_at = one_row.at;
          if (finishes && g.to_out)
            job.to = v.out + g.first * kPanel, job.to_at = pixels.out + begin;
          kernels[end - begin - least_rows](job, walk, panels, panel_stride, column);
          if (finishes && !g.to_out) finish_pixels(v, g, pixels, begin, end, sums, sums_stride);
        }
      }
    }
  }
}

/** run_panels in bfloat16, by the means of this table. Returns false for a fault of the model of
 * AMX. */
template <class W>
bool run_products(const Conv &v, const Tile &tile, const Pixels &pixels, Channels channels,
                  int32_t first, int32_t last) {
#if defined(SLUICE_AMX)
  if (v.products == Products::amx)
    return run_amx<AmxTiles, W>(v, tile, pixels, channels, first, last);
#endif
#if defined(SLUICE_AMX_MODEL)
  if (v.products == Products::amx_model)
    return run_amx<ModelTiles, W>(v, tile, pixels, channels, first, last);
#endif
  if constexpr (kPairs) run_panels<bf16, W>(v, tile, pixels, channels, first, last);
  return true;
}

/** The four phases of a packed tile, one after another. */
bool run_phases(const Conv &v, const Tile &tile, Channels channels, int32_t first, int32_t last,
                Pixels &pixels) {
  const Tile packed = stored_tile(v, tile);
  bool sound = true;
  for (int32_t index = 0; index < kPhases; ++index) {
    const Phase phase = phase_at(v, tile, index);
    Conv own = v;
    own.weight = phase.weight;
    const int32_t count = tile.frames * phase.rows * phase.cols;
    const int32_t parts = ceil_div(count, kMostPixels);
    for (int32_t i = 0; i < parts; ++i) {
      find_phase_pixels(v, tile, phase, part_begin(count, parts, i),
                        part_begin(count, parts, i + 1), pixels);
      if (v.in_pairs)
        sound = run_products<float>(own, packed, pixels, channels, first, last) && sound;
      else
        run_panels<float, float>(own, packed, pixels, channels, first, last);
    }
  }
  return sound;
}

/** Block b of the input channels: a source where they are read in place. */
Channels channels_at(const Conv &v, int32_t b) {
  if (!v.in_place) return {b * v.block, least((b + 1) * v.block, v.in_channels)};
  const int32_t seam = v.c.source_channels[0];
  return b == 0 ? Channels{0, seam} : Channels{seam, v.in_channels};
}

/** @param narrow where is_narrow, else null */
template <class W>
bool run_tile(const Conv &v, const Tile &tile, int32_t first, int32_t last, NarrowWeights *narrow) {
  Pixels pixels;
  bool sound = true;
  const int32_t parts = ceil_div(tile.count, v.most_pixels);
  const int32_t blocks = v.in_place ? v.c.sources : ceil_div(v.in_channels, v.block);
  const Tile packed = v.c.phases ? stored_tile(v, tile) : tile;
  for (int32_t b = 0; b < blocks; ++b) {
    const Channels channels = channels_at(v, b);
    if (v.in_pairs)
      pack_tile<bf16>(v, packed, channels);
    else if (!v.in_place)
      pack_tile<float>(v, packed, channels);
    if (v.c.phases) {
      sound = run_phases(v, tile, channels, first, last, pixels) && sound;
      continue;
    }
    for (int32_t i = 0; i < parts; ++i) {
      find_pixels(v, tile, part_begin(tile.count, parts, i), part_begin(tile.count, parts, i + 1),
                  b, pixels);
      if (narrow) {
        narrow->take<W>(v, channels);
        run_narrow(v, tile, pixels, channels, *narrow);
      } else if (v.in_pairs) {
        sound = run_products<W>(v, tile, pixels, channels, first, last) && sound;
      } else {
        run_panels<float, W>(v, tile, pixels, channels, first, last);
      }
    }
  }
  return sound;
}

/** The panel at which a share that begins `work` into a tile begins; work is counted in pixels
 * times panels. */
int32_t panel_at(int64_t work, int32_t pixels, int32_t panels) {
  if (work <= 0) return 0;
  const int64_t panel = (work + pixels / 2) / pixels;
  return panel < panels ? (int32_t)panel : panels;
}

/** A thread's share of all tiles. */
int run_share(const Conv &v, Bases bases, int32_t thread, int32_t threads, NarrowWeights *narrow) {
  // Every thread gets an equal run of (tile, panel) in order: whole tiles while there are many, a
  // range of panels where there are few, so that each then reads its own part of the weights.
  const ConvCommand &c = v.c;
  const Share share = share_of((int64_t)c.frames * c.rows * c.cols * v.panels, thread, threads);
  const int64_t tiles = v.tiles();
  int64_t work = 0;
  for (int64_t i = 0; i < tiles && work < share.end; ++i) {
    const Tile tile = tile_at(v, i);
    const int32_t first = panel_at(share.begin - work, tile.count, v.panels);
    const int32_t last = panel_at(share.end - work, tile.count, v.panels);
    work += (int64_t)tile.count * v.panels;
    if (first >= last) continue;
    if (*bases.stop) return SLUICE_ABORTED;
    bool sound = true;
    switch (c.weight.dtype) {
      case DType::f16:
        sound = run_tile<f16>(v, tile, first, last, narrow);
        break;
      case DType::bf16:
        sound = run_tile<bf16>(v, tile, first, last, narrow);
        break;
      default:
        sound = run_tile<float>(v, tile, first, last, narrow);
    }
    if (!sound) return SLUICE_BAD_COMMAND;
  }
  return SLUICE_OK;
}

/** Apart, so that these weights lie on the stack of no other convolution. */
[[gnu::noinline]] int run_narrow_share(const Conv &v, Bases bases, int32_t thread,
                                       int32_t threads) {
  NarrowWeights narrow;
  return run_share(v, bases, thread, threads, &narrow);
}

} // namespace

int run_conv(const ConvCommand &c, Bases bases, int32_t thread, int32_t threads,
             Products products) {
  const ConvCommand stored = stored_conv(c);
  const Conv v(stored, bases, thread, products);
  if (is_narrow(v)) return run_narrow_share(v, bases, thread, threads);
  return run_share(v, bases, thread, threads, nullptr);
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
