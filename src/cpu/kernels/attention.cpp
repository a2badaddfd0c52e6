/**
 * @file
 * Softmax attention. A unit is a block of queries of one head of one batch item; keys and values
 * pass block by block, packed as panels in this thread's scratch, and register tiles of queries go
 * through scores, online softmax and values while they are near. Key blocks begin at fixed places,
 * so a row's result does not depend on the rows beside it.
 */
#include "cpu/kernels/register_tile.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {
namespace {

constexpr int32_t kScoreRows = 8; // that scratch has room for, whatever the instruction set
static_assert(kTileRows <= kScoreRows);

struct Attention {
  const AttentionCommand &c;
  const float *q, *k, *v;
  float *out;
  float *key_panels;     ///< [block_k / 16][head_dim][16]
  float *value_panels;   ///< [ceil16(head_dim) / 16][block_k][16]
  float *scores;         ///< of one register tile: kTileRows rows, scores_stride apart
  float *sums;           ///< [block_q][ceil16(head_dim)]
  float *queries;        ///< [block_q][head_dim], times `scale`
  float *peaks;          ///< [block_q] largest score so far
  float *weights;        ///< [block_q] sum of exponentials so far
  int64_t scores_stride; ///< attention_scores_stride
  float scale;           ///< of scores, whose exponentials are powers of two
  int32_t width;         ///< ceil16(head_dim)
  int32_t tokens, key_tokens, batch;

  Attention(const AttentionCommand &command, Bases bases, int32_t thread);
};

Attention::Attention(const AttentionCommand &command, Bases bases, int32_t thread) : c(command) {
  q = address<const float>(c.q, bases);
  k = address<const float>(c.k, bases);
  v = address<const float>(c.v, bases);
  out = address<float>(c.out, bases);
  scale = c.scale * 1.44269504f;
  width = ceil16(c.head_dim);
  tokens = c.time ? c.frames : c.rows * c.cols;
  key_tokens = c.time ? c.key_frames : c.key_rows * c.key_cols;
  batch = c.time ? c.rows * c.cols : c.frames;
  float *at = (float *)(address<char>(c.scratch, bases) + (uint64_t)thread * c.scratch_bytes);
  key_panels = at, at += (int64_t)c.block_k * c.head_dim;
  value_panels = at, at += (int64_t)c.block_k * width;
  scores_stride = attention_scores_stride(c.block_k);
  scores = at, at += kScoreRows * scores_stride;
  sums = at, at += (int64_t)c.block_q * width;
  queries = at, at += (int64_t)c.block_q * c.head_dim;
  peaks = at, at += c.block_q;
  weights = at;
}

/** The tokens of one batch item and head. */
template <class T>
struct Tokens {
  T *first;
  int64_t step, line_step;
  int32_t per_line; ///< 0: all tokens are `step` apart

