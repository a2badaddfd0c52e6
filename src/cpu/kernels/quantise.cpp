/** @file Eight-bit storage of features: one scale for each block of a pixel's channels. */
#include "cpu/kernels/support.hpp"

namespace sluice::SLUICE_ISA_NAMESPACE {
namespace {

/** Below this a block is stored as zeros: the quotient by its largest value would overflow. */
constexpr float kLeast = 1e-30f;
constexpr float kLevels = 127.0f;

/** Places of a stored pixel: scales first, then the whole numbers. */
inline int8_t *numbers_of(int32_t *pixel, int32_t channels) {
  return (int8_t *)(pixel + ceil_div(channels, kQuantBlock));
}

void narrow_block(int8_t *numbers, float *scale, const float *x, int32_t n) {
  f32x16 most = zero();
  for_lanes(n, [&](int32_t i, int32_t lanes) { most = max(abs(load_some(x + i, lanes)), most); });
  const float largest = reduce_max(most);
  const bool empty = largest < kLeast;
  *scale = empty ? 0.0f : largest / kLevels;
  const f32x16 inverse = splat(empty ? 0.0f : kLevels / largest);
  for_lanes(n, [&](int32_t i, int32_t lanes) {
    // What is not a number becomes a bound: a conversion of it would be undefined.
    const f32x16 level = round(load_some(x + i, lanes) * inverse);
    float t[16];
    store(t, max(min(level, splat(kLevels)), splat(-kLevels)));
    for (int32_t k = 0; k < lanes; ++k) numbers[i + k] = (int8_t)(int32_t)t[k];
  });
}

} // namespace

int run_quantise(const QuantiseCommand &c, Bases bases, int32_t thread, int32_t threads) {
  const float *source = address<const float>(c.source, bases);
  int32_t *out = address<int32_t>(c.out, bases);
  const Share share = share_of((int64_t)c.frames * c.rows * c.cols, thread, threads);
  for (int64_t p = share.begin; p < share.end; ++p) {
    const int64_t w = p % c.cols, h = p / c.cols % c.rows, f = p / c.cols / c.rows;
    const float *x = source + element(c.source, f, h, w);
    int32_t *pixel = out + element(c.out, f, h, w);
    int8_t *numbers = numbers_of(pixel, c.channels);
    for (int32_t i = 0; i < c.channels; i += kQuantBlock) {
      narrow_block(numbers + i, (float *)pixel + i / kQuantBlock, x + i,
                   least(kQuantBlock, c.channels - i));
    }
    for (int32_t i = c.channels; i % 4 != 0; ++i) numbers[i] = 0;
  }
  return SLUICE_OK;
}

int run_dequantise(const QuantiseCommand &c, Bases bases, int32_t thread, int32_t threads) {
  int32_t *source = address<int32_t>(c.source, bases);
  float *out = address<float>(c.out, bases);
  const Share share = share_of((int64_t)c.frames * c.rows * c.cols, thread, threads);
  for (int64_t p = share.begin; p < share.end; ++p) {
    const int64_t w = p % c.cols, h = p / c.cols % c.rows, f = p / c.cols / c.rows;
    int32_t *pixel = source + element(c.source, f, h, w);
    const int8_t *numbers = numbers_of(pixel, c.channels);
    float *x = out + element(c.out, f, h, w);
    for (int32_t i = 0; i < c.channels; ++i) {
      x[i] = (float)numbers[i] * ((const float *)pixel)[i / kQuantBlock];
    }
  }
  return SLUICE_OK;
}

} // namespace sluice::SLUICE_ISA_NAMESPACE
