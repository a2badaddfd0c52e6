/**
 * @file
 * What a convolution reads: tiles of output pixels, and the input channels of a tile packed for
 * them (sources joined, prologue applied, upsampling read through, padding as zeros). Where every
 * output pixel reads a pixel of the sources as it is, nothing is packed.
 */
#pragma once

#include "cpu/kernels/support.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {

constexpr int32_t kPixelsAhead = 2;  // that are fetched while one is packed
constexpr int32_t kMostPixels = 256; // whose sums are kept at a time

struct Conv {
  const ConvCommand &c;
  const float *source[2];
  float *out;
  const char *weight;
  const float *bias, *vector, *residual, *affine;
  void *packed; ///< float, or bf16 in pairs
  int32_t in_channels, panels;
  int32_t block;   ///< input channels packed at a time
  int64_t k_total; ///< rows of a panel of weights
  bool geglu;
  bool in_place; ///< the sources are read where they are
  Products products;
  bool in_pairs;       ///< of bfloat16
  int32_t most_pixels; ///< at a time; with GEGLU, each has twice as many sums

  int64_t place_tiles;              ///< where in_place: of runs of pixels of nearly equal length
  int32_t tiles_down, tiles_across; ///< else tiles of a frame, of nearly equal size
  int32_t tile_frames; ///< frames in a tile; more than one only where a tile holds all of a frame
  int32_t frame_tiles;

  Conv(const ConvCommand &command, Bases bases, int32_t thread, Products how);

  int64_t tiles() const {
    return in_place ? place_tiles : (int64_t)frame_tiles * tiles_down * tiles_across;
  }
};

/** Pixels of a box, in the order of frames, rows and columns: all of them where it is packed, a run
 * of them where the box is the whole region, read in place. */
struct Tile {
  int32_t frame, frames, y, x, rows, cols;
  int64_t begin;
  int32_t count;
  int32_t in_rows, in_cols; ///< packed, of a frame
};

inline Conv::Conv(const ConvCommand &command, Bases bases, int32_t thread, Products how)
    : c(command), products(how) {
  for (int i = 0; i < 2; ++i)
    source[i] = i < c.sources ? address<const float>(c.source[i], bases) : nullptr;
  out = address<float>(c.out, bases);
  weight = address<const char>(c.weight, bases);
  bias = address<const float>(c.bias, bases);
  vector = address<const float>(c.vector, bases);
  residual = address<const float>(c.residual, bases);
  affine = address<const float>(c.affine, bases);
  packed = address<char>(c.scratch, bases) + (uint64_t)thread * c.scratch_bytes;
  in_channels = c.source_channels[0] + (c.sources > 1 ? c.source_channels[1] : 0);
  block = conv_block(in_channels, c.kernel_h * c.kernel_w, c.act);
  geglu = c.act == Act::geglu;
  in_pairs = products != Products::none && conv_in_pairs(c.compute, in_channels, c.outputs);
  panels = ceil_div(c.channels, kPanel);
  k_total = (int64_t)c.kernel_h * c.kernel_w * in_channels * (c.phases ? kPhases : 1);
  in_place = c.scratch.slot == kSlotNone;
  most_pixels = geglu ? kMostPixels / 2 : kMostPixels;
  place_tiles = ceil_div((int64_t)c.frames * c.rows * c.cols, (int64_t)most_pixels);
  tiles_down = ceil_div(c.rows, c.tile_rows);
  tiles_across = ceil_div(c.cols, c.tile_cols);
  tile_frames = 1;
  if (!in_place && tiles_down == 1 && tiles_across == 1) {
    const int64_t pixels = conv_packed(c.rows, c.stride, c.kernel_h, c.phases) *
                           conv_packed(c.cols, c.stride, c.kernel_w, c.phases);
    const int64_t size = in_pairs ? sizeof(bf16) : sizeof(float);
    const int64_t room = c.scratch_bytes / (pixels * c.pixel_stride * size);
    tile_frames = (int32_t)least(room, (int64_t)c.frames);
  }
  frame_tiles = ceil_div(c.frames, tile_frames);
}

