/**
 * @file
 * Layer norm. While one row is written, the sums of the next but one are taken: the first waits for
 * stores, the second for memory, and between them there is time to finish the sums of the next.
 */
#include "cpu/kernels/support.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {
namespace {

/** How far ahead rows are fetched, in floats. */
constexpr int32_t kAhead = 2048;

/** Sums over a row of x - about and of its squares, lanes apart. */
struct Row {
  const float *x;
  float about;
  f32x16 sum, square;
};

/** About the mean of the first sixteen, which misses at most sqrt(n / 16) standard deviations (see
 * row_statistics in norm.cpp). */
inline Row row_at(const float *x, int32_t n) {
  const int32_t some = least(n, 16);
  const float about = reduce_sum(load_some(x, some)) * (1.0f / (float)some);
  return {x, about, zero(), zero()};
}

struct Moments {
  float mean, rstd;
};

inline Moments moments_of(const Row &row, int32_t n, float eps) {
  const float share = 1.0f / (float)n;
  const float missed = reduce_sum(row.sum) * share;
  const float variance = reduce_sum(row.square) * share - missed * missed;
  const float positive = variance > 0.0f ? variance : 0.0f;
  return {row.about + missed, 1.0f / __builtin_sqrtf(positive + eps)};
}

/** Where a row goes, and what it is multiplied by and added to. */
struct Target {
  float *out;
  const float *gamma, *beta, *add;
  bool past;
};

enum class Writes { nothing, row, row_and_add };

/** Takes the sums of a row of n numbers, and writes another by its moments. */
template <Writes kWrites>
SLUICE_INLINE inline void take_turn(Row &row, int32_t n, const float *x, Moments moments,
                                    Target t) {
  const float *const from = row.x;
  const f32x16 about = splat(row.about), mean = splat(moments.mean), rstd = splat(moments.rstd);
  f32x16 sums[2] = {zero(), zero()}, squares[2] = {zero(), zero()};
  const auto step = [&](int32_t i, int32_t lanes, int32_t half) SLUICE_INLINE {
    __builtin_prefetch(from + i + kAhead);
    f32x16 v = load_some(from + i, lanes) - about;
    if (lanes < 16) v = keep_lanes(v, lanes, 0.0f);
    sums[half] = sums[half] + v;
    squares[half] = fma(v, v, squares[half]);
    if constexpr (kWrites != Writes::nothing) {
      const f32x16 y = fma((load_some(x + i, lanes) - mean) * rstd, load_some(t.gamma + i, lanes),
                           load_some(t.beta + i, lanes));
      if constexpr (kWrites == Writes::row_and_add)
        Writer::store(t.out + i, y + load_some(t.add + i, lanes), lanes, t.past);
      else
        Writer::store(t.out + i, y, lanes, t.past);
    }
  };
  int32_t i = 0;
  for (; i + 32 <= n; i += 32) step(i, 16, 0), step(i + 16, 16, 1);
  for_lanes(n - i, [&](int32_t at, int32_t lanes) SLUICE_INLINE { step(i + at, lanes, 0); });
  row.sum = sums[0] + sums[1];
  row.square = squares[0] + squares[1];
}

template <Writes kWrites>
void normalise(const LayerNormCommand &c, Bases bases, Share share, const Writer &writer) {
  const float *const source = address<const float>(c.source, bases);
  const float *const add = address<const float>(c.add, bases);
  const float *const gamma = address<const float>(c.gamma, bases);
  const float *const beta = address<const float>(c.beta, bases);
  float *const out = address<float>(c.out, bases);
  const int32_t n = c.channels;
  // Behind the last row comes the last row again.
  Position written(share.begin, c.rows, c.cols), read = written;
  int64_t unread = share.end - share.begin;
  const auto next = [&] {
    const Row row = row_at(source + read.in(c.source), n);
    if (--unread > 0) read.next();
    return row;
  };
  Row row = next();
  take_turn<Writes::nothing>(row, n, nullptr, Moments(), Target());
  Row following = next();
  take_turn<Writes::nothing>(following, n, nullptr, Moments(), Target());
  for (int64_t t = share.begin; t < share.end; ++t, written.next()) {
    const Moments moments = moments_of(row, n, c.eps);
    const float *const x = row.x;
    row = following;
    following = next();
    float *const to = out + written.in(c.out);
    const float *const plus = add ? add + written.in(c.add) : nullptr;
    take_turn<kWrites>(following, n, x, moments, {to, gamma, beta, plus, writer.past(to)});
  }
}

} // namespace

int run_layer_norm(const LayerNormCommand &c, Bases bases, int32_t thread, int32_t threads) {
  const int64_t rows = (int64_t)c.frames * c.rows * c.cols;
  const Writer writer(rows * c.channels);
  const Share share = share_of(rows, thread, threads);
  if (share.begin == share.end) return SLUICE_OK;
  const auto run = c.add.slot < 0 ? normalise<Writes::row> : normalise<Writes::row_and_add>;
  run(c, bases, share, writer);
  return SLUICE_OK;
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
