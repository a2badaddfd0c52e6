#include "core/check.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/ranges.h"

namespace sluice {
namespace {

using ll = long long;

constexpr int32_t kMax = INT32_MAX;
/** Positions of a whole tensor; kernels multiply two of them in 64 bits and keep one in 32. */
constexpr int32_t kMaxAxis = 1 << 28;
constexpr int32_t kMaxKernel = 1 << 10;

constexpr unsigned kF32 = 1, kHalf = 2, kI32 = 4, kFloat = kF32 | kHalf;

unsigned dtype_bit(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return kF32;
    case DType::f16:
    case DType::bf16:
      return kHalf;
    case DType::i32:
      return kI32;
  }
  return 0;
}

const char *dtype_words(unsigned allowed) {
  return allowed == kF32 ? "f32" : allowed == kI32 ? "i32" : "f32, f16 or bf16";
}

/** Collects the first broken rule of a command; later calls then do nothing. */
class Rules {
 public:
  explicit Rules(const Abilities &abilities)
      : activations(abilities.narrow ? kFloat : kF32),
        bf16_products(abilities.bf16_products),
        conv_phases(abilities.conv_phases),
        uses_scratch_(abilities.scratch) {}

  std::string broken;
  const unsigned activations; ///< dtypes that activations may be stored in
  const bool bf16_products;
  const bool conv_phases;

  void number(const char *name, int64_t value, int64_t low, int64_t high) {
    if (!broken.empty() || (value >= low && value <= high)) return;
    broken = high == kMax ? format("%s: expected %lld or more, got %lld", name, ll(low), ll(value))
                          : format("%s: expected %lld to %lld, got %lld", name, ll(low), ll(high),
                                   ll(value));
  }

  void positive(const char *name, int64_t value) { number(name, value, 1, kMax); }
  void axis(const char *name, int64_t value) { number(name, value, 1, kMaxAxis); }

  void hold(bool condition, const char *sentence) {
    if (broken.empty() && !condition) broken = sentence;
  }

  void extents(int64_t frames, int64_t rows, int64_t cols, int64_t channels) {
    axis("frames", frames);
    axis("rows", rows);
    axis("cols", cols);
    axis("channels", channels);
    if (!broken.empty()) return;
    // Each factor is below 2^28, so that two of them cannot wrap.
    const int64_t plane = rows * cols;
    hold(plane <= kMax && frames * plane <= kMax,
         "extents: expected fewer than 2^31 positions (frames x rows x cols)");
  }

  void required(const char *name, const View &view, unsigned dtypes) {
    if (broken.empty() && !view.present()) {
      broken = format("%s: expected an operand, got none", name);
    }
    operand(name, view, dtypes);
  }

  void operand(const char *name, const View &view, unsigned dtypes) {
    if (!broken.empty() || view.slot == kSlotNone) return;
    if (!view.present()) {
      broken = format("%s: expected a slot, or -1 for none, got %d", name, view.slot);
    } else if (!(dtype_bit(view.dtype) & dtypes)) {
      broken =
          format("%s: expected dtype %s, got code %d", name, dtype_words(dtypes), int(view.dtype));
    } else if (view.stride_f < 0 || view.stride_h < 0 || view.stride_w < 0) {
      broken = format("%s: expected strides of 0 or more, got %d, %d, %d", name, view.stride_f,
                      view.stride_h, view.stride_w);
    } else if (view.offset() % dtype_bytes(view.dtype)) {
      broken =
          format("%s: expected an offset that is a multiple of the element's %d bytes, got %llu",
                 name, int(dtype_bytes(view.dtype)), (unsigned long long)view.offset());
    }
  }

  void required(const char *name, const View &view) { required(name, view, activations); }
  void operand(const char *name, const View &view) { operand(name, view, activations); }

  /** An operand that the fields say is not used: kernels may still look up its slot. */
  void absent(const char *name, const View &view) {
    if (broken.empty() && view.slot != kSlotNone) {
      broken = format("%s: expected none (slot -1), got slot %d", name, view.slot);
    }
  }

