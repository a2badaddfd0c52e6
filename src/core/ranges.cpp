#include "core/ranges.h"

namespace sluice {
namespace {

class Collector {
 public:
  explicit Collector(Claims &out) : out_(out) { out_.count = 0; }

  /** `elements` one after another. */
  void flat(const char *name, const View &view, uint64_t elements, bool written = false) {
    bytes(name, view, saturating_mul(elements, dtype_bytes(view.dtype)), written);
  }

  /** A strided box. The sum cannot wrap: three products below 2^62 each. */
  void box(const char *name, const View &view, int64_t frames, int64_t rows, int64_t cols,
           int64_t channels, bool written = false) {
    const uint64_t last = uint64_t(frames - 1) * uint64_t(view.stride_f) +
                          uint64_t(rows - 1) * uint64_t(view.stride_h) +
                          uint64_t(cols - 1) * uint64_t(view.stride_w);
    flat(name, view, saturating_add(last, uint64_t(channels)), written);
  }

  void bytes(const char *name, const View &view, uint64_t size, bool written) {
    if (!view.present() || out_.count == kMaxClaims) return;
    const uint64_t begin = view.offset();
    out_.items[out_.count++] = {{view.slot, begin, saturating_add(begin, size), written ? 1 : 0},
                                name};
  }

