/**
 * @file
 * The command stream: what the planner lowers a plan to and every backend executes.
 *
 * A stream is one array of 32-bit words. A command is a Header followed by the fields of one of the
 * structs below, word for word; `lib/planner/commands.ts` writes the same fields in the same order.
 * A command is read in place: no parsing, no copy.
 *
 * Every operand is seen as [frames, rows, cols, channels] with element strides for the first three
 * axes and channels contiguous. A stride of 0 repeats the operand along that axis. Rank-2 tensors
 * [tokens, channels] are [1, 1, tokens, channels].
 */
#pragma once

#include <cstdint>

namespace sluice {

/** Raised whenever a struct here changes; a plan and a backend with other versions are refused. */
constexpr int32_t kCommandVersion = 6;

enum class DType : int32_t { f32 = 0, f16 = 1, bf16 = 2, i32 = 3 };

enum class Act : int32_t {
  none = 0,
  silu = 1,
  gelu = 2,       ///< x * Phi(x), by erf
  quick_gelu = 3, ///< x * sigmoid(1.702 x)
  geglu = 4, ///< conv only: output column j = a_j * gelu(g_j), weight panels interleaved (a, g, a,
             ///< g, ...)
  gelu_tanh = 5,
  sigmoid = 6,
};

enum class Opcode : int32_t {
  conv = 1,
  norm_partials = 2,
  norm_fold = 3,
  affine = 4,
  layer_norm = 5,
  attention = 6,
  binary = 7,
  unary = 8,
  combine = 9,
  resize = 10,
  embedding = 11,
  timestep = 12,
  quantise = 13,
  dequantise = 14,
  copy = 15,
  join = 16,
  fetch = 17,
};

/** Slots of base addresses. The host slot is memory beside the device's, for what a plan keeps out
 * of its budget: only copies touch it. Slots from kSlotBound on are bound anew for each run (a
 * program's inputs and outputs). */
constexpr int32_t kSlotNone = -1;
constexpr int32_t kSlotArena = 0;
constexpr int32_t kSlotWeights = 1;
constexpr int32_t kSlotHost = 2;
constexpr int32_t kSlotBound = 3;

/** Output channels in one panel of packed weights: layout [ceil(N / 16)][K][16], zero-padded,
 * whatever the instruction set. */
constexpr int32_t kPanel = 16;

/** Channels of a pixel that share one scale in eight-bit storage; the last block may have fewer. */
constexpr int32_t kQuantBlock = 32;

/** An operand: base slot, byte offset in it, element type and element strides of frames, rows,
 * cols. slot < 0: absent. */
struct View {
  int32_t slot;
  DType dtype;
  uint32_t offset_lo, offset_hi;
  int32_t stride_f, stride_h, stride_w;
  uint64_t offset() const { return (uint64_t(offset_hi) << 32) | offset_lo; }
  bool present() const { return slot >= 0; }
};

/** words: length of the whole command, header included. node, slice: where it comes from, for
 * progress and errors. */
struct Header {
  Opcode opcode;
  int32_t words;
  int32_t node;
  int32_t slice;
};

/**
 * Convolution and matrix product (kernel 1x1), float32 activations.
 *
 * out[f,y,x,o] = act( bias[o] + vector[f,o] + residual[f,y,x,o] + sum_{ky,kx,c} in[f,
 * y*stride+ky+row0, x*stride+kx+col0, c] W[o,ky,kx,c] ) where `in` is the channel concatenation of
 * the sources, after the prologue `prologue_act(in * scale[f,c] + shift[f,c])` where affine is
 * present, and zero outside [0,in_rows) x [0,in_cols) (zero after the prologue). Where in_rows !=
 * phys_rows the sources are read through a nearest upsampling: logical row r is physical row r *
 * phys_rows / in_rows (integer division), likewise columns.
 *
 * Sums run in a fixed order for an output element (blocks of conv_block channels, K ascending in
 * each), whatever tile, slice or thread it falls in. `out` may be the same memory as `residual`,
 * never overlap a source. Weights: panels with K index (ky*kernel_w + kx)*C + c. GEGLU: `channels`
 * counts output columns; the panels hold 2*channels columns, panel 2i = columns of a, 2i+1 = their
 * gates; no vector, no residual; bias is permuted the same way as the panels ([2*ceil16(channels)]
 * padded), and K is never split.
 *
 * Phases, where the kernel is 3x3 at stride 1 and the upsampling doubles both sides exactly: the
 * same sum with the taps that fall on one stored pixel taken together, four of them for each parity
 * of the row and column under tap (0,0). Weights: float32 panels with K index
 * ((phase*2 + ky)*2 + kx)*C + c, phase = 2*(even row) + (even column); stored row ky under an odd
 * row: tap 0, then taps 1 and 2; under an even one: taps 0 and 1, then tap 2.
 */
struct ConvCommand {
  Header header;
  int32_t frames, rows, cols, channels; ///< of the output region
  int32_t kernel_h, kernel_w, stride;
  int32_t in_rows, in_cols;     ///< logical size of the whole input (after upsampling)
  int32_t phys_rows, phys_cols; ///< size of the whole sources
  int32_t row0,
      col0; ///< logical input position under output (0,0), tap (0,0); negative in the padding
  int32_t src_row0,
      src_col0; ///< physical position that element (0,0) of the source views stands for
  int32_t src_rows, src_cols; ///< physical extent of the source views
  int32_t sources;            ///< 1 or 2
  int32_t source_channels[2];
  View source[2];
  View out;
  View weight;   ///< panels, dtype f32/f16/bf16
  View bias;     ///< f32 [channels]
  View vector;   ///< f32 [frames or 1, channels], by stride_f
  View residual; ///< f32, as out
  View affine;   ///< f32 [frames or 1][2][C]: stride_f between frames, scale then shift
  Act prologue_act, act;
  int32_t outputs; ///< channels of the whole output, of which the region may have some
  int32_t compute; ///< 0: float32; 1: products of bfloat16, inputs rounded after the prologue, sums
                   ///< float32, where conv_in_pairs
  int32_t phases;  ///< 1: weights by phases
  int32_t tile_rows, tile_cols; ///< output pixels of one packed input tile
  int32_t pixel_stride;         ///< elements between pixels of the packed tile, >= conv_block
  View scratch;                 ///< threads * scratch_bytes; absent where conv_in_place
  uint32_t scratch_bytes;       ///< per thread: conv_packed of tile_rows * that of tile_cols *
                          ///< pixel_stride * 4 (2 in pairs), or a multiple, for as many frames at
                          ///< once where a tile is a whole one
};

/** Parities of a row and a column. */
constexpr int32_t kPhases = 4;
/** Stored pixels under an output of a phase. */
constexpr int32_t kPhaseTaps = 4;

/** Packed rows (or columns) under so many of a tile's outputs, at the most: by phases, a row more
 * where the first lies under an odd position. */
static constexpr int64_t conv_packed(int64_t outputs, int32_t stride, int32_t kernel,
                                     int32_t phases) {
  return phases ? outputs / 2 + 2 : (outputs - 1) * stride + kernel;
}

/**
 * Input channels that a convolution packs at a time; sums run over a block's channels tap by tap,
 * then over the next block's. GEGLU's sums cannot wait in the output, so that it takes all at once.
 * Same as convBlock in lib/program/ops/conv.ts.
 */
static constexpr int32_t conv_block(int32_t channels, int32_t taps, Act act) {
  const int32_t most = taps == 1 ? 960 : 320;
  if (act == Act::geglu || channels <= most) return channels;
  const int32_t blocks = (channels + most - 1) / most;
  return ((channels + blocks - 1) / blocks + 15) / 16 * 16;
}

/** Outputs up to which a convolution on a CPU sums lanes of input channels (conv_narrow.hpp). */
constexpr int32_t kFewOutputs = 4;

/** Whether a convolution takes two input channels at a time, in bfloat16. */
static constexpr bool conv_in_pairs(int32_t compute, int32_t inputs, int32_t outputs) {
  return compute == 1 && inputs % 2 == 0 && outputs > kFewOutputs;
}

/**
 * Whether a CPU's convolution reads its sources where they are: where every output pixel takes one
 * pixel of them as it is. Then it has neither tiles nor scratch. GEGLU's sums cannot wait in the
 * output for a second source. Same as convInPlace in lib/program/ops/conv.ts.
 */
static constexpr bool conv_in_place(const ConvCommand &c) {
  const bool same = c.kernel_h == 1 && c.kernel_w == 1 && c.in_rows == c.phys_rows &&
                    c.in_cols == c.phys_cols && c.prologue_act == Act::none && c.affine.slot < 0;
  const int32_t inputs = c.source_channels[0] + (c.sources > 1 ? c.source_channels[1] : 0);
  return same && c.outputs > kFewOutputs && !conv_in_pairs(c.compute, inputs, c.outputs) &&
         (c.sources == 1 || c.act != Act::geglu);
}

/** Partial statistics, one (mean, M2) pair per frame, row and block of channels, over the row's
 * cols * block elements. */
struct NormPartialsCommand {
  Header header;
  int32_t frames, rows, cols, channels, block;
  View source;
  View out; ///< f32 [frames, rows, channels/block, 2]: stride_f, stride_h; stride_w = 2 between
            ///< blocks
};

/**
 * Merges partials (in a fixed order: frames, rows, sources, blocks ascending) into scale and shift
 * per channel: scale = gamma * rstd(group), shift = beta - mean(group) * scale; biased variance,
 * eps inside the root. frames_out = frames: per frame; frames_out = 1: over all frames.
 */
struct NormFoldCommand {
  Header header;
  int32_t frames, frames_out, rows, cols;
  int32_t sources;
  int32_t source_channels[2];
  int32_t block[2];
  int32_t groups;
  float eps;
  View partials[2]; ///< as NormPartialsCommand::out
  View gamma, beta; ///< f32 [C]
  View out;         ///< f32 [frames_out][2][C]: stride_f
};

/** out = act(in * scale + shift), `in` the channel concatenation of the sources. out may be the
 * source when there is one. */
struct AffineCommand {
  Header header;
  int32_t frames, rows, cols;
  int32_t sources;
  int32_t source_channels[2];
  View source[2];
  View affine;
  Act act;
  View out;
};

/** out = LayerNorm over channels (biased variance) * gamma + beta (+ add, broadcast by strides 0).
 * out may be source. */
struct LayerNormCommand {
  Header header;
  int32_t frames, rows, cols, channels;
  float eps;
  View source, gamma, beta, add, out;
};

/** Floats between the rows of scores of a block of keys: rows whole KiB apart would fall on each
 * other's addresses in the processor's store buffer. */
static constexpr int32_t attention_scores_stride(int32_t block_k) {
  return block_k % 256 == 0 ? block_k + 16 : block_k;
}

/**
 * Softmax attention, online over key blocks. Channels of q, k, v, out: head h owns [h*head_dim,
 * (h+1)*head_dim). time = 0: batch = frames, tokens = rows x cols (row-major); key tokens =
 * key_rows x key_cols of the same frame (stride_f 0: shared). time = 1: batch = rows x cols, tokens
 * = frames, key tokens = key_frames of the same pixel: strides only, nothing is moved. causal:
 * query token i (counted from query0) sees key tokens <= i. A row's result does not depend on the
 * block of queries it is in.
 */
struct AttentionCommand {
  Header header;
  int32_t frames, rows, cols; ///< of q and out
  int32_t heads, head_dim;
  int32_t time;
  int32_t key_frames, key_rows, key_cols;
  int32_t causal, query0;
  float scale;
  View q, k, v, out;
  int32_t block_q, block_k; ///< block_q a multiple of 8, block_k of 16
  View scratch;
  uint32_t
      scratch_bytes; ///< per thread: 4*(block_k*(head_dim + ceil16(head_dim)) +
                     ///< 8*attention_scores_stride + block_q*(ceil16(head_dim) + head_dim + 2))
};

enum class BinaryOp : int32_t { add = 0, sub = 1, mul = 2, lerp = 3 };

/** out = a op b; lerp: a + t (b - a), t one value. b broadcasts by strides 0; b_channel_stride 0
 * repeats one value. out may be a. */
struct BinaryCommand {
  Header header;
  BinaryOp op;
  int32_t frames, rows, cols, channels;
  int32_t b_channel_stride;
  View a, b, t, out;
};

/** out = act(source), with conversion between f32, f16, bf16. out may be source when the dtypes
 * agree. */
struct UnaryCommand {
  Header header;
  Act act;
  int32_t frames, rows, cols, channels;
  View source, out;
};

/** out = sum_i coefficients[i] * source[i], i ascending. out may be any source. */
struct CombineCommand {
  Header header;
  int32_t frames, rows, cols, channels;
  int32_t count;     ///< 1 .. 4
  View coefficients; ///< f32 [count]
  View source[4];
  View out;
};

/** Nearest resize: out row r (r + out_row0 in the whole output) is source row (r + out_row0) *
 * in_rows / out_rows, likewise columns. */
struct ResizeCommand {
  Header header;
  int32_t frames, rows, cols, channels;         ///< of the output region
  int32_t in_rows, in_cols, out_rows, out_cols; ///< whole sizes
  int32_t out_row0, out_col0;
  int32_t src_row0, src_col0, src_rows, src_cols;
  View source, out;
};

/** out[t] = table[ids[t]] (+ positions[t + token0]). An id outside [0, table_rows) fails the
 * command. */
struct EmbeddingCommand {
  Header header;
  int32_t tokens, channels, table_rows, token0, position_rows;
  View ids;       ///< i32 [tokens]
  View table;     ///< f32/f16/bf16 [table_rows, channels]: stride_w = row stride
  View positions; ///< f32 [position_rows, channels]: stride_w = row stride
  View out;       ///< f32 [tokens, channels]: stride_w
};

/** Sinusoidal embedding of one number: half = dim/2, w_i = exp(-ln(max_period) i / (half - shift)),
 * [sin | cos] or flipped [cos | sin]. */
struct TimestepCommand {
  Header header;
  int32_t dim, flip;
  float shift, max_period;
  View t;   ///< f32 [1]
  View out; ///< f32 [dim]
};

/**
 * Eight-bit storage, pixel by pixel, so that no slice changes a bit. A stored pixel is the f32
 * scale of each block of kQuantBlock channels, then the channels as int8, filled up with 0 to whole
 * words: stored_words(channels) in all.
 *
 * quantise: scale = max |x| / 127 over the block, q = x / scale to the nearest whole number; a
 * block whose largest |x| is below 1e-30 becomes zeros. dequantise: x = q scale.
 */
struct QuantiseCommand {
  Header header;
  int32_t frames, rows, cols, channels;
  View source; ///< quantise: f32; dequantise: i32 [.., stored_words]
  View out;    ///< the other way round
};

/**
 * out = source, bytes unchanged (one dtype). ticket 0: done when the command is. Otherwise it
 * begins after all that was submitted before it, and may end as late as the join that has its
 * ticket or a later one: until then nothing touches `out`, and nothing writes `source`. Tickets
 * grow.
 */
struct CopyCommand {
  Header header;
  int32_t ticket;
  int32_t frames, rows, cols, channels;
  View source, out;
};

/** What comes after it finds the copies with tickets up to this one done. */
struct JoinCommand {
  Header header;
  int32_t ticket;
};

/** Packs weight `weight` of the list that the run was given into `halves` 16-bit words at `out`.
 * The CPU's way to stream: a weight is read from its file when it is needed. */
struct FetchCommand {
  Header header;
  int32_t weight, halves;
  View out; ///< f16, whatever the weight is
};

/** Words of a pixel of so many channels in eight-bit storage. */
constexpr int64_t stored_words(int64_t channels) {
  return (channels + kQuantBlock - 1) / kQuantBlock + (channels + 3) / 4;
}

} // namespace sluice
