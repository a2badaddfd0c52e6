/**
 * @file
 * Group norm in three steps (partial statistics, merge, apply) and layer norm. No order of a sum
 * depends on the frames, rows or pixels that a command covers.
 */
#include "kernels/pieces.hpp"
#include "kernels/reduce.hpp"

namespace sluice::cuda {
namespace {

// --- Partial statistics -------------------------------------------------------------------------

constexpr uint32_t kPartialThreads = 256;
/** Channels of one thread block, as far as whole blocks of statistics fit. */
constexpr int32_t kPartialChannels = 128;
/** Shared memory that every launch has; a block of statistics of some 3,000 channels. */
constexpr uint32_t kMostPartialShared = 48 * 1024;

struct PartialArguments {
  int32_t rows, cols, channels, block;
  int32_t tile_blocks; ///< blocks of statistics of a thread block
  int32_t tiles;       ///< thread blocks of a row
  int32_t lanes;       ///< threads along the channels; the others share out the pixels
  Operand source;
  Global<float> out;
  int32_t out_f, out_h;
};

/**
 * One row of one frame, some blocks of its channels. Each thread follows one channel over every so
 * many pixels, a warp then merges the channels and threads of a block of statistics. All of it
 * counts from the first value of the block, so that large means cost no digits.
 */
SLUICE_KERNEL(kPartialThreads, 2)
partials_kernel(PartialArguments p) {
  // All in x: the other sides of a grid hold 65,535 blocks alone.
  const int32_t index = int32_t(blockIdx.x), line = index / p.tiles;
  const int32_t frame = line / p.rows, row = line - frame * p.rows;
  const int32_t first_block = (index - line * p.tiles) * p.tile_blocks;
  const int32_t first = first_block * p.block;
  const int32_t left = p.channels - first, most = p.tile_blocks * p.block;
  const int32_t width = left < most ? left : most;
  const int32_t sharers = int32_t(kPartialThreads) / p.lanes;
  const int32_t thread = int32_t(threadIdx.x), lane = thread % p.lanes, sharer = thread / p.lanes;
  const int64_t from = p.source.at(frame, row, 0) + first;
  // [sharers][most] of (mean, M2).
  const Shared<float> found = dynamic_shared<float>(0, 2 * sharers * most);

  for (int32_t c = lane; c < width; c += p.lanes) {
    const float shift = p.source.load(from + c / p.block * p.block);
    float sum = 0.0f, squares = 0.0f;
    int32_t count = 0;
    for (int32_t col = sharer; col < p.cols; col += sharers, ++count) {
      const float d = p.source.load(from + c + int64_t(col) * p.source.stride_w) - shift;
      sum += d;
      squares = fmaf(d, d, squares);
    }
    const float mean = count ? sum / float(count) : 0.0f;
    const int32_t at = 2 * (sharer * most + c);
    found.store(at, mean);
    found.store(at + 1, fmaxf(squares - sum * mean, 0.0f));
  }
  block_sync();

  const int32_t in_warp = thread % kWarp, blocks = width / p.block;
  const int32_t parts = sharers * p.block; // that one block of statistics is merged from
  for (int32_t b = thread / kWarp; b < blocks; b += int32_t(kPartialThreads) / kWarp) {
    float sum = 0.0f;
    for (int32_t i = in_warp; i < parts; i += kWarp) {
      const int32_t s = i / p.block, c = b * p.block + i % p.block;
      // Pixels s, s + sharers, ...
      const float n = float((p.cols - s + sharers - 1) / sharers);
      sum = fmaf(n, found.load(2 * (s * most + c)), sum);
    }
    const float mean = warp_sum(sum) / (float(p.cols) * float(p.block));
    float squares = 0.0f;
    for (int32_t i = in_warp; i < parts; i += kWarp) {
      const int32_t s = i / p.block, c = b * p.block + i % p.block;
      const float n = float((p.cols - s + sharers - 1) / sharers);
      const float d = found.load(2 * (s * most + c)) - mean;
      squares += fmaf(n * d, d, found.load(2 * (s * most + c) + 1));
    }
    squares = warp_sum(squares);
    if (in_warp == 0) {
      const int64_t at =
          int64_t(frame) * p.out_f + int64_t(row) * p.out_h + 2 * int64_t(first_block + b);
      p.out.store(at, p.source.load(from + b * p.block) + mean);
      p.out.store(at + 1, squares);
    }
  }
}

// --- Merge --------------------------------------------------------------------------------------

constexpr uint32_t kFoldThreads = 128;

struct FoldArguments {
  int32_t merged, rows, cols, sources, groups, channels;
  int32_t source_channels[2], block[2];
  float eps;
  Global<const float> partials[2];
  int32_t partials_f[2], partials_h[2];
  Global<const float> gamma, beta;
  Global<float> out;
  int32_t out_f;
};

/** Sum over the thread block in a fixed order, the same in every thread. */
SLUICE_DEVICE double block_sum(double x, Shared<double> sums) {
  const int32_t thread = int32_t(threadIdx.x);
  sums.store(thread, x);
  block_sync();
  for (int32_t half = int32_t(kFoldThreads) / 2; half > 0; half /= 2) {
    if (thread < half) sums.store(thread, sums.load(thread) + sums.load(thread + half));
    block_sync();
  }
  const double total = sums.load(0);
  block_sync(); // before the next sum overwrites it
  return total;
}

/** One frame (or all, where they share statistics), one group. */
SLUICE_KERNEL(kFoldThreads, 4)
fold_kernel(FoldArguments p) {
  SLUICE_SHARED(double, sums, kFoldThreads);
  const int32_t frame = int32_t(blockIdx.x) / p.groups;
  const int32_t group = int32_t(blockIdx.x) - frame * p.groups;
  const int32_t width = p.channels / p.groups, low = group * width, high = low + width;
  const int32_t thread = int32_t(threadIdx.x), lines = p.merged * p.rows;

  double mean = 0, squares = 0;
  const double count = double(p.merged) * p.rows * p.cols * width;
  for (int pass = 0; pass < 2; ++pass) {
    double sum = 0;
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      const int32_t begin = s == 0 ? 0 : p.source_channels[0];
      // Blocks of this source inside the group's channels.
      const int32_t from = low > begin ? low - begin : 0;
      const int32_t to = high - begin < p.source_channels[s] ? high - begin : p.source_channels[s];
      if (s >= p.sources || from >= to) continue;
      const int32_t first = from / p.block[s], blocks = ceil_div(to, p.block[s]) - first;
      const double n = double(p.cols) * p.block[s];
      for (int64_t i = thread; i < int64_t(lines) * blocks; i += kFoldThreads) {
        const int32_t line = int32_t(i / blocks), b = first + int32_t(i % blocks);
        const int64_t at = int64_t(frame + line / p.rows) * p.partials_f[s] +
                           int64_t(line % p.rows) * p.partials_h[s] + 2 * int64_t(b);
        const double part = p.partials[s].load(at);
        sum +=
            pass == 0 ? n * part : p.partials[s].load(at + 1) + n * (part - mean) * (part - mean);
      }
    }
    const double total = block_sum(sum, sums);
    if (pass == 0) {
      mean = total / count;
    } else {
      squares = total;
    }
  }
  const double rstd = 1.0 / sqrt(squares / count + double(p.eps));
  const int64_t scale = int64_t(frame) * p.out_f, shift = scale + p.channels;
  for (int32_t c = low + thread; c < high; c += kFoldThreads) {
    const double factor = p.gamma.load(c) * rstd;
    p.out.store(scale + c, float(factor));
    p.out.store(shift + c, float(p.beta.load(c) - mean * factor));
  }
}

// --- Apply --------------------------------------------------------------------------------------

struct AffineArguments {
  Pieces pieces;
  int32_t first_channels, channels; ///< of the first source, of all
  Operand source[2], affine, out;
  Act act;
};

template <int kWidth>
SLUICE_KERNEL(kPieceThreads, 4)
affine_kernel(AffineArguments p) {
  Piece at;
  if (!find_piece<kWidth>(p.pieces, at)) return;
  const bool second = at.channel >= p.first_channels;
  // Field by field: an array indexed at run time would lie in local memory.
  const Operand source{second ? p.source[1].data : p.source[0].data,
                       second ? p.source[1].dtype : p.source[0].dtype,
                       second ? p.source[1].stride_f : p.source[0].stride_f,
                       second ? p.source[1].stride_h : p.source[0].stride_h,
                       second ? p.source[1].stride_w : p.source[0].stride_w};
  const int32_t channel = second ? at.channel - p.first_channels : at.channel;
  float x[kWidth], scale[kWidth], shift[kWidth];
  load(source, source.at(at.frame, at.row, at.col) + channel, x);
  const int64_t affine = p.affine.at(at.frame, 0, 0) + at.channel;
  load(p.affine, affine, scale);
  load(p.affine, affine + p.channels, shift);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) x[i] = activate(fmaf(x[i], scale[i], shift[i]), p.act);
  store(p.out, p.out.at(at.frame, at.row, at.col) + at.channel, x);
}