 private:
  Claims &out_;
};

constexpr bool kWritten = true;
const char *const kSources[4] = {"source[0]", "source[1]", "source[2]", "source[3]"};
const char *const kPartials[2] = {"partials[0]", "partials[1]"};

void conv(const ConvCommand &c, Collector &out) {
  const int64_t inputs = source_channels(c);
  for (int i = 0; i < c.sources; ++i) {
    out.box(kSources[i], c.source[i], c.frames, c.src_rows, c.src_cols, c.source_channels[i]);
  }
  const bool gated = c.act == Act::geglu;
  const uint64_t columns = ceil16(uint64_t(c.channels)) * (gated ? 2 : 1);
  const uint64_t taps =
      c.phases ? kPhases * kPhaseTaps : uint64_t(c.kernel_h) * uint64_t(c.kernel_w);
  out.flat("weight", c.weight, saturating_mul(saturating_mul(columns, taps), uint64_t(inputs)));
  out.flat("bias", c.bias, gated ? columns : uint64_t(c.channels));
  out.box("vector", c.vector, c.frames, 1, 1, c.channels);
  out.box("residual", c.residual, c.frames, c.rows, c.cols, c.channels);
  out.box("affine", c.affine, c.frames, 1, 1, 2 * inputs);
  out.box("out", c.out, c.frames, c.rows, c.cols, c.channels, kWritten);
}

void norm_partials(const NormPartialsCommand &c, Collector &out) {
  out.box("source", c.source, c.frames, c.rows, c.cols, c.channels);
  out.box("out", c.out, c.frames, c.rows, 1, int64_t(c.channels / c.block) * 2, kWritten);
}

void norm_fold(const NormFoldCommand &c, Collector &out) {
  for (int i = 0; i < c.sources; ++i) {
    const int64_t blocks = c.source_channels[i] / c.block[i];
    out.box(kPartials[i], c.partials[i], c.frames, c.rows, 1, blocks * 2);
  }
  const int64_t channels = source_channels(c);
  out.flat("gamma", c.gamma, uint64_t(channels));
  out.flat("beta", c.beta, uint64_t(channels));
  out.box("out", c.out, c.frames_out, 1, 1, 2 * channels, kWritten);
}

void affine(const AffineCommand &c, Collector &out) {
  for (int i = 0; i < c.sources; ++i) {
    out.box(kSources[i], c.source[i], c.frames, c.rows, c.cols, c.source_channels[i]);
  }
  const int64_t channels = source_channels(c);
  out.box("affine", c.affine, c.frames, 1, 1, 2 * channels);
  out.box("out", c.out, c.frames, c.rows, c.cols, channels, kWritten);
}

void layer_norm(const LayerNormCommand &c, Collector &out) {
  out.box("source", c.source, c.frames, c.rows, c.cols, c.channels);
  out.flat("gamma", c.gamma, uint64_t(c.channels));
  out.flat("beta", c.beta, uint64_t(c.channels));
  out.box("add", c.add, c.frames, c.rows, c.cols, c.channels);
  out.box("out", c.out, c.frames, c.rows, c.cols, c.channels, kWritten);
}

void attention(const AttentionCommand &c, Collector &out) {
  const int64_t channels = int64_t(c.heads) * c.head_dim;
  const int64_t key_frames = c.time ? c.key_frames : c.frames;
  const int64_t key_rows = c.time ? c.rows : c.key_rows;
  const int64_t key_cols = c.time ? c.cols : c.key_cols;
  out.box("q", c.q, c.frames, c.rows, c.cols, channels);
  out.box("k", c.k, key_frames, key_rows, key_cols, channels);
  out.box("v", c.v, key_frames, key_rows, key_cols, channels);
  out.box("out", c.out, c.frames, c.rows, c.cols, channels, kWritten);
}

void binary(const BinaryCommand &c, Collector &out) {
  out.box("a", c.a, c.frames, c.rows, c.cols, c.channels);
  out.box("b", c.b, c.frames, c.rows, c.cols, c.b_channel_stride ? c.channels : 1);
  out.flat("t", c.t, 1);
  out.box("out", c.out, c.frames, c.rows, c.cols, c.channels, kWritten);
}

void unary(const UnaryCommand &c, Collector &out) {
  out.box("source", c.source, c.frames, c.rows, c.cols, c.channels);
  out.box("out", c.out, c.frames, c.rows, c.cols, c.channels, kWritten);
}

void combine(const CombineCommand &c, Collector &out) {
  out.flat("coefficients", c.coefficients, uint64_t(c.count));
  for (int i = 0; i < c.count; ++i) {
    out.box(kSources[i], c.source[i], c.frames, c.rows, c.cols, c.channels);
  }
  out.box("out", c.out, c.frames, c.rows, c.cols, c.channels, kWritten);
}

void resize(const ResizeCommand &c, Collector &out) {
  out.box("source", c.source, c.frames, c.src_rows, c.src_cols, c.channels);
  out.box("out", c.out, c.frames, c.rows, c.cols, c.channels, kWritten);
}

void embedding(const EmbeddingCommand &c, Collector &out) {
  out.flat("ids", c.ids, uint64_t(c.tokens));
  out.box("table", c.table, 1, 1, c.table_rows, c.channels);
  out.box("positions", c.positions, 1, 1, c.position_rows, c.channels);
  out.box("out", c.out, 1, 1, c.tokens, c.channels, kWritten);
}

void quantise(const QuantiseCommand &c, Collector &out) {
  const bool narrows = c.header.opcode == Opcode::quantise;
  const int64_t stored = stored_words(c.channels), plain = c.channels;
  out.box("source", c.source, c.frames, c.rows, c.cols, narrows ? plain : stored);
  out.box("out", c.out, c.frames, c.rows, c.cols, narrows ? stored : plain, kWritten);
}

void copy(const CopyCommand &c, Collector &out) {
  out.box("source", c.source, c.frames, c.rows, c.cols, c.channels);
  out.box("out", c.out, c.frames, c.rows, c.cols, c.channels, kWritten);
}

void timestep(const TimestepCommand &c, Collector &out) {
  out.flat("t", c.t, 1);
  out.flat("out", c.out, uint64_t(c.dim), kWritten);
}

} // namespace

Scratch scratch_of(const Header &command) {
  if (command.opcode == Opcode::conv) {
    const auto &c = reinterpret_cast<const ConvCommand &>(command);
    return {&c.scratch, c.scratch_bytes};
  }
  if (command.opcode == Opcode::attention) {
    const auto &c = reinterpret_cast<const AttentionCommand &>(command);
    return {&c.scratch, c.scratch_bytes};
  }
  return {};
}

void ranges(const Header &command, int32_t threads, Claims &claims) {
  Collector out(claims);
  switch (command.opcode) {
    case Opcode::conv:
      conv(reinterpret_cast<const ConvCommand &>(command), out);
      break;
    case Opcode::norm_partials:
      norm_partials(reinterpret_cast<const NormPartialsCommand &>(command), out);
      break;
    case Opcode::norm_fold:
      norm_fold(reinterpret_cast<const NormFoldCommand &>(command), out);
      break;
    case Opcode::affine:
      affine(reinterpret_cast<const AffineCommand &>(command), out);
      break;
    case Opcode::layer_norm:
      layer_norm(reinterpret_cast<const LayerNormCommand &>(command), out);
      break;
    case Opcode::attention:
      attention(reinterpret_cast<const AttentionCommand &>(command), out);
      break;
    case Opcode::binary:
      binary(reinterpret_cast<const BinaryCommand &>(command), out);
      break;
    case Opcode::unary:
      unary(reinterpret_cast<const UnaryCommand &>(command), out);
      break;
    case Opcode::combine:
      combine(reinterpret_cast<const CombineCommand &>(command), out);
      break;
    case Opcode::resize:
      resize(reinterpret_cast<const ResizeCommand &>(command), out);
      break;
    case Opcode::embedding:
      embedding(reinterpret_cast<const EmbeddingCommand &>(command), out);
      break;
    case Opcode::timestep:
      timestep(reinterpret_cast<const TimestepCommand &>(command), out);
      break;
    case Opcode::quantise:
    case Opcode::dequantise:
      quantise(reinterpret_cast<const QuantiseCommand &>(command), out);
      break;
    case Opcode::copy:
      copy(reinterpret_cast<const CopyCommand &>(command), out);
      break;
    case Opcode::join:
      break;
    case Opcode::fetch: {
      const auto &c = reinterpret_cast<const FetchCommand &>(command);
      out.flat("out", c.out, uint64_t(c.halves), kWritten);
      break;
    }
  }
  if (const Scratch scratch = scratch_of(command); scratch.view) {
    out.bytes("scratch", *scratch.view, uint64_t(threads) * scratch.bytes_per_thread, kWritten);
  }
}

} // namespace sluice