  T *at(int32_t token) const {
    if (per_line == 0) return first + token * step;
    return first + token / per_line * line_step + token % per_line * step;
  }
};

template <class T>
Tokens<T> tokens_of(const Attention &a, T *base, const View &view, int32_t cols, int32_t item,
                    int32_t head) {
  T *const channel = base + (int64_t)head * a.c.head_dim;
  if (a.c.time)
    return {channel + element(view, 0, item / a.c.cols, item % a.c.cols), view.stride_f, 0, 0};
  const bool even = view.stride_h == (int64_t)cols * view.stride_w;
  return {channel + element(view, item, 0, 0), view.stride_w, view.stride_h, even ? 0 : cols};
}

/** Token rows lie far apart, where the processor does not foresee them. */
void fetch(const float *p, int32_t n) {
  for (int32_t i = 0; i < n; i += 16) __builtin_prefetch(p + i);
}

/**
 * Query rows, scaled, so that scores need no product. The last store of a row runs over into the
 * next row, then into `peaks`, both written later: a masked store would stall the loads that follow
 * it.
 */
void pack_queries(const Attention &a, int32_t item, int32_t head, int32_t first, int32_t count) {
  const int32_t d = a.c.head_dim;
  const Tokens<const float> tokens = tokens_of(a, a.q, a.c.q, a.c.cols, item, head);
  const f32x16 scale = splat(a.scale);
  for (int32_t i = 0; i < count; ++i) {
    const float *from = tokens.at(first + i);
    float *to = a.queries + (int64_t)i * d;
    fetch(tokens.at(first + least(i + 8, count - 1)), d);
    for_lanes(d, [&](int32_t x, int32_t lanes)
                     SLUICE_INLINE { store(to + x, load_some(from + x, lanes) * scale); });
  }
}

void pack_keys(const Attention &a, int32_t item, int32_t head, int32_t first, int32_t count) {
  const int32_t d = a.c.head_dim;
  const Tokens<const float> tokens = tokens_of(a, a.k, a.c.k, a.c.key_cols, item, head);
  const float *rows[kPanel];
  for (int32_t panel = 0; panel * kPanel < count; ++panel) {
    for (int32_t i = 0; i < kPanel; ++i) { // absent keys repeat the last one; softmax masks them
      rows[i] = tokens.at(first + least(panel * kPanel + i, count - 1));
      fetch(tokens.at(first + least((panel + 1) * kPanel + i, count - 1)), d);
    }
    float *to = a.key_panels + (int64_t)panel * d * kPanel;
    for_lanes(d, [&](int32_t x, int32_t lanes) SLUICE_INLINE {
      f32x16 block[kPanel];
      for (int32_t i = 0; i < kPanel; ++i) block[i] = load_some(rows[i] + x, lanes);
      transpose(block);
      for (int32_t i = 0; i < lanes; ++i) store(to + (x + i) * kPanel, block[i]);
    });
  }
}

void pack_values(const Attention &a, int32_t item, int32_t head, int32_t first, int32_t count) {
  const int32_t d = a.c.head_dim;
  const Tokens<const float> tokens = tokens_of(a, a.v, a.c.v, a.c.key_cols, item, head);
  const int64_t panel_stride = a.c.block_k;
  for (int32_t i = 0; i < count; ++i) {
    const float *from = tokens.at(first + i);
    float *to = a.value_panels + (int64_t)i * kPanel;
    fetch(tokens.at(first + least(i + 12, count - 1)), d);
    for_lanes(d, [&](int32_t x, int32_t lanes)
                     SLUICE_INLINE { store(to + x * panel_stride, load_some(from + x, lanes)); });
  }
}

/**
 * Scores of one row to 2^(score - new peak), zero for keys from `visible` to `count`; returns the
 * factor that earlier sums of the row take.
 */
float soften(float *scores, int32_t visible, int32_t count, float &peak, float &weight) {
  float factor = 1.0f;
  if (visible > 0) {
    f32x16 most = splat(-__builtin_inff());
    for_lanes(visible, [&](int32_t i, int32_t lanes) SLUICE_INLINE {
      const f32x16 s = load(scores + i);
      most = max(most, lanes == 16 ? s : keep_lanes(s, lanes, -__builtin_inff()));
    });
    const float row_most = reduce_max(most), new_peak = row_most > peak ? row_most : peak;
    const f32x16 base = splat(new_peak);
    f32x16 total = zero();
    for_lanes(visible, [&](int32_t i, int32_t lanes) SLUICE_INLINE {
      f32x16 p = exp2(load(scores + i) - base);
      if (lanes < 16) p = keep_lanes(p, lanes, 0.0f);
      store(scores + i, p);
      total = total + p;
    });
    if (peak < new_peak) {
      alignas(64) float lanes[16];
      store(lanes, exp2(splat(peak) - base));
      factor = lanes[0];
    }
    weight = weight * factor + reduce_sum(total);
    peak = new_peak;
  }
  for (int32_t i = ceil16(visible); i < count; i += 16) store(scores + i, zero());
  return factor;
}

/** Queries [row, row + rows) of the block against the packed keys [key, key + count). */
void attend(const Attention &a, int32_t first_query, int32_t row, int32_t rows, int32_t key,
            int32_t count) {
  const int32_t d = a.c.head_dim;
  int32_t visible[kTileRows], seen = 0;
  for (int32_t i = 0; i < rows; ++i) {
    const int64_t last = (int64_t)a.c.query0 + first_query + row + i;
    const int64_t limit = a.c.causal ? last + 1 - key : count;
    visible[i] = limit < 0 ? 0 : (int32_t)least(limit, (int64_t)count);
    if (visible[i] > seen) seen = visible[i];
  }
  if (seen == 0) return;

  const EvenRows queries(d), scores(a.scores_stride), sums(a.width);
  TileJob job;
  job.rows = a.queries + (int64_t)row * d;
  job.row_at = queries.at;
  job.set_sums(a.scores, scores.at);
  job.from_zero = true;
  multiply_rows<float>(job, straight_walk(d), rows, ceil_div(seen, kPanel), a.key_panels,
                       (int64_t)d * kPanel);

  for (int32_t i = 0; i < rows; ++i) {
    float *own = a.sums + (int64_t)(row + i) * a.width;
    const float factor = soften(a.scores + i * a.scores_stride, visible[i], seen, a.peaks[row + i],
                                a.weights[row + i]);
    if (key > 0 && factor != 1.0f) {
      const f32x16 f = splat(factor);
      for (int32_t x = 0; x < a.width; x += 16) store(own + x, load(own + x) * f);
    }
  }

  job.rows = a.scores;
  job.row_at = scores.at;
  job.set_sums(a.sums + (int64_t)row * a.width, sums.at);
  job.from_zero = key == 0;
  multiply_rows<float>(job, straight_walk(seen), rows, a.width / kPanel, a.value_panels,
                       (int64_t)a.c.block_k * kPanel);
}

/** A block of queries against all keys, whose panels are packed where `pack`. */
void attend_block(const Attention &a, int32_t item, int32_t head, int32_t first, int32_t count,
                  bool pack) {
  pack_queries(a, item, head, first, count);
  for (int32_t i = 0; i < count; ++i) a.peaks[i] = -__builtin_inff(), a.weights[i] = 0.0f;
  const int32_t tiles = ceil_div(count, kTileRows);
  for (int32_t key = 0; key < a.key_tokens; key += a.c.block_k) {
    const int32_t keys = least(a.key_tokens - key, a.c.block_k);
    if (a.c.causal && (int64_t)key > (int64_t)a.c.query0 + first + count - 1) break;
    if (pack) {
      pack_keys(a, item, head, key, keys);
      pack_values(a, item, head, key, keys);
    }
    for (int32_t t = 0; t < tiles; ++t) {
      const int32_t row = part_begin(count, tiles, t);
      attend(a, first, row, part_begin(count, tiles, t + 1) - row, key, keys);
    }
  }
}

// ------------------------------------------------------------------------------------------------
// Few keys: scores and sums are kept with a query to a lane, so that softmax needs no sums across
// lanes, and only queries and results are transposed.

constexpr int32_t kFewPanels = kTilePanels > 1 ? 2 : 1; // of 16 queries at a time
constexpr int32_t kFewKeys = 128;                       // at most
constexpr int32_t kFewChannels = 160;                   // of a head, at most

/** Decided by the operation alone, never by the slice: the two ways round differently. */
bool has_few_keys(const Attention &a) {
  return a.key_tokens <= least(kFewKeys, a.c.block_k) && a.c.head_dim <= kFewChannels;
}

/** Keys as [key][head_dim] in key_panels, values as [head_dim][block_k] in value_panels. */
void pack_few(const Attention &a, const Tokens<const float> &keys,
              const Tokens<const float> &values) {
  const int32_t d = a.c.head_dim, count = a.key_tokens;
  for (int32_t i = 0; i < count;
       ++i) { // a row's last store may run over into the next row, then into value_panels
    const float *from = keys.at(i);
    float *to = a.key_panels + (int64_t)i * d;
    fetch(keys.at(least(i + 4, count - 1)), d);
    for_lanes(d, [&](int32_t x, int32_t lanes)
                     SLUICE_INLINE { store(to + x, load_some(from + x, lanes)); });
  }
  for (int32_t key = 0; key < count; key += kPanel) {
    const float *rows[kPanel];
    for (int32_t i = 0; i < kPanel; ++i) // absent values repeat the last one and are never read
      rows[i] = values.at(least(key + i, count - 1));
    for_lanes(d, [&](int32_t x, int32_t lanes) SLUICE_INLINE {
      f32x16 block[kPanel];
      for (int32_t i = 0; i < kPanel; ++i) block[i] = load_some(rows[i] + x, lanes);
      transpose(block);
      for (int32_t i = 0; i < lanes; ++i)
        store(a.value_panels + (int64_t)(x + i) * a.c.block_k + key, block[i]);
    });
  }
}

/** Softmax over rows of scores, `step` apart, of 16 queries each; returns the sums of the
 * exponentials. */
f32x16 soften_lanes(float *scores, int32_t step, int32_t keys) {
  f32x16 peak = load(scores);
  for (int32_t i = 1; i < keys; ++i) peak = max(load(scores + i * step), peak);
  f32x16 total = zero();
  for (int32_t i = 0; i < keys; ++i) {
    const f32x16 p = exp2(load(scores + i * step) - peak);
    store(scores + i * step, p);
    total = total + p;
  }
  return total;
}

/**
 * Queries [first, first + rows), more than 16 (kPanels - 1), at most 16 kPanels, against all packed
 * keys. `out` may be `tokens`.
 * @param position of the first query among the keys, for the causal mask
 */
template <int kPanels>
void attend_few(const Attention &a, const Tokens<const float> &tokens, const Tokens<float> &out,
                int32_t first, int32_t rows, int32_t position) {
  const int32_t d = a.c.head_dim, keys = a.key_tokens;
  constexpr int32_t kWidth = kPanels * kPanel;
  // First the queries, then the sums, as [head_dim][kWidth queries].
  alignas(64) float lanes_of[kFewChannels * kWidth], scores[kFewKeys * kWidth];
  const f32x16 scale = splat(a.scale);
  for (int32_t column = 0; column < kWidth; column += kPanel) {
    const float *from[kPanel];
    for (int32_t i = 0; i < kPanel; ++i) from[i] = tokens.at(first + least(column + i, rows - 1));
    for_lanes(d, [&](int32_t x, int32_t lanes) SLUICE_INLINE {
      f32x16 block[kPanel];
      for (int32_t i = 0; i < kPanel; ++i) block[i] = load_some(from[i] + x, lanes) * scale;
      transpose(block);
      for (int32_t i = 0; i < lanes; ++i) store(lanes_of + (x + i) * kWidth + column, block[i]);
    });
  }

  const EvenRows key_rows(d), value_rows(a.c.block_k), lane_rows(kWidth);
  TileJob job;
  job.from_zero = true;
  job.row_at = key_rows.at;
  const int32_t key_tiles = ceil_div(keys, kTileRows);
  for (int32_t t = 0; t < key_tiles; ++t) {
    const int32_t key = part_begin(keys, key_tiles, t), end = part_begin(keys, key_tiles, t + 1);
    job.rows = a.key_panels + (int64_t)key * d;
    job.set_sums(scores + key * kWidth, lane_rows.at);
    tile_kernel_for<float, kWidth>(end - key, kPanels)(job, straight_walk(d), lanes_of, kPanel, 0);
  }
  if (a.c.causal) {
    alignas(64) static constexpr float kLane[16] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                    8, 9, 10, 11, 12, 13, 14, 15};
    for (int32_t column = 0; column < kWidth; column += kPanel) {
      // Lane 0 sees the keys up to its own position.
      const int32_t own = position + column;
      for (int32_t i = own + 1 > 0 ? own + 1 : 0; i < keys; ++i) {
        float *s = scores + i * kWidth + column;
        store(s,
              select_less(load(kLane), splat((float)(i - own)), splat(-__builtin_inff()), load(s)));
      }
    }
  }
  f32x16 inverse[kPanels];
  for (int32_t p = 0; p < kPanels; ++p)
    inverse[p] = splat(1.0f) / soften_lanes(scores + p * kPanel, kWidth, keys);

