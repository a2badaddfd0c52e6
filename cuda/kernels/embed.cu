/** @file Rows of a table by their ids, the sinusoidal embedding of one number, eight-bit storage.
 */
#include "kernels/pieces.hpp"

namespace sluice::cuda {
namespace {

struct EmbeddingArguments {
  Pieces pieces; ///< tokens are columns
  int32_t table_rows, token0;
  Global<const int32_t> ids;
  Operand table, positions, out;
  Global<int32_t> trouble;
};

template <int kWidth>
SLUICE_KERNEL(kPieceThreads, 4)
embedding_kernel(EmbeddingArguments p) {
  Piece at;
  if (!find_piece<kWidth>(p.pieces, at)) return;
  const int32_t id = p.ids.load(at.col);
  if (id < 0 || id >= p.table_rows) {
    if (at.channel == 0) atomic_add(p.trouble, 0, 1);
    return;
  }
  float x[kWidth];
  load(p.table, p.table.at(0, 0, id) + at.channel, x);
  if (p.positions.present()) {
    float y[kWidth];
    load(p.positions, p.positions.at(0, 0, p.token0 + at.col) + at.channel, y);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) x[i] += y[i];
  }
  store(p.out, p.out.at(0, 0, at.col) + at.channel, x);
}

struct TimestepArguments {
  int32_t half, flip;
  float shift, max_period;
  Global<const float> t;
  Operand out;
};

constexpr uint32_t kTimestepThreads = 128;

/** In float64: the angle of the fastest wave is the step itself, of which float32 would keep few
 * digits behind the point. */
SLUICE_KERNEL(kTimestepThreads, 1)
timestep_kernel(TimestepArguments p) {
  const int32_t i = int32_t(blockIdx.x * kTimestepThreads + threadIdx.x);
  if (i >= p.half) return;
  const double rate = -log(double(p.max_period)) / (p.half - double(p.shift));
  const double angle = double(p.t.load(0)) * exp(rate * i);
  p.out.store(i + (p.flip ? p.half : 0), float(sin(angle)));
  p.out.store(i + (p.flip ? 0 : p.half), float(cos(angle)));
}

// ------------------------------------------------------------------------------------------------

/** Below this a block is stored as zeros: the quotient by its largest value would overflow. */
constexpr float kLeastStored = 1e-30f;
constexpr float kLevels = 127.0f;
/** Channels of one word of whole numbers. */
constexpr int32_t kPerWord = 4;

struct QuantiseArguments {
  Pieces pieces; ///< one a block of kQuantBlock channels
  int32_t channels;
  Operand plain;
  Global<float> scales;  ///< of each pixel
  Global<int32_t> words; ///< the same memory
  int32_t stored_f, stored_h, stored_w;

