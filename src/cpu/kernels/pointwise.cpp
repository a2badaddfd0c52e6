/** @file Kernels that compute each element from the elements at its place: binary, unary, combine.
 */
#include "cpu/kernels/support.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {
namespace {

/** b of a run: `kStep` 1 reads along with a, 0 repeats one value. */
template <BinaryOp kOp, int kStep>
void binary_run(float *out, const float *a, const float *b, float t, int64_t n, bool past) {
  const f32x16 factor = splat(t), same = kStep ? zero() : splat(*b);
  const auto apply = [&](f32x16 x, f32x16 y) {
    switch (kOp) {
      case BinaryOp::add:
        return x + y;
      case BinaryOp::sub:
        return x - y;
      case BinaryOp::mul:
        return x * y;
      default:
        return fma(factor, y - x, x);
    }
  };
  for_lanes((int32_t)n, [&](int32_t i, int32_t lanes) SLUICE_INLINE {
    Writer::store(out + i, apply(load_some(a + i, lanes), kStep ? load_some(b + i, lanes) : same),
                  lanes, past);
  });
}

using BinaryRun = void (*)(float *, const float *, const float *, float, int64_t, bool);

template <int kStep>
BinaryRun binary_run_for(BinaryOp op) {
  switch (op) {
    case BinaryOp::add:
      return binary_run<BinaryOp::add, kStep>;
    case BinaryOp::sub:
      return binary_run<BinaryOp::sub, kStep>;
    case BinaryOp::mul:
      return binary_run<BinaryOp::mul, kStep>;
    default:
      return binary_run<BinaryOp::lerp, kStep>;
  }
}

template <class From, class To, Act kAct>
void unary_run(void *to, const void *from, int64_t begin, int64_t end, const Writer &writer) {
  const From *x = (const From *)from + begin;
  To *y = (To *)to + begin;
  const bool past = writer.past(y);
  for_lanes((int32_t)(end - begin), [&](int32_t i, int32_t lanes) SLUICE_INLINE {
    Writer::store(y + i, activate(load_some(x + i, lanes), kAct), lanes, past);
  });
}

using UnaryRun = void (*)(void *, const void *, int64_t, int64_t, const Writer &);

template <class From, class To>
UnaryRun unary_run_for(Act act) {
  switch (act) {
    case Act::silu:
      return unary_run<From, To, Act::silu>;
    case Act::gelu:
      return unary_run<From, To, Act::gelu>;
    case Act::quick_gelu:
      return unary_run<From, To, Act::quick_gelu>;
    case Act::gelu_tanh:
      return unary_run<From, To, Act::gelu_tanh>;
    case Act::sigmoid:
      return unary_run<From, To, Act::sigmoid>;
    default:
      return unary_run<From, To, Act::none>;
  }
}

template <class From>
UnaryRun unary_run_for(DType to, Act act) {
  switch (to) {
    case DType::f16:
      return unary_run_for<From, f16>(act);
    case DType::bf16:
      return unary_run_for<From, bf16>(act);
    default:
      return unary_run_for<From, float>(act);
  }
}

UnaryRun unary_run_for(DType from, DType to, Act act) {
  switch (from) {
    case DType::f16:
      return unary_run_for<f16>(to, act);
    case DType::bf16:
      return unary_run_for<bf16>(to, act);
    default:
      return unary_run_for<float>(to, act);
  }
}

} // namespace

int run_binary(const BinaryCommand &c, Bases bases, int32_t thread, int32_t threads) {
  const float *a = address<const float>(c.a, bases), *b = address<const float>(c.b, bases);
  const float *t = address<const float>(c.t, bases);
  float *out = address<float>(c.out, bases);
  const BinaryRun apply = c.b_channel_stride ? binary_run_for<1>(c.op) : binary_run_for<0>(c.op);
  // A b of one value merges where no axis moves it, which equal strides would not see.
  const bool one_value = !c.b_channel_stride && !c.b.stride_f && !c.b.stride_h && !c.b.stride_w;
  const View *const views[3] = {&c.out, &c.a, one_value ? nullptr : &c.b};
  const Runs<3> runs =
      merge_runs(c.frames, c.rows, c.cols, c.channels, views, c.b_channel_stride || one_value);
  const Writer writer(runs.count * runs.length);
  for_pieces(runs, thread, threads, [&](int64_t run, int64_t begin, int64_t end) {
    const float *other = b + runs.offset(2, run) + (c.b_channel_stride ? begin : 0);
    float *to = out + runs.offset(0, run) + begin;
    apply(to, a + runs.offset(1, run) + begin, other, t ? *t : 0.0f, end - begin, writer.past(to));
  });
  return SLUICE_OK;
}

int run_unary(const UnaryCommand &c, Bases bases, int32_t thread, int32_t threads) {
  const char *source = address<const char>(c.source, bases);
  char *out = address<char>(c.out, bases);
  const int32_t from_bytes = dtype_bytes(c.source.dtype), to_bytes = dtype_bytes(c.out.dtype);
  const UnaryRun apply = unary_run_for(c.source.dtype, c.out.dtype, c.act);
  const View *const views[2] = {&c.out, &c.source};
  const Runs<2> runs = merge_runs(c.frames, c.rows, c.cols, c.channels, views, true);
  const Writer writer(runs.count * runs.length);
  for_pieces(runs, thread, threads, [&](int64_t run, int64_t begin, int64_t end) {
    apply(out + runs.offset(0, run) * to_bytes, source + runs.offset(1, run) * from_bytes, begin,
          end, writer);
  });
  return SLUICE_OK;
}

int run_combine(const CombineCommand &c, Bases bases, int32_t thread, int32_t threads) {
  const float *source[4];
  for (int i = 0; i < 4; ++i)
    source[i] = i < c.count ? address<const float>(c.source[i], bases) : nullptr;
  const float *coefficients = address<const float>(c.coefficients, bases);
  float *out = address<float>(c.out, bases);
  const View *views[5] = {&c.out};
  for (int i = 0; i < 4; ++i) views[1 + i] = i < c.count ? &c.source[i] : nullptr;
  const Runs<5> runs = merge_runs(c.frames, c.rows, c.cols, c.channels, views, true);
  const Writer writer(runs.count * runs.length);
  for_pieces(runs, thread, threads, [&](int64_t run, int64_t begin, int64_t end) {
    float *to = out + runs.offset(0, run) + begin;
    const bool past = writer.past(to);
    const float *from[4];
    for (int i = 0; i < c.count; ++i) from[i] = source[i] + runs.offset(1 + i, run) + begin;
    for_lanes((int32_t)(end - begin), [&](int32_t i, int32_t lanes) SLUICE_INLINE {
      f32x16 sum = splat(coefficients[0]) * load_some(from[0] + i, lanes);
      for (int s = 1; s < c.count; ++s)
        sum = fma(splat(coefficients[s]), load_some(from[s] + i, lanes), sum);
      Writer::store(to + i, sum, lanes, past);
    });
  });
  return SLUICE_OK;
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
