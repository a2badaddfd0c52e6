/** @file Operands, shares of threads and conversions by dtype: what every kernel file begins with.
 */
#pragma once

#include "core/backend.h"
#include "cpu/kernels.h"
#include "cpu/kernels/simd.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {

struct Bases {
  void *const *slots;
  const volatile uint8_t *stop; ///< other than 0 once the run is aborted
};

/** First element of an operand; null where it is absent. (View's own members are inline functions
 * shared by all sets.) */
template <class T>
inline T *address(const View &view, Bases bases) {
  if (view.slot < 0) return nullptr;
  const uint64_t offset = ((uint64_t)view.offset_hi << 32) | view.offset_lo;
  return (T *)((char *)bases.slots[view.slot] + offset);
}

inline int64_t element(const View &view, int64_t f, int64_t h, int64_t w) {
  return f * view.stride_f + h * view.stride_h + w * view.stride_w;
}

inline int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }
inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int32_t ceil_div(int32_t a, int32_t b) { return (a + b - 1) / b; }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int32_t ceil16(int32_t a) { return (a + 15) & ~15; }

struct Share {
  int64_t begin, end;
};
inline Share share_of(int64_t items, int32_t thread, int32_t threads) {
  return {items * thread / threads, items * (thread + 1) / threads};
}

/** Where part i of n begins when `total` is cut into n parts whose sizes differ by one at most. */
inline int32_t part_begin(int32_t total, int32_t n, int32_t i) {
  return (int32_t)((int64_t)total * i / n);
}

inline int32_t dtype_bytes(DType dtype) {
  return dtype == DType::f16 || dtype == DType::bf16 ? 2 : 4;
}

/** For the bodies below: a call for sixteen elements costs as much as what they do. */
#define SLUICE_INLINE __attribute__((always_inline))

/** Calls body(p, lanes) for each run of up to 16 of n elements. */
template <class Body>
inline void for_lanes(int32_t n, Body body) {
  int32_t i = 0;
  for (; i + 16 <= n; i += 16) body(i, 16);
  if (i < n) body(i, n - i);
}
template <class T>
inline f32x16 load_some(const T *p, int32_t lanes) {
  return lanes == 16 ? load(p) : load_lanes(p, lanes);
}
template <class T>
inline void store_some(T *p, f32x16 a, int32_t lanes) {
  if (lanes == 16)
    store(p, a);
  else
    store_lanes(p, a, lanes);
}

/**
 * How a thread writes its share of an output that it does not read again: one that no cache holds
 * goes past them, since each line written into a cache is read from memory first.
 */
class Writer {
 public:
  explicit Writer(int64_t elements) : past_(elements >= kUncached) {}
  ~Writer() {
    if (past_) write_fence();
  }
  Writer(const Writer &) = delete;
  Writer &operator=(const Writer &) = delete;

  /** Whether elements from p on, sixteen at a time, may go past the caches. */
  bool past(const void *p) const { return past_ && ((uintptr_t)p & 63) == 0; }

  template <class T>
  static void store(T *p, f32x16 a, int32_t lanes, bool past) {
    if constexpr (__is_same(T, float)) {
      if (past && lanes == 16) {
        store_past_caches(p, a);
        return;
      }
    }
    store_some(p, a, lanes);
  }

 private:
  static constexpr int64_t kUncached = 8 << 20; // 32 MiB of float32

  const bool past_;
};

/** The i-th pixel of [frames, rows, cols], and those behind it. */
struct Position {
  int64_t f, y, x;
  int32_t rows, cols;

  Position(int64_t i, int32_t rows, int32_t cols)
      : f(i / cols / rows), y(i / cols % rows), x(i % cols), rows(rows), cols(cols) {}

  void next() {
    if (++x < cols) return;
    x = 0;
    if (++y < rows) return;
    y = 0;
    ++f;
  }
  int64_t in(const View &view) const { return element(view, f, y, x); }
};

/**
 * The [frames, rows, cols, channels] of some pointwise operands with axes merged wherever every
 * operand runs on: `count` runs of `length` contiguous elements. Strides of an axis that was merged
 * away are 0, its extent 1.
 */
