/** @file Kernels that place rows: nearest resize, embedding; and the sinusoidal embedding of one
 * number. */
#include "cpu/kernels/support.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {

int run_resize(const ResizeCommand &c, Bases bases, int32_t thread, int32_t threads) {
  const char *source = address<const char>(c.source, bases);
  char *out = address<char>(c.out, bases);
  const int32_t size = dtype_bytes(c.source.dtype);
  const Share share = share_of((int64_t)c.frames * c.rows * c.cols, thread, threads);
  for (int64_t i = share.begin; i < share.end; ++i) {
    const int64_t x = i % c.cols, y = i / c.cols % c.rows, f = i / c.cols / c.rows;
    const int64_t row = (y + c.out_row0) * c.in_rows / c.out_rows - c.src_row0;
    const int64_t col = (x + c.out_col0) * c.in_cols / c.out_cols - c.src_col0;
    __builtin_memcpy(out + element(c.out, f, y, x) * size,
                     source + element(c.source, f, row, col) * size, (size_t)c.channels * size);
  }
  return SLUICE_OK;
}

namespace {

template <class T>
void embed(float *out, const T *row, const float *position, int32_t channels) {
  for_lanes(channels, [&](int32_t i, int32_t lanes) {
    f32x16 x = load_some(row + i, lanes);
    if (position) x = x + load_some(position + i, lanes);
    store_some(out + i, x, lanes);
  });
}

} // namespace

int run_embedding(const EmbeddingCommand &c, Bases bases, int32_t thread, int32_t threads) {
  const int32_t *ids = address<const int32_t>(c.ids, bases);
  const char *table = address<const char>(c.table, bases);
  const float *positions = address<const float>(c.positions, bases);
  float *out = address<float>(c.out, bases);
  const int32_t size = dtype_bytes(c.table.dtype);
  const Share share = share_of(c.tokens, thread, threads);
  for (int64_t t = share.begin; t < share.end; ++t) {
    const int64_t place = t + c.token0;
    if (ids[t] < 0 || ids[t] >= c.table_rows ||
        (positions && (place < 0 || place >= c.position_rows))) {
      return SLUICE_BAD_DATA;
    }
    const char *row = table + (int64_t)ids[t] * c.table.stride_w * size;
    const float *position = positions ? positions + place * c.positions.stride_w : nullptr;
    float *to = out + t * c.out.stride_w;
    switch (c.table.dtype) {
      case DType::f16:
        embed(to, (const f16 *)row, position, c.channels);
        break;
      case DType::bf16:
        embed(to, (const bf16 *)row, position, c.channels);
        break;
      default:
        embed(to, (const float *)row, position, c.channels);
    }
  }
  return SLUICE_OK;
}

int run_timestep(const TimestepCommand &c, Bases bases, int32_t thread, int32_t) {
  if (thread != 0) return SLUICE_OK;
  const double t = *address<const float>(c.t, bases);
  float *out = address<float>(c.out, bases);
  const int32_t half = c.dim / 2;
  float *sine = out + (c.flip ? half : 0), *cosine = out + (c.flip ? 0 : half);
  const double rate = -__builtin_log((double)c.max_period) / (half - (double)c.shift);
  for (int32_t i = 0; i < half; ++i) {
    const double angle = t * __builtin_exp(rate * i);
    sine[i] = (float)__builtin_sin(angle);
    cosine[i] = (float)__builtin_cos(angle);
  }
  if (c.dim % 2) out[c.dim - 1] = 0.0f;
  return SLUICE_OK;
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