// --- Layer norm ---------------------------------------------------------------------------------

constexpr uint32_t kTokenThreads = 256;

struct LayerNormArguments {
  int32_t rows, cols, channels;
  uint32_t tokens;
  float eps;
  Operand source, gamma, beta, add, out;
};

/** A warp a token; the row is read again for each pass, from the nearest cache. */
template <int kWidth>
SLUICE_KERNEL(kTokenThreads, 4)
layer_norm_kernel(LayerNormArguments p) {
  const int32_t lane = int32_t(threadIdx.x) % kWarp;
  const uint32_t token = blockIdx.x * (kTokenThreads / kWarp) + threadIdx.x / kWarp;
  if (token >= p.tokens) return; // the whole warp
  const uint32_t line = token / uint32_t(p.cols);
  const int32_t w = int32_t(token - line * uint32_t(p.cols));
  const int32_t f = int32_t(line / uint32_t(p.rows)), h = int32_t(line % uint32_t(p.rows));
  const int64_t from = p.source.at(f, h, w), to = p.out.at(f, h, w);
  float x[kWidth];

  float sum = 0.0f;
  for (int32_t c = lane * kWidth; c < p.channels; c += kWarp * kWidth) {
    load(p.source, from + c, x);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum += x[i];
  }
  const float mean = warp_sum(sum) / float(p.channels);
  float squares = 0.0f;
  for (int32_t c = lane * kWidth; c < p.channels; c += kWarp * kWidth) {
    load(p.source, from + c, x);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) squares = fmaf(x[i] - mean, x[i] - mean, squares);
  }
  const float rstd = 1.0f / sqrtf(warp_sum(squares) / float(p.channels) + p.eps);
  for (int32_t c = lane * kWidth; c < p.channels; c += kWarp * kWidth) {
    float factor[kWidth], plus[kWidth];
    load(p.source, from + c, x);
    load(p.gamma, int64_t(c), factor);
    load(p.beta, int64_t(c), plus);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) x[i] = fmaf((x[i] - mean) * rstd, factor[i], plus[i]);
    if (p.add.present()) {
      load(p.add, p.add.at(f, h, w) + c, plus);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) x[i] += plus[i];
    }
    store(p.out, to + c, x);
  }
}