inline Tile tile_at(const Conv &v, int64_t index) {
  if (v.in_place) {
    const int64_t pixels = (int64_t)v.c.frames * v.c.rows * v.c.cols;
    const Share run = share_of(pixels, (int32_t)index, (int32_t)v.place_tiles);
    return {0, v.c.frames, 0, 0, v.c.rows, v.c.cols, run.begin, (int32_t)(run.end - run.begin),
            0, 0};
  }
  const int32_t tx = (int32_t)(index % v.tiles_across);
  const int32_t ty = (int32_t)(index / v.tiles_across % v.tiles_down);
  const int32_t tf = (int32_t)(index / v.tiles_across / v.tiles_down);
  Tile t;
  t.frame = part_begin(v.c.frames, v.frame_tiles, tf);
  t.frames = part_begin(v.c.frames, v.frame_tiles, tf + 1) - t.frame;
  t.y = part_begin(v.c.rows, v.tiles_down, ty);
  t.x = part_begin(v.c.cols, v.tiles_across, tx);
  t.rows = part_begin(v.c.rows, v.tiles_down, ty + 1) - t.y;
  t.cols = part_begin(v.c.cols, v.tiles_across, tx + 1) - t.x;
  t.begin = 0;
  t.count = t.frames * t.rows * t.cols;
  t.in_rows = (t.rows - 1) * v.c.stride + v.c.kernel_h;
  t.in_cols = (t.cols - 1) * v.c.stride + v.c.kernel_w;
  return t;
}

// ------------------------------------------------------------------------------------------------

/** One pixel's channels of one source, after the prologue; fetches those that lie `ahead`: a pixel
 * is too short for the processor to see where the next one is. */
template <class T, bool kAffine, Act kAct>
inline void pack_channels(T *to, const float *from, const float *scale, const float *shift,
                          int32_t n, int64_t ahead) {
  for_lanes(n, [&](int32_t i, int32_t lanes) SLUICE_INLINE {
    __builtin_prefetch(from + i + ahead);
    f32x16 x = load_some(from + i, lanes);
    if constexpr (kAffine) x = fma(x, load_some(scale + i, lanes), load_some(shift + i, lanes));
    store_some(to + i, activate(x, kAct), lanes);
  });
}

template <class T>
using PackChannels = void (*)(T *, const float *, const float *, const float *, int32_t, int64_t);

template <class T, bool kAffine>
PackChannels<T> pack_channels_for(Act act) {
  switch (act) {
    case Act::silu:
      return pack_channels<T, kAffine, Act::silu>;
    case Act::gelu:
      return pack_channels<T, kAffine, Act::gelu>;
    case Act::quick_gelu:
      return pack_channels<T, kAffine, Act::quick_gelu>;
    case Act::gelu_tanh:
      return pack_channels<T, kAffine, Act::gelu_tanh>;
    case Act::sigmoid:
      return pack_channels<T, kAffine, Act::sigmoid>;
    default:
      return pack_channels<T, kAffine, Act::none>;
  }
}

/** A range of the input channels: [begin, end). */
struct Channels {
  int32_t begin, end;
};