  /** An operand that is written: no element twice, or threads would race for it. */
  void written(const char *name, const View &view, int64_t frames, int64_t rows, int64_t cols,
               int64_t channels, unsigned dtypes) {
    required(name, view, dtypes);
    if (!broken.empty()) return;
    struct Axis {
      int64_t stride, extent;
    } axes[] = {{view.stride_f, frames}, {view.stride_h, rows}, {view.stride_w, cols}};
    std::sort(axes, axes + 3, [](const Axis &a, const Axis &b) { return a.stride < b.stride; });
    int64_t span = channels; // elements from the first to the last of the axes so far
    for (const Axis &axis : axes) {
      if (axis.extent == 1) continue;
      if (axis.stride < span) {
        broken = format("%s: expected strides at which no element is written twice, got %d, %d, %d",
                        name, view.stride_f, view.stride_h, view.stride_w);
        return;
      }
      span += (axis.extent - 1) * axis.stride;
    }
  }

  void written(const char *name, const View &view, int64_t frames, int64_t rows, int64_t cols,
               int64_t channels) {
    written(name, view, frames, rows, cols, channels, activations);
  }

  void activation(const char *name, Act act, bool with_geglu = false) {
    number(name, int32_t(act), 0, int32_t(Act::sigmoid));
    hold(act != Act::geglu || with_geglu, "act: expected anything but geglu here");
  }

  template <class Command>
  void sources(const Command &c) {
    number("sources", c.sources, 1, 2);
    for (int i = 0; i < 2 && broken.empty() && i < c.sources; ++i) {
      axis(i ? "source_channels[1]" : "source_channels[0]", c.source_channels[i]);
    }
    if (broken.empty()) axis("channels of all sources", source_channels(c));
  }

  bool uses_scratch() const { return uses_scratch_; }

  void scratch(const View &view, uint32_t bytes, uint64_t needed) {
    if (!uses_scratch_) {
      absent("scratch", view);
      hold(bytes == 0, "scratch_bytes: expected 0, as the device uses none");
      return;
    }
    required("scratch", view, kF32);
    if (!broken.empty()) return;
    hold(view.slot == kSlotArena, "scratch: expected slot 0 (the arena)");
    hold(view.offset() % 4 == 0 && bytes % 4 == 0, "scratch: expected multiples of 4 bytes");
    if (broken.empty() && bytes < needed) {
      broken =
          format("scratch_bytes: expected %llu or more, got %u", (unsigned long long)needed, bytes);
    }
  }

