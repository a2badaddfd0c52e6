#include "segment.hpp"

#include <algorithm>

namespace sluice::cuda {
namespace {

/** Two segments are under way at most: an abort waits for both. */
constexpr double kSeconds = 0.04;
constexpr int32_t kMostCommands = 64;

/** Operations a second that a multiprocessor is taken to do, with tensor cores and without: less
 * than any that is supported, so that a segment takes less time than it is thought to. */
constexpr double kNarrowRate = 300e9, kFloatRate = 30e9;
/** Bytes a second that a multiprocessor is taken to move. */
constexpr double kByteRate = 4e9;

template <class Command>
const Command &as(const Header &command) {
  return reinterpret_cast<const Command &>(command);
}

double rate_of(const View &view) { return view.dtype == DType::f32 ? kFloatRate : kNarrowRate; }

template <class Command>
double pixels(const Command &c) {
  return double(c.frames) * c.rows * c.cols;
}

} // namespace

double seconds_of(const Header &header) {
  switch (header.opcode) {
    case Opcode::conv: {
      const auto &c = as<ConvCommand>(header);
      const double depth = double(c.kernel_h) * c.kernel_w *
                           (c.source_channels[0] + (c.sources > 1 ? c.source_channels[1] : 0));
      const double columns = double(c.channels) * (c.act == Act::geglu ? 2 : 1);
      return 2 * pixels(c) * columns * depth / rate_of(c.source[0]);
    }
    case Opcode::attention: {
      const auto &c = as<AttentionCommand>(header);
      const double keys = c.time ? c.key_frames : double(c.key_rows) * c.key_cols;
      return 4 * pixels(c) * keys * c.heads * c.head_dim / rate_of(c.q);
    }
    case Opcode::norm_partials: {
      const auto &c = as<NormPartialsCommand>(header);
      return pixels(c) * c.channels * 4 / kByteRate;
    }
    case Opcode::affine: {
      const auto &c = as<AffineCommand>(header);
      return pixels(c) * (c.source_channels[0] + c.source_channels[1]) * 8 / kByteRate;
    }
    case Opcode::layer_norm:
      return pixels(as<LayerNormCommand>(header)) * as<LayerNormCommand>(header).channels * 8 /
             kByteRate;
    case Opcode::binary:
      return pixels(as<BinaryCommand>(header)) * as<BinaryCommand>(header).channels * 12 /
             kByteRate;
    case Opcode::unary:
      return pixels(as<UnaryCommand>(header)) * as<UnaryCommand>(header).channels * 8 / kByteRate;
    case Opcode::combine:
      return pixels(as<CombineCommand>(header)) * as<CombineCommand>(header).channels * 20 /
             kByteRate;
    case Opcode::resize:
      return pixels(as<ResizeCommand>(header)) * as<ResizeCommand>(header).channels * 8 / kByteRate;
    case Opcode::quantise:
    case Opcode::dequantise:
      return pixels(as<QuantiseCommand>(header)) * as<QuantiseCommand>(header).channels * 8 /
             kByteRate;
    case Opcode::copy: // beside the kernels
    default:           // a table's rows, a handful of values
      return 0;
  }
}

Segment next_segment(const int32_t *words, int32_t count, const Device &device) {
  Segment segment{words, 0, 0}, without_copies = segment;
  double seconds = 0;
  int32_t begun = 0, joined = 0; // tickets
  while (segment.count < std::min(count, kMostCommands)) {
    const Header &header = reinterpret_cast<const Header &>(words[segment.word_count]);
    seconds += seconds_of(header) / device.multiprocessors;
    if (segment.count > 0 && seconds > kSeconds) break;
    if (header.opcode == Opcode::copy) begun = std::max(begun, as<CopyCommand>(header).ticket);
    if (header.opcode == Opcode::join) joined = std::max(joined, as<JoinCommand>(header).ticket);
    segment.count += 1;
    segment.word_count += header.words;
    if (begun <= joined) without_copies = segment;
  }
  // A segment waits for its copies at its end: better where it has none under way.
  return without_copies.count > 0 ? without_copies : segment;
}

} // namespace sluice::cuda