template <int N>
struct Runs {
  int32_t frames, rows, cols;
  int64_t length, count;
  int64_t strides[N][3];

  int64_t offset(int operand, int64_t run) const {
    const int64_t w = run % cols, rest = run / cols;
    return rest / rows * strides[operand][0] + rest % rows * strides[operand][1] +
           w * strides[operand][2];
  }
};

/** `mergeable`: false keeps channels apart (an operand is indexed by channel). Absent operands do
 * not count. */
template <int N>
inline Runs<N> merge_runs(int32_t frames, int32_t rows, int32_t cols, int32_t channels,
                          const View *const (&views)[N], bool mergeable) {
  Runs<N> runs = {frames, rows, cols, channels, 0, {}};
  for (int i = 0; i < N; ++i) {
    const View *v = views[i];
    if (!v || v->slot < 0) continue;
    runs.strides[i][0] = v->stride_f, runs.strides[i][1] = v->stride_h,
    runs.strides[i][2] = v->stride_w;
  }
  int32_t *const extents[3] = {&runs.frames, &runs.rows, &runs.cols};
  for (int axis = 2; mergeable && axis >= 0; --axis) {
    for (int i = 0; i < N; ++i) {
      const bool present = views[i] && views[i]->slot >= 0;
      if (present && *extents[axis] > 1 && runs.strides[i][axis] != runs.length) mergeable = false;
    }
    if (!mergeable) break;
    runs.length *= *extents[axis];
    *extents[axis] = 1;
    for (int i = 0; i < N; ++i) runs.strides[i][axis] = 0;
  }
  runs.count = (int64_t)runs.frames * runs.rows * runs.cols;
  return runs;
}

/** Calls body(run, begin, end) for this thread's pieces of the runs: at most 8192 elements each,
 * cut at multiples of 16. */
template <int N, class Body>
inline void for_pieces(const Runs<N> &runs, int32_t thread, int32_t threads, Body body) {
  constexpr int64_t kPiece = 8192;
  const int64_t pieces = ceil_div(runs.length, kPiece);
  const Share share = share_of(runs.count * pieces, thread, threads);
  for (int64_t i = share.begin; i < share.end; ++i) {
    const int64_t begin = i % pieces * kPiece;
    body(i / pieces, begin, least(begin + kPiece, runs.length));
  }
}

// One function per opcode; each returns a sluice_status.
int run_conv(const ConvCommand &, Bases, int32_t thread, int32_t threads, Products);
int run_norm_partials(const NormPartialsCommand &, Bases, int32_t thread, int32_t threads);
int run_norm_fold(const NormFoldCommand &, Bases, int32_t thread, int32_t threads);
int run_affine(const AffineCommand &, Bases, int32_t thread, int32_t threads);
int run_layer_norm(const LayerNormCommand &, Bases, int32_t thread, int32_t threads);
int run_attention(const AttentionCommand &, Bases, int32_t thread, int32_t threads);
int run_binary(const BinaryCommand &, Bases, int32_t thread, int32_t threads);
int run_unary(const UnaryCommand &, Bases, int32_t thread, int32_t threads);
int run_combine(const CombineCommand &, Bases, int32_t thread, int32_t threads);
int run_resize(const ResizeCommand &, Bases, int32_t thread, int32_t threads);
int run_embedding(const EmbeddingCommand &, Bases, int32_t thread, int32_t threads);
int run_timestep(const TimestepCommand &, Bases, int32_t thread, int32_t threads);
int run_quantise(const QuantiseCommand &, Bases, int32_t thread, int32_t threads);
int run_dequantise(const QuantiseCommand &, Bases, int32_t thread, int32_t threads);
int run_copy(const CopyCommand &, Bases, int32_t thread, int32_t threads);
void pack(const PackSource &, int32_t thread, int32_t threads);
int64_t multiply_adds(int64_t rounds);

} // namespace sluice::SLUICE_ISA_NAMESPACE
