/** @file Group norm in three steps: partial statistics, merge, apply. */
#include "cpu/kernels/support.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {
namespace {

constexpr int32_t kChunk = 1280; // channels whose sums are on the stack at a time

/** Pixels of a row whose mean the others' sums are about. */
constexpr int32_t kFirstPixels = 8;

/** How far ahead rows are fetched, in floats: past the page that a processor fetches ahead in by
 * itself. */
constexpr int32_t kAhead = 2048;

/** Adds x - mean and its square to the sums of channels [0, n), of kPixels pixels in turn. */
template <int32_t kPixels>
void add_squares(const float *x, int32_t n, int64_t stride, const float *mean, float *sums,
                 float *squares) {
  // Where pixels are contiguous, lines are fetched one after the other, as memory likes it.
  const bool contiguous = stride == n;
  const int64_t along = contiguous ? kPixels : 1, across = contiguous ? 16 : stride;
  const float *const ahead = x + (contiguous ? kAhead : 8 * stride);
  for_lanes(n, [&](int32_t i, int32_t lanes) SLUICE_INLINE {
    const f32x16 m = load_some(mean + i, lanes);
    f32x16 sum = load_some(sums + i, lanes), square = load_some(squares + i, lanes);
#pragma GCC unroll 4
    for (int32_t p = 0; p < kPixels; ++p) {
      __builtin_prefetch(ahead + along * i + across * p);
      const f32x16 v = load_some(x + p * stride + i, lanes) - m;
      sum = sum + v;
      square = fma(v, v, square);
    }
    store_some(sums + i, sum, lanes);
    store_some(squares + i, square, lanes);
  });
}

/** Sums of x - mean and of its squares over pixels [0, cols), ascending. */
void sum_squares(const float *x, int32_t n, int32_t cols, int64_t stride, const float *mean,
                 float *sums, float *squares) {
  __builtin_memset(sums, 0, (size_t)n * sizeof(float));
  __builtin_memset(squares, 0, (size_t)n * sizeof(float));
  int32_t p = 0;
  for (; p + kNormPixels <= cols; p += kNormPixels)
    add_squares<kNormPixels>(x + p * stride, n, stride, mean, sums, squares);
  for (; p < cols; ++p) add_squares<1>(x + p * stride, n, stride, mean, sums, squares);
}

/** Sums over pixels [0, cols), ascending. */
void sum_pixels(const float *x, int32_t n, int32_t cols, int64_t stride, float *sums) {
  for_lanes(n, [&](int32_t i, int32_t lanes) SLUICE_INLINE {
    f32x16 sum = zero();
    for (int32_t p = 0; p < cols; ++p) sum = sum + load_some(x + p * stride + i, lanes);
    store_some(sums + i, sum, lanes);
  });
}

/** Sixteen partial sums of n numbers. */
f32x16 add_lanes(const float *x, int32_t n) {
  f32x16 total = zero();
  for_lanes(
      n, [&](int32_t i, int32_t lanes) SLUICE_INLINE { total = total + load_some(x + i, lanes); });
  return total;
}

/** The sums of up to sixteen runs of n numbers, a lane each. */
f32x16 add_blocks(const float *x, int32_t n, int32_t blocks) {
  f32x16 sums[16];
  for (int32_t i = 0; i < 16; ++i) sums[i] = i < blocks ? add_lanes(x + i * n, n) : zero();
  transpose(sums);
#pragma GCC unroll 4
  for (int32_t half = 8; half; half /= 2) {
    for (int32_t i = 0; i < half; ++i) sums[i] = sums[i] + sums[i + half];
  }
  return sums[0];
}

void fill(float *out, int32_t n, float value) {
  for_lanes(
      n, [&](int32_t i, int32_t lanes) SLUICE_INLINE { store_some(out + i, splat(value), lanes); });
}

/** Of the channels at hand, and of sixteen of their blocks. */
struct RowStatistics {
  alignas(64) float mean[kChunk], sums[kChunk], squares[kChunk];
  float block_mean[16], missed[16], block_squares[16];
};

/**
 * One row's blocks [first, last), each within a chunk: sums about the mean of the row's first
 * pixels, corrected by what that missed. With n pixels, k of them first, it misses at most
 * sqrt(n / k) standard deviations, since those k alone have k missed^2 of all squares: 128 times
 * the squares for 1024 pixels, far from where float cancels.
 */
void row_statistics(RowStatistics &r, const float *x, const NormPartialsCommand &c, int32_t first,
                    int32_t last, float *out) {
  const int32_t per_piece = kChunk / c.block, some = least(c.cols, kFirstPixels);
  const f32x16 share = splat(1.0f / ((float)c.cols * (float)c.block));
  const f32x16 some_share = splat(1.0f / ((float)some * (float)c.block));
  for (int32_t b = first; b < last; b += per_piece) {
    const int32_t blocks = least(per_piece, last - b), width = blocks * c.block;
    const float *from = x + (int64_t)b * c.block;
    sum_pixels(from, width, some, c.source.stride_w, r.sums);
    for (int32_t i = 0; i < blocks; i += 16) {
      const int32_t n = least(16, blocks - i), at = i * c.block;
      store(r.block_mean, add_blocks(r.sums + at, c.block, n) * some_share);
      for (int32_t j = 0; j < n; ++j) fill(r.mean + at + j * c.block, c.block, r.block_mean[j]);
    }
    sum_squares(from, width, c.cols, c.source.stride_w, r.mean, r.sums, r.squares);
    for (int32_t i = 0; i < blocks; i += 16) {
      const int32_t n = least(16, blocks - i), at = i * c.block;
      const f32x16 sum = add_blocks(r.sums + at, c.block, n), missed = sum * share;
      const f32x16 squares = fnma(missed, sum, add_blocks(r.squares + at, c.block, n));
      store(r.missed, missed);
      store(r.block_squares, max(zero(), squares));
      for (int32_t j = 0; j < n; ++j) {
        out[2 * (b + i + j)] = r.mean[at + j * c.block] + r.missed[j];
        out[2 * (b + i + j) + 1] = r.block_squares[j];
      }
    }
  }
}

/** The same of blocks wider than a chunk, each in pieces. */
void wide_row_statistics(RowStatistics &r, const float *x, const NormPartialsCommand &c,
                         int32_t first, int32_t last, float *out) {
  const int64_t stride = c.source.stride_w;
  const int32_t some = least(c.cols, kFirstPixels);
  const double share = 1.0 / ((double)c.cols * c.block);
  for (int32_t b = first; b < last; ++b) {
    const float *from = x + (int64_t)b * c.block;
    double total = 0, missed = 0, squares = 0;
    for (int32_t at = 0; at < c.block; at += kChunk) {
      const int32_t n = least(c.block - at, kChunk);
      sum_pixels(from + at, n, some, stride, r.sums);
      total += reduce_sum(add_lanes(r.sums, n));
    }
    const float mean = (float)(total / ((double)some * c.block));
    fill(r.mean, kChunk, mean);
    for (int32_t at = 0; at < c.block; at += kChunk) {
      const int32_t n = least(c.block - at, kChunk);
      sum_squares(from + at, n, c.cols, stride, r.mean, r.sums, r.squares);
      missed += reduce_sum(add_lanes(r.sums, n));
      squares += reduce_sum(add_lanes(r.squares, n));
    }
    squares -= missed * missed * share;
    out[2 * b] = (float)(mean + missed * share);
    out[2 * b + 1] = (float)(squares > 0 ? squares : 0);
  }
}

} // namespace