  SLUICE_DEVICE int64_t pixel(const Piece &at) const {
    return int64_t(at.frame) * stored_f + int64_t(at.row) * stored_h + int64_t(at.col) * stored_w;
  }
  /** Word of a pixel in which a channel is. */
  SLUICE_DEVICE int32_t word_of(int32_t channel) const {
    return ceil_div(channels, kQuantBlock) + channel / kPerWord;
  }
};

SLUICE_KERNEL(kPieceThreads, 4)
quantise_kernel(QuantiseArguments p) {
  Piece at;
  if (!find_piece<1>(p.pieces, at)) return;
  const int32_t first = at.channel * kQuantBlock;
  const int32_t count = p.channels - first < kQuantBlock ? p.channels - first : kQuantBlock;
  const int64_t from = p.plain.at(at.frame, at.row, at.col) + first, to = p.pixel(at);
  float largest = 0.0f;
  for (int32_t i = 0; i < count; ++i) {
    largest = fmaxf(largest, fabsf(p.plain.load(from + i)));
  }
  const bool empty = largest < kLeastStored;
  const float inverse = empty ? 0.0f : kLevels / largest;
  p.scales.store(to + at.channel, empty ? 0.0f : largest / kLevels);
  for (int32_t i = 0; i < count; i += kPerWord) {
    uint32_t word = 0;
    for (int32_t k = 0; k < kPerWord && i + k < count; ++k) {
      const float x = p.plain.load(from + i + k);
      // What is not a number becomes a bound: a conversion of it would be undefined.
      const float level = fmaxf(fminf(rintf(x * inverse), kLevels), -kLevels);
      word |= (uint32_t(int32_t(level)) & 0xff) << (8 * k);
    }
    p.words.store(to + p.word_of(first + i), int32_t(word));
  }
}

SLUICE_KERNEL(kPieceThreads, 4)
dequantise_kernel(QuantiseArguments p) {
  Piece at;
  if (!find_piece<1>(p.pieces, at)) return;
  const int32_t first = at.channel * kQuantBlock;
  const int32_t count = p.channels - first < kQuantBlock ? p.channels - first : kQuantBlock;
  const int64_t to = p.plain.at(at.frame, at.row, at.col) + first, from = p.pixel(at);
  const float scale = p.scales.load(from + at.channel);
  for (int32_t i = 0; i < count; i += kPerWord) {
    const uint32_t word = uint32_t(p.words.load(from + p.word_of(first + i)));
    for (int32_t k = 0; k < kPerWord && i + k < count; ++k) {
      p.plain.store(to + i + k, float(int32_t(int8_t(word >> (8 * k)))) * scale);
    }
  }
}

cudaError_t launch_quantise(const QuantiseCommand &c, const Launch &launch_on, bool narrows) {
  const View &stored = narrows ? c.out : c.source;
  const QuantiseArguments p{
      pieces_of(c.frames, c.rows, c.cols, ceil_div(c.channels, kQuantBlock), 1),
      c.channels,
      operand(narrows ? c.source : c.out, launch_on),
      {address<float>(stored, launch_on)},
      {address<int32_t>(stored, launch_on)},
      stored.stride_f,
      stored.stride_h,
      stored.stride_w};
  if (p.pieces.count == 0) return kNotSupported;
  return launch(narrows ? "quantise" : "dequantise", narrows ? quantise_kernel : dequantise_kernel,
                shape_of(p.pieces), launch_on.stream, p);
}

} // namespace

cudaError_t run_embedding(const EmbeddingCommand &c, const Launch &launch_on) {
  EmbeddingArguments p{{},
                       c.table_rows,
                       c.token0,
                       {address<const int32_t>(c.ids, launch_on)},
                       operand(c.table, launch_on),
                       operand(c.positions, launch_on),
                       operand(c.out, launch_on),
                       {launch_on.trouble}};
  const bool wide = is_wide(p.table, c.channels) && is_wide(p.positions, c.channels) &&
                    is_wide(p.out, c.channels);
  p.pieces = pieces_of(1, 1, c.tokens, c.channels, wide ? 8 : 1);
  if (p.pieces.count == 0) return kNotSupported;
  return launch("embedding", wide ? embedding_kernel<8> : embedding_kernel<1>, shape_of(p.pieces),
                launch_on.stream, p);
}

cudaError_t run_timestep(const TimestepCommand &c, const Launch &launch_on) {
  const TimestepArguments p{c.dim / 2,
                            c.flip,
                            c.shift,
                            c.max_period,
                            {address<const float>(c.t, launch_on)},
                            operand(c.out, launch_on)};
  const uint32_t blocks = uint32_t(p.half + int32_t(kTimestepThreads) - 1) / kTimestepThreads;
  return launch("timestep", timestep_kernel, {blocks, kTimestepThreads}, launch_on.stream, p);
}

cudaError_t run_quantise(const QuantiseCommand &c, const Launch &launch_on) {
  return launch_quantise(c, launch_on, true);
}

cudaError_t run_dequantise(const QuantiseCommand &c, const Launch &launch_on) {
  return launch_quantise(c, launch_on, false);
}

} // namespace sluice::cuda
