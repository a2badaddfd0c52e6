/** @file Group norm in three steps (partial statistics, merge, apply) and layer norm. */
#include "cpu/kernels/support.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {
namespace {

constexpr int32_t kChunk = 1024; // channels whose sums are on the stack at a time

/** Pixels of a row whose mean the others' sums are about. */
constexpr int32_t kFirstPixels = 8;

/** How far ahead rows are fetched, in floats: past the page that a processor fetches ahead in by
 * itself. */
constexpr int32_t kAhead = 2048;

/** sums[c] += x[c], or (x[c] - mean[c])^2 with the plain deviations in `deviations`, for channels
 * [0, n) of one pixel. */
template <bool kSquares>
void add_pixel(const float *x, int32_t n, const float *mean, float *sums, float *deviations) {
  for_lanes(n, [&](int32_t i, int32_t lanes) SLUICE_INLINE {
    __builtin_prefetch(x + i + kAhead);
    f32x16 v = load_some(x + i, lanes), s = load_some(sums + i, lanes);
    if constexpr (kSquares) {
      v = v - load_some(mean + i, lanes);
      store_some(deviations + i, load_some(deviations + i, lanes) + v, lanes);
    }
    store_some(sums + i, kSquares ? fma(v, v, s) : s + v, lanes);
  });
}

/** Sums over pixels [0, cols), ascending. */
template <bool kSquares>
void sum_pixels(const float *x, int32_t n, int32_t cols, int64_t stride, const float *mean,
                float *sums, float *deviations) {
  __builtin_memset(sums, 0, (size_t)n * sizeof(float));
  if constexpr (kSquares) __builtin_memset(deviations, 0, (size_t)n * sizeof(float));
  for (int32_t p = 0; p < cols; ++p) add_pixel<kSquares>(x + p * stride, n, mean, sums, deviations);
}

double add_up(const float *x, int32_t n) {
  double total = 0;
  for (int32_t i = 0; i < n; ++i) total += x[i];
  return total;
}

struct RowStatistics {
  float mean[kChunk], sums[kChunk], deviations[kChunk];
};

/**
 * One row's blocks [first, last): sums about the mean of the row's first pixels, corrected by what
 * that missed. With n pixels, k of them first, it misses at most sqrt(n / k) standard deviations,
 * since those k alone have k missed^2 of all squares: 128 times the squares for 1024 pixels, far
 * from where float cancels.
 */
void row_statistics(RowStatistics &r, const float *x, const NormPartialsCommand &c, int32_t first,
                    int32_t last, float *out) {
  const int32_t per_piece =
      c.block < kChunk ? kChunk / c.block : 1; // whole blocks at a time, or one block in pieces
  const double count = (double)c.cols * c.block;
  const int32_t some = least(c.cols, kFirstPixels);
  const double some_count = (double)some * c.block;
  for (int32_t b = first; b < last; b += per_piece) {
    const int32_t blocks = least(per_piece, last - b), width = blocks * c.block;
    const float *from = x + (int64_t)b * c.block;
    if (width <= kChunk) {
      sum_pixels<false>(from, width, some, c.source.stride_w, nullptr, r.sums, nullptr);
      for (int32_t i = 0; i < blocks; ++i) {
        const float mean = (float)(add_up(r.sums + i * c.block, c.block) / some_count);
        for (int32_t j = 0; j < c.block; ++j) r.mean[i * c.block + j] = mean;
      }
      sum_pixels<true>(from, width, c.cols, c.source.stride_w, r.mean, r.sums, r.deviations);
      for (int32_t i = 0; i < blocks; ++i) {
        const double missed = add_up(r.deviations + i * c.block, c.block);
        const double squares = add_up(r.sums + i * c.block, c.block) - missed * missed / count;
        out[2 * (b + i)] = (float)(r.mean[i * c.block] + missed / count);
        out[2 * (b + i) + 1] = (float)(squares > 0 ? squares : 0);
      }
      continue;
    }
    double total = 0, missed = 0, squares = 0;
    for (int32_t at = 0; at < width; at += kChunk) {
      const int32_t n = least(width - at, kChunk);
      sum_pixels<false>(from + at, n, some, c.source.stride_w, nullptr, r.sums, nullptr);
      total += add_up(r.sums, n);
    }
    const float mean = (float)(total / some_count);
    for (int32_t j = 0; j < kChunk; ++j) r.mean[j] = mean;
    for (int32_t at = 0; at < width; at += kChunk) {
      const int32_t n = least(width - at, kChunk);
      sum_pixels<true>(from + at, n, c.cols, c.source.stride_w, r.mean, r.sums, r.deviations);
      missed += add_up(r.deviations, n);
      squares += add_up(r.sums, n);
    }
    squares -= missed * missed / count;
    out[2 * b] = (float)(mean + missed / count);
    out[2 * b + 1] = (float)(squares > 0 ? squares : 0);
  }
}

} // namespace