int run_norm_partials(const NormPartialsCommand &c, Bases bases, int32_t thread, int32_t threads) {
  const float *source = address<const float>(c.source, bases);
  float *out = address<float>(c.out, bases);
  RowStatistics r;
  const auto statistics = c.block > kChunk ? wide_row_statistics : row_statistics;
  const int32_t blocks = c.channels / c.block;
  const int64_t rows = (int64_t)c.frames * c.rows;
  // Whole rows, or where there are few, a range of blocks of each.
  const int32_t parts = rows >= 4 * (int64_t)threads ? 1 : least(blocks, threads);
  const Share share = share_of(rows * parts, thread, threads);
  for (int64_t i = share.begin; i < share.end; ++i) {
    const int64_t f = i / parts / c.rows, y = i / parts % c.rows;
    const int32_t part = (int32_t)(i % parts);
    statistics(r, source + element(c.source, f, y, 0), c, part_begin(blocks, parts, part),
               part_begin(blocks, parts, part + 1), out + element(c.out, f, y, 0));
  }
  return SLUICE_OK;
}

int run_norm_fold(const NormFoldCommand &c, Bases bases, int32_t thread, int32_t threads) {
  const float *partials[2];
  for (int s = 0; s < 2; ++s)
    partials[s] = s < c.sources ? address<const float>(c.partials[s], bases) : nullptr;
  const float *gamma = address<const float>(c.gamma, bases),
              *beta = address<const float>(c.beta, bases);
  float *out = address<float>(c.out, bases);
  const int32_t channels = c.source_channels[0] + (c.sources > 1 ? c.source_channels[1] : 0);
  const int32_t width = channels / c.groups;
  const int32_t merged = c.frames_out == c.frames ? 1 : c.frames; // frames that share one result

  const Share share = share_of((int64_t)c.frames_out * c.groups, thread, threads);
  for (int64_t item = share.begin; item < share.end; ++item) {
    const int32_t frame = (int32_t)(item / c.groups), group = (int32_t)(item % c.groups);
    const int32_t low = group * width, high = low + width;
    // Blocks of each source inside the group's channels.
    int32_t first[2] = {}, last[2] = {};
    for (int s = 0, begin = 0; s < c.sources; begin += c.source_channels[s], ++s) {
      const int32_t a = low > begin ? low - begin : 0,
                    b = least(high - begin, c.source_channels[s]);
      if (a < b) first[s] = a / c.block[s], last[s] = ceil_div(b, c.block[s]);
    }
    const auto each = [&](auto body) {
      for (int32_t f = 0; f < merged; ++f) {
        for (int32_t y = 0; y < c.rows; ++y) {
          for (int s = 0; s < c.sources; ++s) {
            const float *p = partials[s] + element(c.partials[s], frame + f, y, 0);
            for (int32_t b = first[s]; b < last[s]; ++b)
              body((double)c.cols * c.block[s], p[2 * b], p[2 * b + 1]);
          }
        }
      }
    };
    // About the first block's mean: in double nothing is lost by what that misses.
    const int s0 = first[0] < last[0] ? 0 : 1;
    const double about = partials[s0][element(c.partials[s0], frame, 0, 0) + 2 * first[s0]];
    double count = 0, sum = 0, squares = 0;
    each([&](double n, double part, double m2) {
      const double off = n * (part - about);
      count += n, sum += off, squares += m2 + off * (part - about);
    });
    const double missed = sum / count, mean = about + missed;
    const double variance = squares / count - missed * missed;
    const double rstd = 1.0 / __builtin_sqrt((variance < 0 ? 0 : variance) + (double)c.eps);
    float *scale = out + (int64_t)frame * c.out.stride_f, *shift = scale + channels;
    for (int32_t i = low; i < high; ++i) {
      const double factor = (gamma ? gamma[i] : 1.0) * rstd;
      scale[i] = (float)factor;
      shift[i] = (float)((beta ? beta[i] : 0.0) - mean * factor);
    }
  }
  return SLUICE_OK;
}