  job.row_at = value_rows.at;
  const int32_t tiles = ceil_div(d, kTileRows);
  for (int32_t t = 0; t < tiles; ++t) {
    const int32_t x = part_begin(d, tiles, t), end = part_begin(d, tiles, t + 1);
    job.rows = a.value_panels + (int64_t)x * a.c.block_k;
    job.set_sums(lanes_of + x * kWidth, lane_rows.at);
    tile_kernel_for<float, kWidth>(end - x, kPanels)(job, straight_walk(keys), scores, kPanel, 0);
  }
  for (int32_t p = 0; p < kPanels; ++p) {
    const float *column = lanes_of + p * kPanel;
    const int32_t own = least(rows - p * kPanel, kPanel);
    for_lanes(d, [&](int32_t x, int32_t lanes) SLUICE_INLINE {
      f32x16 block[kPanel];
      for (int32_t i = 0; i < kPanel; ++i)
        block[i] = i < lanes ? fma(load(column + (x + i) * kWidth), inverse[p], zero()) : zero();
      transpose(block);
      for (int32_t i = 0; i < own; ++i)
        store_some(out.at(first + p * kPanel + i) + x, block[i], lanes);
    });
  }
}

/** All queries [first, first + count) against few keys, a register's or two at a time. */
void attend_few_all(const Attention &a, const Tokens<const float> &tokens, const Tokens<float> &out,
                    int32_t first, int32_t count) {
  for (int32_t row = 0; row < count;) {
    const int32_t left = count - row, position = a.c.query0 + first + row;
    if (left > kPanel && kFewPanels > 1) {
      const int32_t rows = least(left, kFewPanels * kPanel);
      attend_few<kFewPanels>(a, tokens, out, first + row, rows, position);
      row += rows;
    } else {
      const int32_t rows = least(left, kPanel);
      attend_few<1>(a, tokens, out, first + row, rows, position);
      row += rows;
    }
  }
}

