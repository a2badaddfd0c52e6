/**
 * @file
 * Operands whose storage type is known when a kernel runs: a branch that all threads take alike
 * costs less than a copy of every kernel for every mixture of types. `kWidth` elements pass at a
 * time: 8 where channels, strides and addresses allow it, else 1.
 */
#pragma once

#include "core/ranges.h"
#include "dispatch.hpp"
#include "numbers.hpp"

namespace sluice::cuda {

struct Operand {
  void *data; ///< null: absent
  DType dtype;
  int32_t stride_f, stride_h, stride_w;

  SLUICE_HOST_DEVICE bool present() const { return data != nullptr; }
  SLUICE_HOST_DEVICE int64_t at(int32_t f, int32_t h, int32_t w) const {
    return int64_t(f) * stride_f + int64_t(h) * stride_h + int64_t(w) * stride_w;
  }
};

inline Operand operand(const View &view, const Launch &launch) {
  return {address(view, launch), view.dtype, view.stride_f, view.stride_h, view.stride_w};
}

/** Whether rows of `channels` elements of an operand can be read eight at a time. */
inline bool is_wide(const Operand &o, int32_t channels) {
  if (!o.present()) return true;
  const uint64_t bytes = o.dtype == DType::f16 || o.dtype == DType::bf16 ? 16 : 32;
  // Two reads of 16 bytes each where elements have four.
  return (channels | o.stride_f | o.stride_h | o.stride_w) % 8 == 0 &&
         reinterpret_cast<uintptr_t>(o.data) % (bytes == 32 ? 16 : bytes) == 0;
}

template <int kWidth>
SLUICE_DEVICE void load(const Operand &o, int64_t at, float (&x)[kWidth]) {
  static_assert(kWidth == 1 || kWidth == 8, "elements pass one or eight at a time");
  if (o.dtype == DType::f32) {
    const Global<const float> g{static_cast<const float *>(o.data)};
    if constexpr (kWidth == 8) {
      const Floats4 a = g.template load_as<Floats4>(at), b = g.template load_as<Floats4>(at + 4);
      x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w;
      x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
    } else {
      x[0] = g.load(at);
    }
    return;
  }
  const Global<const uint16_t> g{static_cast<const uint16_t *>(o.data)};
  if constexpr (kWidth == 8) {
    const Words4 v = g.template load_as<Words4>(at);
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[2 * i] = narrow_to_float(o.dtype, uint16_t(words[i]));
      x[2 * i + 1] = narrow_to_float(o.dtype, uint16_t(words[i] >> 16));
    }
  } else {
    x[0] = narrow_to_float(o.dtype, g.load(at));
  }
}

template <int kWidth>
SLUICE_DEVICE void store(const Operand &o, int64_t at, const float (&x)[kWidth]) {
  if (o.dtype == DType::f32) {
    const Global<float> g{static_cast<float *>(o.data)};
    if constexpr (kWidth == 8) {
      g.store_as(at, Floats4{x[0], x[1], x[2], x[3]});
      g.store_as(at + 4, Floats4{x[4], x[5], x[6], x[7]});
    } else {
      g.store(at, x[0]);
    }
    return;
  }
  const Global<uint16_t> g{static_cast<uint16_t *>(o.data)};
  if constexpr (kWidth == 8) {
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      words[i] = float_to_narrow(o.dtype, x[2 * i]) |
                 uint32_t(float_to_narrow(o.dtype, x[2 * i + 1])) << 16;
    }
    g.store_as(at, Words4{words[0], words[1], words[2], words[3]});
  } else {
    g.store(at, float_to_narrow(o.dtype, x[0]));
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
