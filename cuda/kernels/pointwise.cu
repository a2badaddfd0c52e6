/**
 * @file
 * Each element from the elements at its place: binary, unary, combine; and nearest resize, which
 * takes them from another. One thread a piece, in storage of any type, in float32 between.
 */
#include "kernels/pieces.hpp"

namespace sluice::cuda {
namespace {

struct BinaryArguments {
  Pieces pieces;
  Operand a, b, out, t;
  BinaryOp op;
  int32_t b_channel_stride;
};

template <int kWidth>
SLUICE_KERNEL(kPieceThreads, 4)
binary_kernel(BinaryArguments p) {
  Piece at;
  if (!find_piece<kWidth>(p.pieces, at)) return;
  float a[kWidth], b[kWidth], out[kWidth];
  load(p.a, p.a.at(at.frame, at.row, at.col) + at.channel, a);
  const int64_t b_at = p.b.at(at.frame, at.row, at.col);
  if (p.b_channel_stride) {
    load(p.b, b_at + at.channel, b);
  } else {
    const float same = p.b.load(b_at);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) b[i] = same;
  }
  const float t = p.op == BinaryOp::lerp ? p.t.load(0) : 0.0f;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    switch (p.op) {
      case BinaryOp::add:
        out[i] = a[i] + b[i];
        break;
      case BinaryOp::sub:
        out[i] = a[i] - b[i];
        break;
      case BinaryOp::mul:
        out[i] = a[i] * b[i];
        break;
      default:
        out[i] = fmaf(t, b[i] - a[i], a[i]);
    }
  }
  store(p.out, p.out.at(at.frame, at.row, at.col) + at.channel, out);
}

struct UnaryArguments {
  Pieces pieces;
  Operand source, out;
  Act act;
};

template <int kWidth>
SLUICE_KERNEL(kPieceThreads, 4)
unary_kernel(UnaryArguments p) {
  Piece at;
  if (!find_piece<kWidth>(p.pieces, at)) return;
  float x[kWidth];
  load(p.source, p.source.at(at.frame, at.row, at.col) + at.channel, x);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) x[i] = activate(x[i], p.act);
  store(p.out, p.out.at(at.frame, at.row, at.col) + at.channel, x);
}

struct CombineArguments {
  Pieces pieces;
  int32_t count;
  Global<const float> coefficients;
  Operand source[4], out;
};

template <int kWidth>
SLUICE_KERNEL(kPieceThreads, 4)
combine_kernel(CombineArguments p) {
  Piece at;
  if (!find_piece<kWidth>(p.pieces, at)) return;
  float sum[kWidth] = {}, x[kWidth];
#pragma unroll
  for (int s = 0; s < 4; ++s) {
    if (s == p.count) break;
    const float factor = p.coefficients.load(s);
    load(p.source[s], p.source[s].at(at.frame, at.row, at.col) + at.channel, x);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum[i] = s == 0 ? factor * x[i] : fmaf(factor, x[i], sum[i]);
  }
  store(p.out, p.out.at(at.frame, at.row, at.col) + at.channel, sum);
}

struct ResizeArguments {
  Pieces pieces;
  int32_t in_rows, in_cols, out_rows, out_cols;
  int32_t out_row0, out_col0, src_row0, src_col0;
  Operand source, out;
};

template <int kWidth>
SLUICE_KERNEL(kPieceThreads, 4)
resize_kernel(ResizeArguments p) {
  Piece at;
  if (!find_piece<kWidth>(p.pieces, at)) return;
  const int64_t row = int64_t(at.row + p.out_row0) * p.in_rows / p.out_rows - p.src_row0;
  const int64_t col = int64_t(at.col + p.out_col0) * p.in_cols / p.out_cols - p.src_col0;
  float x[kWidth];
  load(p.source, p.source.at(at.frame, int32_t(row), int32_t(col)) + at.channel, x);
  store(p.out, p.out.at(at.frame, at.row, at.col) + at.channel, x);
}

} // namespace

cudaError_t run_binary(const BinaryCommand &c, const Launch &launch_on) {
  BinaryArguments p{{},
                    operand(c.a, launch_on),
                    operand(c.b, launch_on),
                    operand(c.out, launch_on),
                    operand(c.t, launch_on),
                    c.op,
                    c.b_channel_stride};
  const bool wide = is_wide(p.a, c.channels) && is_wide(p.out, c.channels) &&
                    (!c.b_channel_stride || is_wide(p.b, c.channels));
  p.pieces = pieces_of(c.frames, c.rows, c.cols, c.channels, wide ? 8 : 1);
  if (p.pieces.count == 0) return kNotSupported;
  return launch("binary", wide ? binary_kernel<8> : binary_kernel<1>, shape_of(p.pieces),
                launch_on.stream, p);
}

cudaError_t run_unary(const UnaryCommand &c, const Launch &launch_on) {
  UnaryArguments p{{}, operand(c.source, launch_on), operand(c.out, launch_on), c.act};
  const bool wide = is_wide(p.source, c.channels) && is_wide(p.out, c.channels);
  p.pieces = pieces_of(c.frames, c.rows, c.cols, c.channels, wide ? 8 : 1);
  if (p.pieces.count == 0) return kNotSupported;
  return launch("unary", wide ? unary_kernel<8> : unary_kernel<1>, shape_of(p.pieces),
                launch_on.stream, p);
}

cudaError_t run_combine(const CombineCommand &c, const Launch &launch_on) {
  CombineArguments p{{},
                     c.count,
                     {address<const float>(c.coefficients, launch_on)},
                     {},
                     operand(c.out, launch_on)};
  bool wide = is_wide(p.out, c.channels);
  for (int i = 0; i < c.count; ++i) {
    p.source[i] = operand(c.source[i], launch_on);
    wide = wide && is_wide(p.source[i], c.channels);
  }
  p.pieces = pieces_of(c.frames, c.rows, c.cols, c.channels, wide ? 8 : 1);
  if (p.pieces.count == 0) return kNotSupported;
  return launch("combine", wide ? combine_kernel<8> : combine_kernel<1>, shape_of(p.pieces),
                launch_on.stream, p);
}

cudaError_t run_resize(const ResizeCommand &c, const Launch &launch_on) {
  ResizeArguments p{{},
                    c.in_rows,
                    c.in_cols,
                    c.out_rows,
                    c.out_cols,
                    c.out_row0,
                    c.out_col0,
                    c.src_row0,
                    c.src_col0,
                    operand(c.source, launch_on),
                    operand(c.out, launch_on)};
  const bool wide = is_wide(p.source, c.channels) && is_wide(p.out, c.channels);
  p.pieces = pieces_of(c.frames, c.rows, c.cols, c.channels, wide ? 8 : 1);
  if (p.pieces.count == 0) return kNotSupported;
  return launch("resize", wide ? resize_kernel<8> : resize_kernel<1>, shape_of(p.pieces),
                launch_on.stream, p);
}

} // namespace sluice::cuda