 private:
  const bool uses_scratch_;
};

/**
 * Whether every position first .. last of a whole axis of `whole` positions, read through a nearest
 * resize from `stored` positions, lies in the stored window [begin, begin + count).
 */
bool inside_window(int64_t first, int64_t last, int64_t whole, int64_t stored, int64_t begin,
                   int64_t count) {
  first = std::max<int64_t>(first, 0);
  last = std::min(last, whole - 1);
  if (first > last) return true;
  return first * stored / whole >= begin && last * stored / whole < begin + count;
}

void conv_phases(const ConvCommand &c, Rules &r) {
  r.number("phases", c.phases, 0, 1);
  if (!c.phases) return;
  r.hold(r.conv_phases, "phases: expected 0, as the device multiplies all taps");
  r.hold(c.kernel_h == 3 && c.kernel_w == 3 && c.stride == 1,
         "phases: expected a kernel of 3x3 at stride 1");
  r.hold(c.in_rows == 2 * c.phys_rows && c.in_cols == 2 * c.phys_cols,
         "phases: expected an input of exactly twice the stored rows and columns");
  r.hold(c.weight.dtype == DType::f32, "phases: expected weights in f32");
  r.hold(c.act != Act::geglu, "phases: expected another activation than geglu");
  r.number("outputs by phases", c.outputs, kFewOutputs + 1, kMax);
}

void conv(const ConvCommand &c, Rules &r) {
  r.extents(c.frames, c.rows, c.cols, c.channels);
  r.number("kernel_h", c.kernel_h, 1, kMaxKernel);
  r.number("kernel_w", c.kernel_w, 1, kMaxKernel);
  r.number("stride", c.stride, 1, kMaxKernel);
  r.axis("in_rows", c.in_rows);
  r.axis("in_cols", c.in_cols);
  r.axis("phys_rows", c.phys_rows);
  r.axis("phys_cols", c.phys_cols);
  r.number("row0", c.row0, -kMaxAxis, kMaxAxis);
  r.number("col0", c.col0, -kMaxAxis, kMaxAxis);
  r.axis("src_rows", c.src_rows);
  r.axis("src_cols", c.src_cols);
  r.number("src_row0", c.src_row0, 0, kMaxAxis);
  r.number("src_col0", c.src_col0, 0, kMaxAxis);
  r.sources(c);
  r.axis("tile_rows", c.tile_rows);
  r.axis("tile_cols", c.tile_cols);
  if (!r.broken.empty()) return;

  const int64_t last_row = c.row0 + int64_t(c.rows - 1) * c.stride + c.kernel_h - 1;
  const int64_t last_col = c.col0 + int64_t(c.cols - 1) * c.stride + c.kernel_w - 1;
  r.hold(inside_window(c.row0, last_row, c.in_rows, c.phys_rows, c.src_row0, c.src_rows),
         "src_rows: expected every source row that the output rows read");
  r.hold(inside_window(c.col0, last_col, c.in_cols, c.phys_cols, c.src_col0, c.src_cols),
         "src_cols: expected every source column that the output columns read");

  const int64_t inputs = source_channels(c);
  r.positive("kernel_h x kernel_w x channels of all sources", inputs * c.kernel_h * c.kernel_w);
  r.activation("act", c.act, true);
  r.activation("prologue_act", c.prologue_act);
  r.required("source[0]", c.source[0]);
  if (c.sources > 1) {
    r.required("source[1]", c.source[1]);
  } else {
    r.absent("source[1]", c.source[1]);
  }
  r.written("out", c.out, c.frames, c.rows, c.cols, c.channels);
  r.required("weight", c.weight, kFloat);
  r.operand("bias", c.bias, kF32);
  r.operand("vector", c.vector);
  r.operand("residual", c.residual);
  r.operand("affine", c.affine, kF32);
  r.hold(c.act != Act::geglu || (!c.vector.present() && !c.residual.present()),
         "geglu: expected neither vector nor residual");
  r.number("outputs", c.outputs, c.channels, kMax);
  r.number("compute", c.compute, 0, 1);
  r.hold(c.compute == 0 || r.bf16_products,
         "compute: expected 0, float32, as the device has no products of bfloat16");
  r.number("pixel_stride", c.pixel_stride,
           conv_block(int32_t(inputs), c.kernel_h * c.kernel_w, c.act), kMax);
  conv_phases(c, r);
  if (!r.broken.empty()) return;
  if (r.uses_scratch() && conv_in_place(c)) {
    r.hold(c.row0 >= 0 && last_row < c.in_rows && c.col0 >= 0 && last_col < c.in_cols,
           "row0, col0: expected no padding around a kernel of one");
    r.absent("scratch", c.scratch);
    r.hold(c.scratch_bytes == 0, "scratch_bytes: expected 0 where sources are read in place");
    return;
  }
  const uint64_t tile_h = uint64_t(conv_packed(c.tile_rows, c.stride, c.kernel_h, c.phases));
  const uint64_t tile_w = uint64_t(conv_packed(c.tile_cols, c.stride, c.kernel_w, c.phases));
  const uint64_t pixels = saturating_mul(tile_h, tile_w);
  const uint64_t size = conv_in_pairs(c.compute, int32_t(inputs), c.outputs) ? 2 : 4;
  r.scratch(c.scratch, c.scratch_bytes, saturating_mul(pixels, uint64_t(c.pixel_stride) * size));
}

void norm_partials(const NormPartialsCommand &c, Rules &r) {
  r.extents(c.frames, c.rows, c.cols, c.channels);
  r.number("block", c.block, 1, c.channels);
  if (!r.broken.empty()) return;
  r.hold(c.channels % c.block == 0, "block: expected a divisor of channels");
  r.required("source", c.source);
  r.written("out", c.out, c.frames, c.rows, 1, int64_t(c.channels / c.block) * 2, kF32);
  r.hold(c.out.stride_w == 2, "out: expected a stride of 2 between blocks");
}

void norm_fold(const NormFoldCommand &c, Rules &r) {
  r.extents(c.frames, c.rows, c.cols, 1);
  r.hold(c.frames_out == c.frames || c.frames_out == 1,
         "frames_out: expected 1 or as many as frames");
  r.sources(c);
  for (int i = 0; r.broken.empty() && i < c.sources; ++i) {
    r.number(i ? "block[1]" : "block[0]", c.block[i], 1, c.source_channels[i]);
    r.hold(c.block[i] > 0 && c.source_channels[i] % c.block[i] == 0,
           "block: expected a divisor of the source's channels");
    r.required(i ? "partials[1]" : "partials[0]", c.partials[i], kF32);
    r.hold(c.partials[i].stride_w == 2, "partials: expected a stride of 2 between blocks");
  }
  if (c.sources == 1) r.absent("partials[1]", c.partials[1]);
  if (!r.broken.empty()) return;
  const int64_t channels = source_channels(c);
  r.number("groups", c.groups, 1, channels);
  if (!r.broken.empty()) return;
  r.hold(channels % c.groups == 0, "groups: expected a divisor of the channels");
  const int64_t size = channels / c.groups;
  for (int64_t edge = size; r.broken.empty() && edge < channels; edge += size) {
    const int64_t seam = c.source_channels[0];
    r.hold(edge < seam ? edge % c.block[0] == 0 : edge == seam || (edge - seam) % c.block[1] == 0,
           "groups: expected every group to be made of whole blocks");
  }
  r.hold(std::isfinite(c.eps) && c.eps >= 0, "eps: expected a number of 0 or more");
  r.required("gamma", c.gamma, kF32);
  r.required("beta", c.beta, kF32);
  r.written("out", c.out, c.frames_out, 1, 1, 2 * channels, kF32);
}

void affine(const AffineCommand &c, Rules &r) {
  r.extents(c.frames, c.rows, c.cols, 1);
  r.sources(c);
  r.activation("act", c.act);
  r.required("source[0]", c.source[0]);
  if (c.sources > 1) {
    r.required("source[1]", c.source[1]);
  } else {
    r.absent("source[1]", c.source[1]);
  }
  r.required("affine", c.affine, kF32);
  r.written("out", c.out, c.frames, c.rows, c.cols, source_channels(c));
}

void layer_norm(const LayerNormCommand &c, Rules &r) {
  r.extents(c.frames, c.rows, c.cols, c.channels);
  r.hold(std::isfinite(c.eps) && c.eps >= 0, "eps: expected a number of 0 or more");
  r.required("source", c.source);
  r.required("gamma", c.gamma, kF32);
  r.required("beta", c.beta, kF32);
  r.operand("add", c.add);
  r.written("out", c.out, c.frames, c.rows, c.cols, c.channels);
}

void attention(const AttentionCommand &c, Rules &r) {
  r.axis("heads", c.heads);
  r.axis("head_dim", c.head_dim);
  if (!r.broken.empty()) return;
  r.extents(c.frames, c.rows, c.cols, int64_t(c.heads) * c.head_dim);
  r.number("time", c.time, 0, 1);
  r.number("causal", c.causal, 0, 1);
  r.number("query0", c.query0, 0, kMax);
  if (c.time) {
    r.axis("key_frames", c.key_frames);
  } else {
    r.extents(c.frames, c.key_rows, c.key_cols, 1);
  }
  r.hold(std::isfinite(c.scale), "scale: expected a finite number");
  r.required("q", c.q);
  r.required("k", c.k);
  r.required("v", c.v);
  r.written("out", c.out, c.frames, c.rows, c.cols, int64_t(c.heads) * c.head_dim);
  r.number("block_q", c.block_q, 8, kMaxAxis);
  r.number("block_k", c.block_k, 16, kMaxAxis);
  if (!r.broken.empty()) return;
  r.hold(c.block_q % 8 == 0, "block_q: expected a multiple of 8");
  r.hold(c.block_k % 16 == 0, "block_k: expected a multiple of 16");
  // Factors below 2^29 and 2^28: no product or sum here reaches 2^63.
  const uint64_t dim = uint64_t(c.head_dim), padded = ceil16(dim);
  const uint64_t q = uint64_t(c.block_q), k = uint64_t(c.block_k);
  r.scratch(c.scratch, c.scratch_bytes,
            4 * (k * (dim + padded) + 8 * uint64_t(attention_scores_stride(c.block_k)) +
                 q * (padded + dim + 2)));
}

void binary(const BinaryCommand &c, Rules &r) {
  r.number("op", int32_t(c.op), 0, int32_t(BinaryOp::lerp));
  r.extents(c.frames, c.rows, c.cols, c.channels);
  r.number("b_channel_stride", c.b_channel_stride, 0, 1);
  r.required("a", c.a);
  r.required("b", c.b);
  r.operand("t", c.t);
  r.hold(c.op != BinaryOp::lerp || c.t.present(), "t: expected an operand, got none");
  r.written("out", c.out, c.frames, c.rows, c.cols, c.channels);
}

void unary(const UnaryCommand &c, Rules &r) {
  r.extents(c.frames, c.rows, c.cols, c.channels);
  r.activation("act", c.act);
  r.required("source", c.source, kFloat);
  r.written("out", c.out, c.frames, c.rows, c.cols, c.channels, kFloat);
}

void combine(const CombineCommand &c, Rules &r) {
  r.extents(c.frames, c.rows, c.cols, c.channels);
  r.number("count", c.count, 1, 4);
  r.required("coefficients", c.coefficients, kF32);
  for (int i = 0; r.broken.empty() && i < 4; ++i) {
    if (i < c.count) {
      r.required("source", c.source[i]);
    } else {
      r.absent("source beyond count", c.source[i]);
    }
  }
  r.written("out", c.out, c.frames, c.rows, c.cols, c.channels);
}

void quantise(const QuantiseCommand &c, Rules &r) {
  r.extents(c.frames, c.rows, c.cols, c.channels);
  const bool narrows = c.header.opcode == Opcode::quantise;
  r.required("source", c.source, narrows ? r.activations : kI32);
  r.written("out", c.out, c.frames, c.rows, c.cols, narrows ? stored_words(c.channels) : c.channels,
            narrows ? kI32 : r.activations);
}

void resize(const ResizeCommand &c, Rules &r) {
  r.extents(c.frames, c.rows, c.cols, c.channels);
  r.axis("in_rows", c.in_rows);
  r.axis("in_cols", c.in_cols);
  r.axis("out_rows", c.out_rows);
  r.axis("out_cols", c.out_cols);
  r.axis("src_rows", c.src_rows);
  r.axis("src_cols", c.src_cols);
  r.number("src_row0", c.src_row0, 0, kMaxAxis);
  r.number("src_col0", c.src_col0, 0, kMaxAxis);
  r.number("out_row0", c.out_row0, 0, int64_t(c.out_rows) - c.rows);
  r.number("out_col0", c.out_col0, 0, int64_t(c.out_cols) - c.cols);
  if (!r.broken.empty()) return;
  r.hold(inside_window(c.out_row0, int64_t(c.out_row0) + c.rows - 1, c.out_rows, c.in_rows,
                       c.src_row0, c.src_rows),
         "src_rows: expected every source row that the output rows read");
  r.hold(inside_window(c.out_col0, int64_t(c.out_col0) + c.cols - 1, c.out_cols, c.in_cols,
                       c.src_col0, c.src_cols),
         "src_cols: expected every source column that the output columns read");
  r.required("source", c.source);
  r.written("out", c.out, c.frames, c.rows, c.cols, c.channels);
}

void embedding(const EmbeddingCommand &c, Rules &r) {
  r.axis("tokens", c.tokens);
  r.axis("channels", c.channels);
  r.axis("table_rows", c.table_rows);
  r.number("token0", c.token0, 0, kMaxAxis);
  r.required("ids", c.ids, kI32);
  r.required("table", c.table, kFloat);
  r.operand("positions", c.positions, kF32);
  r.written("out", c.out, 1, 1, c.tokens, c.channels);
  if (c.positions.present()) {
    r.number("position_rows", c.position_rows, int64_t(c.token0) + c.tokens, kMaxAxis);
  }
}

void timestep(const TimestepCommand &c, Rules &r) {
  r.number("dim", c.dim, 2, kMaxAxis);
  r.hold(c.dim % 2 == 0, "dim: expected an even number");
  r.number("flip", c.flip, 0, 1);
  r.hold(std::isfinite(c.shift), "shift: expected a finite number");
  r.hold(std::isfinite(c.max_period) && c.max_period > 0, "max_period: expected a number above 0");
  r.required("t", c.t, kF32);
  r.written("out", c.out, 1, 1, 1, c.dim);
}

void copy(const CopyCommand &c, Rules &r) {
  r.number("ticket", c.ticket, 0, kMax);
  r.extents(c.frames, c.rows, c.cols, c.channels);
  r.required("source", c.source, kFloat | kI32);
  r.written("out", c.out, c.frames, c.rows, c.cols, c.channels, dtype_bit(c.source.dtype));
  r.hold(c.out.dtype == c.source.dtype, "out: expected the source's dtype");
}

void join(const JoinCommand &c, Rules &r) { r.positive("ticket", c.ticket); }

void fetch(const FetchCommand &c, Rules &r) {
  r.number("weight", c.weight, 0, kMax);
  r.positive("halves", c.halves);
  r.required("out", c.out, kHalf);
}

struct Kind {
  const char *name;
  size_t bytes;
};

constexpr Kind kKinds[] = {
    {"?", 0},
    {"conv", sizeof(ConvCommand)},
    {"norm_partials", sizeof(NormPartialsCommand)},
    {"norm_fold", sizeof(NormFoldCommand)},
    {"affine", sizeof(AffineCommand)},
    {"layer_norm", sizeof(LayerNormCommand)},
    {"attention", sizeof(AttentionCommand)},
    {"binary", sizeof(BinaryCommand)},
    {"unary", sizeof(UnaryCommand)},
    {"combine", sizeof(CombineCommand)},
    {"resize", sizeof(ResizeCommand)},
    {"embedding", sizeof(EmbeddingCommand)},
    {"timestep", sizeof(TimestepCommand)},
    {"quantise", sizeof(QuantiseCommand)},
    {"dequantise", sizeof(QuantiseCommand)},
    {"copy", sizeof(CopyCommand)},
    {"join", sizeof(JoinCommand)},
    {"fetch", sizeof(FetchCommand)},
};
static_assert(sizeof kKinds / sizeof *kKinds == size_t(Opcode::fetch) + 1);
static_assert(alignof(ConvCommand) == 4 && alignof(AttentionCommand) == 4 &&
                  alignof(NormFoldCommand) == 4,
              "commands are read in place from 32-bit words");

const Kind &kind(Opcode opcode) {
  const uint32_t code = uint32_t(opcode);
  return kKinds[code <= uint32_t(Opcode::fetch) ? code : 0];
}

} // namespace