namespace {

template <Act kAct>
void affine_pixel(float *out, const float *x, const float *scale, const float *shift, int32_t n,
                  bool past) {
  for_lanes(n, [&](int32_t i, int32_t lanes) SLUICE_INLINE {
    const f32x16 y =
        fma(load_some(x + i, lanes), load_some(scale + i, lanes), load_some(shift + i, lanes));
    Writer::store(out + i, activate(y, kAct), lanes, past);
  });
}

using AffinePixel = void (*)(float *, const float *, const float *, const float *, int32_t, bool);

AffinePixel affine_pixel_for(Act act) {
  switch (act) {
    case Act::silu:
      return affine_pixel<Act::silu>;
    case Act::gelu:
      return affine_pixel<Act::gelu>;
    case Act::quick_gelu:
      return affine_pixel<Act::quick_gelu>;
    case Act::gelu_tanh:
      return affine_pixel<Act::gelu_tanh>;
    case Act::sigmoid:
      return affine_pixel<Act::sigmoid>;
    default:
      return affine_pixel<Act::none>;
  }
}

} // namespace

int run_affine(const AffineCommand &c, Bases bases, int32_t thread, int32_t threads) {
  const float *source[2];
  for (int s = 0; s < 2; ++s)
    source[s] = s < c.sources ? address<const float>(c.source[s], bases) : nullptr;
  const float *affine = address<const float>(c.affine, bases);
  float *out = address<float>(c.out, bases);
  const int32_t channels = c.source_channels[0] + (c.sources > 1 ? c.source_channels[1] : 0);
  const AffinePixel apply = affine_pixel_for(c.act);
  const Writer writer((int64_t)c.frames * c.rows * c.cols * channels);
  const Share share = share_of((int64_t)c.frames * c.rows * c.cols, thread, threads);
  Position pixel(share.begin, c.rows, c.cols);
  for (int64_t i = share.begin; i < share.end; ++i, pixel.next()) {
    const float *scale = affine + pixel.f * c.affine.stride_f;
    float *to = out + pixel.in(c.out);
    for (int s = 0, at = 0; s < c.sources; at += c.source_channels[s], ++s) {
      apply(to + at, source[s] + pixel.in(c.source[s]), scale + at, scale + channels + at,
            c.source_channels[s], writer.past(to + at));
    }
  }
  return SLUICE_OK;
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