constexpr uint64_t kMostBlocks = 0x7fffffff; // of a grid

} // namespace

cudaError_t run_norm_partials(const NormPartialsCommand &c, const Launch &launch_on) {
  PartialArguments p{c.rows,
                     c.cols,
                     c.channels,
                     c.block,
                     c.block < kPartialChannels ? kPartialChannels / c.block : 1,
                     1,
                     kWarp,
                     operand(c.source, launch_on),
                     {address<float>(c.out, launch_on)},
                     c.out.stride_f,
                     c.out.stride_h};
  const int32_t blocks = c.channels / c.block;
  if (p.tile_blocks > blocks) p.tile_blocks = blocks;
  while (p.lanes < p.tile_blocks * c.block && p.lanes < kPartialChannels) p.lanes *= 2;
  const uint32_t shared = uint32_t(kPartialThreads) / uint32_t(p.lanes) * 2 *
                          uint32_t(p.tile_blocks * c.block) * sizeof(float);
  p.tiles = ceil_div(blocks, p.tile_blocks);
  const uint64_t count = uint64_t(c.frames) * uint64_t(c.rows) * uint64_t(p.tiles);
  if (shared > kMostPartialShared || count > kMostBlocks) return kNotSupported;
  return launch("norm_partials", partials_kernel, {uint32_t(count), kPartialThreads, shared},
                launch_on.stream, p);
}

