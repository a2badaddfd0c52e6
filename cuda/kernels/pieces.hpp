/**
 * @file
 * Work cut into pieces of a few channels, one a thread. `kWidth` elements pass at a time: 8 where
 * channels, strides and addresses allow it, else 1. Storage types are known when a kernel runs: a
 * branch that all threads take alike costs less than a copy of every kernel for every mixture.
 */
#pragma once

#include "core/ranges.h"
#include "dispatch.hpp"
#include "operand.hpp"

namespace sluice::cuda {

inline Operand operand(const View &view, const Launch &launch) {
  return operand(view, launch.bases);
}

/** Whether rows of `channels` elements of an operand can be read eight at a time. */
inline bool is_wide(const Operand &o, int32_t channels) {
  return !o.present() || (channels % 8 == 0 && is_vector(o));
}

template <int kWidth>
SLUICE_DEVICE void load(const Operand &o, int64_t at, float (&x)[kWidth]) {
  static_assert(kWidth == 1 || kWidth == 8, "elements pass one or eight at a time");
  if constexpr (kWidth == 8) {
    o.load8(x, at);
  } else {
    x[0] = o.load(at);
  }
}

template <int kWidth>
SLUICE_DEVICE void store(const Operand &o, int64_t at, const float (&x)[kWidth]) {
  if constexpr (kWidth == 8) {
    o.store8(at, x);
  } else {
    o.store(at, x[0]);
  }
}

// ------------------------------------------------------------------------------------------------

constexpr uint32_t kPieceThreads = 256;

/** [frames, rows, cols, channels] cut into pieces of kWidth channels, one a thread. */
struct Pieces {
  int32_t rows, cols, per_pixel;
  uint32_t count;
};

/** count 0: more than a launch can hold. */
inline Pieces pieces_of(int32_t frames, int32_t rows, int32_t cols, int32_t channels, int width) {
  const int32_t per_pixel = channels / width;
  const uint64_t count = uint64_t(frames) * uint64_t(rows) * uint64_t(cols) * uint64_t(per_pixel);
  return {rows, cols, per_pixel, count < (uint64_t(1) << 32) - kPieceThreads ? uint32_t(count) : 0};
}

inline LaunchShape shape_of(const Pieces &pieces) {
  return {(pieces.count + kPieceThreads - 1) / kPieceThreads, kPieceThreads};
}

/** Where a piece lies: pixel and first channel. */
struct Piece {
  int32_t frame, row, col, channel;
};

/** This thread's piece; false where there is none. */
template <int kWidth>
SLUICE_DEVICE bool find_piece(const Pieces &pieces, Piece &piece) {
  const uint32_t index = blockIdx.x * kPieceThreads + threadIdx.x;
  if (index >= pieces.count) return false;
  const uint32_t pixel = index / uint32_t(pieces.per_pixel);
  const uint32_t line = pixel / uint32_t(pieces.cols);
  piece.channel = int32_t(index - pixel * uint32_t(pieces.per_pixel)) * kWidth;
  piece.col = int32_t(pixel - line * uint32_t(pieces.cols));
  piece.frame = int32_t(line / uint32_t(pieces.rows));
  piece.row = int32_t(line - uint32_t(piece.frame) * uint32_t(pieces.rows));
  return true;
}

} // namespace sluice::cuda