constexpr int32_t kTimeTokens = 32; // frames, at most,
constexpr int32_t kTimeChannels =
    160; // and channels of some heads, at most, that are copied at once

/** Copies rows that lie far apart, each whole, so that a line of memory is used once and at once.
 */
void copy_rows(float *to, int64_t to_step, const float *from, int64_t from_step, int32_t rows,
               int32_t n) {
  for (int32_t i = 0; i < rows; ++i, to += to_step, from += from_step) {
    if (i + 2 < rows) fetch(from + 2 * from_step, n);
    for_lanes(n, [&](int32_t x, int32_t lanes)
                     SLUICE_INLINE { store_some(to + x, load_some(from + x, lanes), lanes); });
  }
}

/**
 * Attention over few frames: a unit is a pixel and some heads, whose rows are gathered first.
 * Frames of a video lie multiples of the caches' period apart, so that rows of a head at a time
 * would push each other out.
 */
int attend_time(const Attention &a, const volatile uint8_t *stop, int32_t thread, int32_t threads) {
  const AttentionCommand &c = a.c;
  const int32_t d = c.head_dim, together = least(c.heads, kTimeChannels / d);
  const int32_t groups = ceil_div(c.heads, together);
  alignas(64) float q[kTimeTokens * kTimeChannels], k[kTimeTokens * kTimeChannels],
      v[kTimeTokens * kTimeChannels];
  const Share share = share_of((int64_t)a.batch * groups, thread, threads);
  for (int64_t unit = share.begin; unit < share.end; ++unit) {
    if (*stop) return SLUICE_ABORTED;
    const int32_t item = (int32_t)(unit / groups), group = (int32_t)(unit % groups);
    const int32_t head = part_begin(c.heads, groups, group);
    const int32_t heads = part_begin(c.heads, groups, group + 1) - head, n = heads * d;
    const auto rows_of = [&](const View &view) {
      return element(view, 0, item / c.cols, item % c.cols) + (int64_t)head * d;
    };
    copy_rows(q, n, a.q + rows_of(c.q), c.q.stride_f, a.tokens, n);
    copy_rows(k, n, a.k + rows_of(c.k), c.k.stride_f, a.key_tokens, n);
    copy_rows(v, n, a.v + rows_of(c.v), c.v.stride_f, a.key_tokens, n);
    for (int32_t h = 0; h < heads; ++h) {
      pack_few(a, {k + h * d, n, 0, 0}, {v + h * d, n, 0, 0});
      attend_few_all(a, {q + h * d, n, 0, 0}, {q + h * d, n, 0, 0}, 0, a.tokens);
    }
    copy_rows(a.out + rows_of(c.out), c.out.stride_f, q, n, a.tokens, n);
  }
  return SLUICE_OK;
}