/** Channels of a tile's input as [frames][rows][cols][pixel_stride], in float or bf16. */
template <class T>
void pack_tile(const Conv &v, const Tile &tile, Channels channels) {
  const ConvCommand &c = v.c;
  const int32_t row0 = tile.y * c.stride + c.row0, col0 = tile.x * c.stride + c.col0;
  const bool scaled_rows = c.in_rows != c.phys_rows, scaled_cols = c.in_cols != c.phys_cols;
  const PackChannels<T> pack_some = v.affine ? pack_channels_for<T, true>(c.prologue_act)
                                             : pack_channels_for<T, false>(c.prologue_act);
  // Few channels, whose pixels follow each other on both sides.
  const bool joined = !v.affine && !scaled_cols && c.sources == 1 &&
                      channels.end - channels.begin == c.source[0].stride_w &&
                      c.pixel_stride == c.source[0].stride_w;
  T *to = (T *)v.packed;
  for (int32_t r = 0; r < tile.frames * tile.in_rows; ++r) {
    const int32_t frame = tile.frame + r / tile.in_rows, row = row0 + r % tile.in_rows;
    const float *scale = v.affine ? v.affine + (int64_t)frame * c.affine.stride_f : nullptr;
    const float *shift = scale ? scale + v.in_channels : nullptr;
    const bool inside = row >= 0 && row < c.in_rows;
    const int32_t y =
        (scaled_rows && inside ? (int32_t)((int64_t)row * c.phys_rows / c.in_rows) : row) -
        c.src_row0;
    int32_t run = 1; // pixels that are packed as one
    for (int32_t q = 0; q < tile.in_cols; q += run, to += run * c.pixel_stride) {
      const int32_t col = col0 + q;
      run = 1;
      if (!inside || col < 0 || col >= c.in_cols) {
        for_lanes(channels.end - channels.begin, [&](int32_t i, int32_t lanes) SLUICE_INLINE {
          store_some(to + i, zero(), lanes);
        });
        continue;
      }
      const int32_t x =
          (scaled_cols ? (int32_t)((int64_t)col * c.phys_cols / c.in_cols) : col) - c.src_col0;
      if (joined) run = least(tile.in_cols - q, c.in_cols - col);
      for (int s = 0, first = 0; s < c.sources; first += c.source_channels[s], ++s) {
        const int32_t begin = channels.begin > first ? channels.begin : first;
        const int32_t end = least(channels.end, first + c.source_channels[s]);
        if (begin >= end) continue;
        const float *from = v.source[s] + element(c.source[s], frame, y, x) + begin - first;
        pack_some(to + begin - channels.begin, from, scale ? scale + begin : nullptr,
                  scale ? shift + begin : nullptr, run * (end - begin),
                  least(tile.in_cols - 1 - q, kPixelsAhead) * (int64_t)c.source[s].stride_w);
      }
    }
  }
}

// ------------------------------------------------------------------------------------------------

/** Pixels [begin, end) of a tile, and where the elements of each are, from each base. */
struct Pixels {
  const void *input;              ///< base of `in`: what is packed, or a source
  int32_t count, tiles;           ///< tiles: register tiles of nearly equal size
  int32_t first[kMostPixels + 1]; ///< of each register tile
  int64_t in[kMostPixels], out[kMostPixels], residual[kMostPixels], vector[kMostPixels];
};

/** Register tiles of some pixels, which are yet to be set. */
inline void divide_pixels(Pixels &pixels, int32_t count) {
  pixels.count = count;
  pixels.tiles = ceil_div(count, kTileRows);
  for (int32_t t = 0; t <= pixels.tiles; ++t) pixels.first[t] = part_begin(count, pixels.tiles, t);
}

/** @param source that is read in place, where one is */
inline void find_pixels(const Conv &v, const Tile &tile, int32_t begin, int32_t end, int32_t source,
                        Pixels &pixels) {
  const ConvCommand &c = v.c;
  const int64_t first = tile.begin + begin;
  int32_t x = (int32_t)(first % tile.cols), y = (int32_t)(first / tile.cols % tile.rows);
  int32_t f = (int32_t)(first / tile.cols / tile.rows);
  pixels.input = v.in_place ? v.source[source] : v.packed;
  divide_pixels(pixels, end - begin);
  for (int32_t i = 0; i < pixels.count; ++i) {
    const int64_t row = (int64_t)f * tile.in_rows + y * c.stride;
    if (v.in_place)
      pixels.in[i] = element(c.source[source], f, y * c.stride + c.row0 - c.src_row0,
                             x * c.stride + c.col0 - c.src_col0);
    else
      pixels.in[i] = (row * tile.in_cols + x * c.stride) * c.pixel_stride;
    pixels.out[i] = element(c.out, tile.frame + f, tile.y + y, tile.x + x);
    pixels.residual[i] = element(c.residual, tile.frame + f, tile.y + y, tile.x + x);
    pixels.vector[i] = (tile.frame + f) * (int64_t)c.vector.stride_f;
    if (++x == tile.cols && (x = 0, ++y == tile.rows)) y = 0, ++f;
  }
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