int32_t command_words(Opcode opcode) { return int32_t(kind(opcode).bytes / 4); }

const char *opcode_name(Opcode opcode) { return kind(opcode).name; }

std::string check_command(const Header &h, const Abilities &abilities) {
  Rules r(abilities);
  switch (h.opcode) {
    case Opcode::conv:
      conv(reinterpret_cast<const ConvCommand &>(h), r);
      break;
    case Opcode::norm_partials:
      norm_partials(reinterpret_cast<const NormPartialsCommand &>(h), r);
      break;
    case Opcode::norm_fold:
      norm_fold(reinterpret_cast<const NormFoldCommand &>(h), r);
      break;
    case Opcode::affine:
      affine(reinterpret_cast<const AffineCommand &>(h), r);
      break;
    case Opcode::layer_norm:
      layer_norm(reinterpret_cast<const LayerNormCommand &>(h), r);
      break;
    case Opcode::attention:
      attention(reinterpret_cast<const AttentionCommand &>(h), r);
      break;
    case Opcode::binary:
      binary(reinterpret_cast<const BinaryCommand &>(h), r);
      break;
    case Opcode::unary:
      unary(reinterpret_cast<const UnaryCommand &>(h), r);
      break;
    case Opcode::combine:
      combine(reinterpret_cast<const CombineCommand &>(h), r);
      break;
    case Opcode::resize:
      resize(reinterpret_cast<const ResizeCommand &>(h), r);
      break;
    case Opcode::embedding:
      embedding(reinterpret_cast<const EmbeddingCommand &>(h), r);
      break;
    case Opcode::timestep:
      timestep(reinterpret_cast<const TimestepCommand &>(h), r);
      break;
    case Opcode::quantise:
    case Opcode::dequantise:
      quantise(reinterpret_cast<const QuantiseCommand &>(h), r);
      break;
    case Opcode::copy:
      copy(reinterpret_cast<const CopyCommand &>(h), r);
      break;
    case Opcode::join:
      join(reinterpret_cast<const JoinCommand &>(h), r);
      break;
    case Opcode::fetch:
      fetch(reinterpret_cast<const FetchCommand &>(h), r);
      break;
  }
  return r.broken;
}

} // namespace sluice