// ------------------------------------------------------------------------------------------------

void write_out(const Attention &a, int32_t item, int32_t head, int32_t first, int32_t count) {
  const int32_t d = a.c.head_dim;
  const Tokens<float> tokens = tokens_of(a, a.out, a.c.out, a.c.cols, item, head);
  for (int32_t i = 0; i < count; ++i) {
    float *to = tokens.at(first + i);
    const float *sums = a.sums + (int64_t)i * a.width;
    const f32x16 inverse = splat(1.0f / a.weights[i]);
    // A masked key may turn the sign of a zero sum, depending on the rows beside: adding +0 makes
    // both the same.
    for_lanes(d, [&](int32_t x, int32_t lanes) SLUICE_INLINE {
      store_some(to + x, fma(load(sums + x), inverse, zero()), lanes);
    });
  }
}

} // namespace

int run_attention(const AttentionCommand &c, Bases bases, int32_t thread, int32_t threads) {
  const Attention a(c, bases, thread);
  // Of whole register tiles.
  const int32_t blocks = ceil_div(a.tokens, c.block_q), eights = ceil_div(a.tokens, kScoreRows);
  const int64_t heads = (int64_t)a.batch * c.heads;
  const bool few = has_few_keys(a);
  if (few && c.time && a.tokens <= kTimeTokens && a.key_tokens <= kTimeTokens)
    return attend_time(a, bases.stop, thread, threads);
  const Share share = share_of(heads * blocks, thread, threads);
  int64_t packed = -1; // the (item, head) whose only key block is in scratch
  for (int64_t unit = share.begin; unit < share.end; ++unit) {
    if (*bases.stop) return SLUICE_ABORTED;
    const int64_t item_head = unit / blocks;
    const int32_t block = (int32_t)(unit % blocks);
    const int32_t item = (int32_t)(item_head / c.heads), head = (int32_t)(item_head % c.heads);
    const int32_t first = kScoreRows * part_begin(eights, blocks, block);
    const int32_t end = least(kScoreRows * part_begin(eights, blocks, block + 1), a.tokens);
    const int32_t count = end - first;
    if (few) {
      if (packed != item_head) {
        pack_few(a, tokens_of(a, a.k, c.k, c.key_cols, item, head),
                 tokens_of(a, a.v, c.v, c.key_cols, item, head));
        packed = item_head;
      }
      attend_few_all(a, tokens_of(a, a.q, c.q, c.cols, item, head),
                     tokens_of(a, a.out, c.out, c.cols, item, head), first, count);
      continue;
    }
    attend_block(a, item, head, first, count, packed != item_head || a.key_tokens > c.block_k);
    packed = item_head;
    write_out(a, item, head, first, count);
  }
  return SLUICE_OK;
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