int run_norm_partials(const NormPartialsCommand &c, Bases bases, int32_t thread, int32_t threads) {
  const float *source = address<const float>(c.source, bases);
  float *out = address<float>(c.out, bases);
  RowStatistics r;
  const int32_t blocks = c.channels / c.block;
  const int64_t rows = (int64_t)c.frames * c.rows;
  // Whole rows, or where there are few, a range of blocks of each.
  const int32_t parts = rows >= 4 * (int64_t)threads ? 1 : least(blocks, threads);
  const Share share = share_of(rows * parts, thread, threads);
  for (int64_t i = share.begin; i < share.end; ++i) {
    const int64_t f = i / parts / c.rows, y = i / parts % c.rows;
    const int32_t part = (int32_t)(i % parts);
    row_statistics(r, source + element(c.source, f, y, 0), c, part_begin(blocks, parts, part),
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
    double count = 0, sum = 0, squares = 0;
    each([&](double n, double mean, double) { count += n, sum += n * mean; });
    const double mean = sum / count;
    each([&](double n, double part, double m2) {
      squares += m2 + n * (part - mean) * (part - mean);
    });
    const double rstd = 1.0 / __builtin_sqrt(squares / count + (double)c.eps);
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

struct Moments {
  float mean, variance;
};

/** Of n numbers, read once: about the mean of the first sixteen, which misses at most sqrt(n / 16)
 * standard deviations (see row_statistics). In four registers. */
inline Moments moments_of(const float *x, int32_t n) {
  const int32_t some = least(n, 16);
  const float first = reduce_sum(keep_lanes(load_some(x, some), some, 0.0f)) / (float)some;
  const f32x16 shift = splat(first);
  f32x16 sums[4] = {zero(), zero(), zero(), zero()}, squares[4] = {zero(), zero(), zero(), zero()};
  const auto add = [&](int j, f32x16 v) SLUICE_INLINE {
    sums[j] = sums[j] + v;
    squares[j] = fma(v, v, squares[j]);
  };
  int32_t i = 0;
  for (; i + 64 <= n; i += 64) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) add(j, load(x + i + 16 * j) - shift);
  }
  for_lanes(n - i, [&](int32_t at, int32_t lanes) SLUICE_INLINE {
    const f32x16 v = load_some(x + i + at, lanes) - shift;
    add(0, lanes < 16 ? keep_lanes(v, lanes, 0.0f) : v);
  });
  const float missed = reduce_sum((sums[0] + sums[1]) + (sums[2] + sums[3])) / (float)n;
  const float square = reduce_sum((squares[0] + squares[1]) + (squares[2] + squares[3])) / (float)n;
  const float variance = square - missed * missed;
  return {first + missed, variance > 0.0f ? variance : 0.0f};
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
  for (int64_t i = share.begin; i < share.end; ++i) {
    const int64_t x = i % c.cols, y = i / c.cols % c.rows, f = i / c.cols / c.rows;
    const float *scale = affine + f * c.affine.stride_f;
    float *to = out + element(c.out, f, y, x);
    for (int s = 0, at = 0; s < c.sources; at += c.source_channels[s], ++s) {
      apply(to + at, source[s] + element(c.source[s], f, y, x), scale + at, scale + channels + at,
            c.source_channels[s], writer.past(to + at));
    }
  }
  return SLUICE_OK;
}

int run_layer_norm(const LayerNormCommand &c, Bases bases, int32_t thread, int32_t threads) {
  const float *source = address<const float>(c.source, bases),
              *add = address<const float>(c.add, bases);
  const float *gamma = address<const float>(c.gamma, bases),
              *beta = address<const float>(c.beta, bases);
  float *out = address<float>(c.out, bases);
  const int32_t n = c.channels;
  const Writer writer((int64_t)c.frames * c.rows * c.cols * n);
  const Share share = share_of((int64_t)c.frames * c.rows * c.cols, thread, threads);
  for (int64_t t = share.begin; t < share.end; ++t) {
    const int64_t w = t % c.cols, h = t / c.cols % c.rows, f = t / c.cols / c.rows;
    const float *x = source + element(c.source, f, h, w);
    const float *plus = add ? add + element(c.add, f, h, w) : nullptr;
    float *to = out + element(c.out, f, h, w);
    const bool past = writer.past(to);
    const Moments moments = moments_of(x, n);
    const f32x16 m = splat(moments.mean);
    const f32x16 rstd = splat(1.0f / __builtin_sqrtf(moments.variance + c.eps));
    for_lanes(n, [&](int32_t i, int32_t lanes) SLUICE_INLINE {
      f32x16 y = (load_some(x + i, lanes) - m) * rstd;
      if (gamma) y = y * load_some(gamma + i, lanes);
      if (beta) y = y + load_some(beta + i, lanes);
      if (plus) y = y + load_some(plus + i, lanes);
      Writer::store(to + i, y, lanes, past);
    });
  }
  return SLUICE_OK;
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
