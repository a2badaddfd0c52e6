/**
 * @file
 * A convolution or matrix product as its kernels see it: output pixels are the rows of a matrix
 * product, output channels its columns, and (tap, input channel) its depth.
 */
#pragma once

#include "kernels/pieces.hpp"

namespace sluice::cuda {

struct ConvProblem {
  int32_t rows, cols, channels; ///< of the output
  int32_t pixels;               ///< of all frames
  int32_t kernel_w, stride;
  int32_t in_rows, in_cols, phys_rows, phys_cols;
  int32_t row0, col0, src_row0, src_col0;
  int32_t first_channels; ///< of source 0; the others are source 1's
  int32_t in_channels;
  int32_t depth;  ///< taps * in_channels
  int32_t panels; ///< of 16 columns of weights
  Operand source[2], out, weight, bias, vector, residual;
  Global<const float> affine;
  int32_t affine_stride;
  Act prologue_act, act;

  SLUICE_HOST_DEVICE bool pairs() const { return act == Act::geglu; }
};

inline ConvProblem conv_problem(const ConvCommand &c, const Launch &launch) {
  ConvProblem p = {};
  p.rows = c.rows, p.cols = c.cols, p.channels = c.channels;
  p.pixels = c.frames * c.rows * c.cols;
  p.kernel_w = c.kernel_w, p.stride = c.stride;
  p.in_rows = c.in_rows, p.in_cols = c.in_cols;
  p.phys_rows = c.phys_rows, p.phys_cols = c.phys_cols;
  p.row0 = c.row0, p.col0 = c.col0, p.src_row0 = c.src_row0, p.src_col0 = c.src_col0;
  p.first_channels = c.source_channels[0];
  p.in_channels = c.source_channels[0] + (c.sources > 1 ? c.source_channels[1] : 0);
  p.depth = c.kernel_h * c.kernel_w * p.in_channels;
  p.panels = ceil_div(c.channels, kPanel) * (c.act == Act::geglu ? 2 : 1);
  for (int i = 0; i < c.sources; ++i) p.source[i] = operand(c.source[i], launch);
  p.out = operand(c.out, launch);
  p.weight = operand(c.weight, launch);
  p.vector = operand(c.vector, launch);
  p.residual = operand(c.residual, launch);
  p.bias = {address<>(c.bias, launch)};
  p.affine = {address<const float>(c.affine, launch)};
  p.affine_stride = c.affine.stride_f;
  p.prologue_act = c.prologue_act, p.act = c.act;
  return p;
}

/** An output pixel: where it is, and the input position under its first tap. */
struct ConvPixel {
  int32_t frame, row, col;
  int32_t in_row, in_col;
};

SLUICE_DEVICE ConvPixel conv_pixel(const ConvProblem &p, int32_t index) {
  ConvPixel pixel;
  const int32_t line = index / p.cols;
  pixel.col = index - line * p.cols;
  pixel.frame = line / p.rows;
  pixel.row = line - pixel.frame * p.rows;
  pixel.in_row = pixel.row * p.stride + p.row0;
  pixel.in_col = pixel.col * p.stride + p.col0;
  return pixel;
}

/**
 * Where a source's pixel under a tap begins, through the upsampling; -1 in the padding.
 */
SLUICE_DEVICE int64_t conv_source(const ConvProblem &p, const Operand &source,
                                  const ConvPixel &pixel, int32_t tap) {
  const int32_t tap_row = tap / p.kernel_w, tap_col = tap - tap_row * p.kernel_w;
  int32_t row = pixel.in_row + tap_row, col = pixel.in_col + tap_col;
  if (row < 0 || row >= p.in_rows || col < 0 || col >= p.in_cols) return -1;
  if (p.in_rows != p.phys_rows) row = int32_t(int64_t(row) * p.phys_rows / p.in_rows);
  if (p.in_cols != p.phys_cols) col = int32_t(int64_t(col) * p.phys_cols / p.in_cols);
  return source.at(pixel.frame, row - p.src_row0, col - p.src_col0);
}

/** The prologue's scale and shift of channel 0 of a frame; only where there is an affine. */
SLUICE_DEVICE Global<const float> conv_scale(const ConvProblem &p, int32_t frame) {
  return p.affine + int64_t(frame) * p.affine_stride;
}

/** One element of the input matrix, after the prologue. */
SLUICE_DEVICE float conv_input(const ConvProblem &p, const ConvPixel &pixel, int32_t k) {
  if (k >= p.depth) return 0.0f;
  const int32_t tap = k / p.in_channels, channel = k - tap * p.in_channels;
  const bool second = channel >= p.first_channels;
  const Operand &source = p.source[second];
  const int64_t at = conv_source(p, source, pixel, tap);
  if (at < 0) return 0.0f;
  float x[1];
  load<1>(source, at + channel - (second ? p.first_channels : 0), x);
  if (p.affine.present()) {
    const Global<const float> scale = conv_scale(p, pixel.frame);
    x[0] = x[0] * scale.load(channel) + scale.load(p.in_channels + channel);
  }
  return activate(x[0], p.prologue_act);
}

/** One element of the weights; 0 beyond the depth and the last panel. */
SLUICE_DEVICE float conv_weight(const ConvProblem &p, int32_t k, int32_t column) {
  const int32_t panel = column / kPanel;
  if (k >= p.depth || panel >= p.panels) return 0.0f;
  float x[1];
  load<1>(p.weight, (int64_t(panel) * p.depth + k) * kPanel + column % kPanel, x);
  return x[0];
}

/** act(x), the choice made once for eight. */
SLUICE_DEVICE void activate8(float (&x)[8], Act act) {
  const auto each = [&](Act one) {
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = activate(x[i], one);
  };
  switch (act) {
    case Act::none:
    case Act::geglu:
      return;
    case Act::silu:
      return each(Act::silu);
    case Act::gelu:
      return each(Act::gelu);
    case Act::quick_gelu:
      return each(Act::quick_gelu);
    case Act::gelu_tanh:
      return each(Act::gelu_tanh);
    case Act::sigmoid:
      return each(Act::sigmoid);
  }
}

/** x += the elements from `at` on: all eight as vectors, or `count` one by one. */
SLUICE_DEVICE void add8(const Operand &from, int64_t at, bool whole, int32_t count, float (&x)[8]) {
  float y[8] = {};
  if (whole) {
    load<8>(from, at, y);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (i < count) y[i] = from.load(at + i);
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] += y[i];
}

/**
 * Stores eight columns of a pixel from their sums: column counts in the weights; with pairs `gate`
 * holds the sums sixteen columns on, and the output's column is that of the pair.
 */
SLUICE_DEVICE void conv_finish(const ConvProblem &p, int32_t index, int32_t column, float (&x)[8],
                               const float (&gate)[8], bool wide) {
  int32_t out_column = column;
  if (p.pairs()) {
    out_column = column / (2 * kPanel) * kPanel + column % kPanel;
    if (out_column >= p.channels) return;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float a = p.bias.present() ? x[i] + p.bias.load(column + i) : x[i];
      const float g = p.bias.present() ? gate[i] + p.bias.load(column + kPanel + i) : gate[i];
      x[i] = a * gelu(g);
    }
  }
  if (out_column >= p.channels) return;
  const ConvPixel pixel = conv_pixel(p, index);
  const int32_t count = p.channels - out_column < 8 ? p.channels - out_column : 8;
  const int64_t out = p.out.at(pixel.frame, pixel.row, pixel.col) + out_column;
  const int64_t vector = int64_t(pixel.frame) * p.vector.stride_f + out_column;
  const int64_t residual = p.residual.at(pixel.frame, pixel.row, pixel.col) + out_column;
  const bool whole = wide && count == 8;
  if (!p.pairs()) {
    if (p.bias.present()) add8(p.bias, out_column, whole, count, x);
    if (p.vector.present()) add8(p.vector, vector, whole, count, x);
    if (p.residual.present()) add8(p.residual, residual, whole, count, x);
    activate8(x, p.act);
  }
  if (whole) {
    store<8>(p.out, out, x);
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < count) p.out.store(out + i, x[i]);
}

/** Eight neighbours in shared memory. */
SLUICE_DEVICE void read_staged(Shared<float> from, int32_t at, float (&x)[8]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const Floats4 v = from.load_as<Floats4>(at + 4 * half);
    x[4 * half] = v.x, x[4 * half + 1] = v.y, x[4 * half + 2] = v.z, x[4 * half + 3] = v.w;
  }
}

/** Whether conv_finish may read and write eight columns at once. */
inline bool conv_is_wide(const ConvProblem &p) {
  return is_wide(p.out, 8) && is_wide(p.bias, 8) && is_wide(p.vector, 8) && is_wide(p.residual, 8);
}

} // namespace sluice::cuda