cudaError_t run_norm_fold(const NormFoldCommand &c, const Launch &launch_on) {
  FoldArguments p{};
  p.merged = c.frames_out == c.frames ? 1 : c.frames;
  p.rows = c.rows, p.cols = c.cols, p.sources = c.sources, p.groups = c.groups, p.eps = c.eps;
  for (int s = 0; s < c.sources; ++s) {
    p.source_channels[s] = c.source_channels[s];
    p.block[s] = c.block[s];
    p.channels += c.source_channels[s];
    p.partials[s] = {address<const float>(c.partials[s], launch_on)};
    p.partials_f[s] = c.partials[s].stride_f;
    p.partials_h[s] = c.partials[s].stride_h;
  }
  p.gamma = {address<const float>(c.gamma, launch_on)};
  p.beta = {address<const float>(c.beta, launch_on)};
  p.out = {address<float>(c.out, launch_on)};
  p.out_f = c.out.stride_f;
  const uint64_t count = uint64_t(c.groups) * uint64_t(c.frames_out);
  if (count > kMostBlocks) return kNotSupported;
  return launch("norm_fold", fold_kernel, {uint32_t(count), kFoldThreads}, launch_on.stream, p);
}

cudaError_t run_affine(const AffineCommand &c, const Launch &launch_on) {
  const int32_t channels = int32_t(source_channels(c));
  AffineArguments p{{},
                    c.source_channels[0],
                    channels,
                    {operand(c.source[0], launch_on), operand(c.source[1], launch_on)},
                    operand(c.affine, launch_on),
                    operand(c.out, launch_on),
                    c.act};
  const bool wide = is_wide(p.source[0], c.source_channels[0]) &&
                    is_wide(p.source[1], c.source_channels[1]) && is_wide(p.affine, channels) &&
                    is_wide(p.out, channels);
  p.pieces = pieces_of(c.frames, c.rows, c.cols, channels, wide ? 8 : 1);
  if (p.pieces.count == 0) return kNotSupported;
  return launch("affine", wide ? affine_kernel<8> : affine_kernel<1>, shape_of(p.pieces),
                launch_on.stream, p);
}

cudaError_t run_layer_norm(const LayerNormCommand &c, const Launch &launch_on) {
  const LayerNormArguments p{c.rows,
                             c.cols,
                             c.channels,
                             uint32_t(c.frames) * uint32_t(c.rows) * uint32_t(c.cols),
                             c.eps,
                             operand(c.source, launch_on),
                             operand(c.gamma, launch_on),
                             operand(c.beta, launch_on),
                             operand(c.add, launch_on),
                             operand(c.out, launch_on)};
  // Strides of weights are of no account: they are read as one row.
  const auto row = [](Operand o) { return Operand{o.data, o.dtype, 0, 0, 0}; };
  const bool wide = is_wide(p.source, c.channels) && is_wide(row(p.gamma), c.channels) &&
                    is_wide(row(p.beta), c.channels) && is_wide(p.add, c.channels) &&
                    is_wide(p.out, c.channels);
  const uint32_t per_block = kTokenThreads / kWarp;
  return launch("layer_norm", wide ? layer_norm_kernel<8> : layer_norm_kernel<1>,
                {(p.tokens + per_block - 1) / per_block, kTokenThreads}, launch_on.stream, p);
}

} // namespace sluice::cuda
