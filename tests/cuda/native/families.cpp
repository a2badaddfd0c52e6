/**
 * @file
 * Every kernel instance on the emulated machine, on small shapes that fill more than one tile, more
 * than one stage and no tile evenly. Prints a line a case and schedule seed: `name seed: bits`, the
 * bits of the results as one number, or what the emulator said instead.
 *   emulation_families [--case PART] [--kernels] SEED...
 * --case: only cases with PART in their names; --kernels: also the address of each kernel launched.
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "copies.hpp"
#include "core/ranges.h"
#include "dispatch.hpp"
#include "emulation/memory.hpp"
#include "ptx.hpp"

namespace {

using namespace sluice;
using namespace sluice::cuda;

constexpr DType kNarrow[] = {DType::f16, DType::bf16};
constexpr DType kTypes[] = {DType::f32, DType::f16, DType::bf16};
const char *name_of(DType t) { return t == DType::f16 ? "f16" : t == DType::bf16 ? "bf16" : "f32"; }

/** The operands of one command, one behind another. */
class Memory {
 public:
  Memory() : bytes_(kCapacity / 8, 0x7fc0dead7fc0dead) {}

  /** [frames, rows, cols, channels] with room behind each pixel; filled where it is read. */
  View operand(DType dtype, int32_t frames, int32_t rows, int32_t cols, int32_t channels,
               bool filled, int32_t room = 0) {
    const int32_t pixel = channels + room;
    const uint32_t size = uint32_t(dtype_bytes(dtype));
    const int64_t count = int64_t(frames) * rows * cols * pixel;
    const uint32_t at = take(uint64_t(count) * size);
    if (filled)
      for (int64_t i = 0; i < count; ++i) put(dtype, at, i, normal());
    return {0, dtype, at, 0, rows * cols * pixel, cols * pixel, pixel};
  }
  View vector(int32_t count, bool filled = true) {
    return operand(DType::f32, 1, 1, 1, count, filled);
  }
  View ids(std::initializer_list<int32_t> values) {
    View view = operand(DType::i32, 1, 1, 1, int32_t(values.size()), false);
    std::memcpy(base() + view.offset_lo, values.begin(), values.size() * 4);
    return view;
  }

  char *base() { return reinterpret_cast<char *>(bytes_.data()); }
  /** All that a command may have written, as one number (FNV). */
  uint64_t digest() const {
    uint64_t sum = 0xcbf29ce484222325;
    for (size_t i = 0; i < used_ / 8; ++i) sum = (sum ^ bytes_[i]) * 0x100000001b3;
    return sum;
  }

 private:
  static constexpr size_t kCapacity = 4 << 20;

  uint32_t take(uint64_t bytes) {
    const size_t at = used_;
    used_ += (bytes + 63) / 64 * 64;
    if (used_ > kCapacity) std::fprintf(stderr, "the memory of a case is full\n"), std::exit(1);
    return uint32_t(at);
  }
  /** About a unit normal: a sum of three uniform numbers. */
  float normal() {
    float sum = -3.0f;
    for (int i = 0; i < 3; ++i) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      sum += float(state_ >> 40) / float(1 << 23);
    }
    return sum;
  }
  void put(DType dtype, uint32_t at, int64_t i, float x) {
    if (dtype == DType::f32) {
      std::memcpy(base() + at + 4 * i, &x, 4);
    } else {
      const uint16_t half =
          dtype == DType::f16 ? ptx::narrow<f16>(x).bits : ptx::narrow<bf16>(x).bits;
      std::memcpy(base() + at + 2 * i, &half, 2);
    }
  }

  std::vector<uint64_t> bytes_;
  size_t used_ = 0;
  uint64_t state_ = 1;
};

constexpr View kAbsent = {kSlotNone, DType::f32, 0, 0, 0, 0, 0};

template <class Command>
Command command(Opcode opcode) {
  Command c = {};
  c.header = {opcode, int32_t(sizeof(Command) / 4), 0, 0};
  return c;
}

/** A named command, made anew for each run; `multiprocessors` of the device that it runs on. */
struct Case {
  std::string name;
  std::function<std::vector<int32_t>(Memory &)> make;
  int32_t multiprocessors = 4;
  bool once = false; ///< under seed 0 alone, as it takes long
};

std::vector<Case> cases;

template <class Command>
void add(std::string name, std::function<Command(Memory &)> make, int32_t multiprocessors = 4) {
  const auto words = [make](Memory &memory) {
    const Command c = make(memory);
    std::vector<int32_t> out(sizeof c / 4);
    std::memcpy(out.data(), &c, sizeof c);
    return out;
  };
  cases.push_back({std::move(name), words, multiprocessors});
}

// ------------------------------------------------------------------------------------------------

struct ConvForm {
  int32_t frames, rows, cols, channels, kernel, stride, sources, in_channels;
  bool affine, residual;
  Act act;
  DType weight;
  bool doubled = false; ///< the source, by an upsampling
};

ConvCommand conv(Memory &m, DType dtype, const ConvForm &form) {
  auto c = command<ConvCommand>(Opcode::conv);
  c.frames = form.frames, c.rows = form.rows, c.cols = form.cols, c.channels = form.channels;
  c.kernel_h = c.kernel_w = form.kernel, c.stride = form.stride;
  const int32_t up = form.doubled ? 2 : 1;
  c.phys_rows = c.src_rows = (form.rows * form.stride + up - 1) / up;
  c.phys_cols = c.src_cols = (form.cols * form.stride + up - 1) / up;
  c.in_rows = c.phys_rows * up, c.in_cols = c.phys_cols * up;
  c.row0 = c.col0 = -(form.kernel / 2);
  c.sources = form.sources;
  c.source[1] = kAbsent;
  for (int s = 0; s < form.sources; ++s) {
    c.source_channels[s] = form.in_channels;
    c.source[s] = m.operand(dtype, c.frames, c.src_rows, c.src_cols, form.in_channels, true);
  }
  const int32_t depth = form.kernel * form.kernel * form.sources * form.in_channels;
  const int32_t panels = (form.channels + kPanel - 1) / kPanel * (form.act == Act::geglu ? 2 : 1);
  c.weight = m.operand(form.weight, 1, 1, panels * depth, kPanel, true);
  c.bias = m.vector(panels * kPanel);
  c.vector = kAbsent;
  c.residual = kAbsent;
  if (form.residual) {
    c.vector = m.operand(DType::f32, c.frames, 1, 1, c.channels, true);
    c.residual = m.operand(dtype, c.frames, c.rows, c.cols, c.channels, true);
  }
  c.affine = kAbsent;
  if (form.affine) {
    const int32_t in = form.sources * form.in_channels;
    c.affine = m.operand(DType::f32, c.frames, 1, 2, in, true);
    c.prologue_act = Act::silu;
  }
  c.act = form.act;
  c.out = m.operand(dtype, c.frames, c.rows, c.cols, c.channels, false);
  c.scratch = kAbsent;
  return c;
}

void add_convs() {
  const auto put = [](const char *name, DType dtype, const ConvForm &form, int32_t processors) {
    add<ConvCommand>(
        std::string("conv ") + name_of(dtype) + " " + name,
        [=](Memory &m) { return conv(m, dtype, form); }, processors);
  };
  constexpr Act none = Act::none;
  for (const DType t : kNarrow) {
    const auto both = [&](const char *name, ConvForm form, int32_t processors) {
      put((std::string(name) + ", direct").c_str(), t, form, processors);
      form.affine = true;
      put((std::string(name) + ", prologue").c_str(), t, form, processors);
    };
    both("narrow", {2, 9, 8, 24, 3, 1, 1, 24, false, true, none, t}, 4);
    both("large", {1, 10, 15, 136, 3, 1, 2, 8, false, true, Act::silu, t}, 1);
    both("small", {2, 7, 6, 72, 1, 1, 2, 40, false, false, none, t}, 64);
    both("pairs", {1, 1, 70, 48, 1, 1, 1, 40, false, false, Act::geglu, t}, 64);
    both("strided", {1, 5, 7, 40, 3, 2, 1, 16, false, false, none, t}, 64);
    both("one block", {1, 3, 3, 72, 1, 1, 1, 24, false, false, none, t}, 64);
    put("narrow, elementwise", t, {1, 9, 8, 20, 3, 1, 1, 13, true, true, none, t}, 4);
    put("small, elementwise", t, {1, 9, 8, 50, 3, 1, 2, 9, true, false, none, t}, 64);
    put("small, converted weights", t, {1, 9, 8, 50, 1, 1, 1, 104, false, false, none, DType::f32},
        64);
  }
  // Every tile that boxes have from compute capability 9.0 on, rings that turn.
  for (const DType t : kNarrow) {
    const auto boxes = [t](const char *name, const ConvForm &form) {
      add<ConvCommand>(
          std::string("boxes ") + name_of(t) + " " + name,
          [=](Memory &m) { return conv(m, t, form); }, 1);
    };
    boxes("256 x 160, 3x3", {2, 9, 8, 136, 3, 1, 1, 64, false, true, none, t});
    boxes("256 x 128, part of a block", {1, 10, 13, 200, 3, 1, 1, 56, false, true, Act::silu, t});
    boxes("256 x 160, strided", {2, 9, 8, 136, 3, 2, 1, 64, false, false, none, t});
    boxes("128 x 256, pairs", {1, 1, 120, 128, 1, 1, 1, 320, false, false, Act::geglu, t});
    boxes("128 x 160, two sources", {1, 3, 9, 150, 1, 1, 2, 248, false, true, none, t});
    boxes("128 x 128, one line", {3, 2, 50, 120, 1, 1, 1, 448, false, false, none, t});
    boxes("128 x 64, doubled", {2, 7, 10, 40, 3, 1, 1, 64, false, true, none, t, true});
    boxes("128 x 64, strided", {1, 5, 7, 64, 3, 2, 1, 64, false, false, none, t});
  }
  put("pairs", DType::f32, {1, 1, 70, 40, 1, 1, 1, 24, false, false, Act::geglu, DType::f16}, 4);
  put("3x3", DType::f32, {1, 9, 8, 50, 3, 1, 2, 9, true, true, Act::silu, DType::f32}, 4);
}

// ------------------------------------------------------------------------------------------------

struct AttentionForm {
  int32_t frames, rows, cols, keys, heads, head_dim;
  bool time, causal;
};

/** Self-attention where keys is 0; in time over the same frames, keys of them where it is not. */
AttentionCommand attention(Memory &m, DType dtype, const AttentionForm &form, int32_t room) {
  auto c = command<AttentionCommand>(Opcode::attention);
  c.frames = form.frames, c.rows = form.rows, c.cols = form.cols;
  c.heads = form.heads, c.head_dim = form.head_dim, c.time = form.time, c.causal = form.causal;
  c.key_frames = form.time && form.keys ? form.keys : form.frames;
  c.key_rows = form.time || !form.keys ? form.rows : 1;
  c.key_cols = form.time || !form.keys ? form.cols : form.keys;
  c.scale = 0.2f;
  const int32_t channels = form.heads * form.head_dim;
  c.q = m.operand(dtype, c.frames, c.rows, c.cols, channels, true, room);
  c.k = m.operand(dtype, c.key_frames, c.key_rows, c.key_cols, channels, true, room);
  c.v = m.operand(dtype, c.key_frames, c.key_rows, c.key_cols, channels, true, room);
  c.out = m.operand(dtype, c.frames, c.rows, c.cols, channels, false, room);
  c.block_q = 8, c.block_k = 16;
  c.scratch = kAbsent;
  return c;
}

void add_attentions() {
  const auto put = [](const std::string &name, DType dtype, const AttentionForm &form,
                      int32_t room) {
    add<AttentionCommand>(name + " " + name_of(dtype) + ", heads of " +
                              std::to_string(form.head_dim) + (form.causal ? ", causal" : "") +
                              (room ? ", apart" : ""),
                          [=](Memory &m) { return attention(m, dtype, form, room); });
  };
  for (const DType t : kNarrow)
    for (const int32_t width : {24, 40, 64, 80, 104, 160})
      for (const int32_t room : {0, 3})
        put("attention", t, {1, 7, 10, width > 80 ? 75 : 150, 2, width, false, false}, room);
  put("attention", DType::f16, {2, 1, 77, 0, 1, 40, false, true}, 0);
  put("attention", DType::bf16, {1, 1, 150, 0, 1, 160, false, true}, 0);
  for (const int32_t width : {40, 160, 200, 500})
    put("attention", DType::f32, {1, 1, 37, 70, 1, width, false, false}, 0);
  put("attention", DType::f32, {1, 1, 37, 0, 1, 40, false, true}, 0);

  for (const DType t : kTypes) {
    for (const int32_t width : {24, 40, 64, 80, 104, 160}) {
      put("time attention", t, {14, 1, 3, 0, 3, width, true, false}, 0);
      put("time attention, two tiles", t, {19, 1, 2, 25, 3, width, true, false}, 0);
    }
    put("time attention, many keys", t, {5, 1, 2, 70, 2, 64, true, false}, 0);
    put("time attention", t, {20, 2, 2, 0, 2, 40, true, true}, 3);
    put("time attention, odd", t, {7, 1, 3, 0, 2, 37, true, false}, 0);
    put("time attention, wide", t, {9, 1, 2, 0, 1, 200, true, false}, 0);
  }
}

// ------------------------------------------------------------------------------------------------

void add_norms() {
  for (const DType t : kTypes) {
    const std::string type = name_of(t);
    add<NormPartialsCommand>("norm partials " + type, [=](Memory &m) {
      auto c = command<NormPartialsCommand>(Opcode::norm_partials);
      c.frames = 2, c.rows = 3, c.cols = 21, c.channels = 200, c.block = 10;
      c.source = m.operand(t, 2, 3, 21, 200, true);
      c.out = m.operand(DType::f32, 2, 3, 1, 40, false);
      return c;
    });
    for (const int32_t channels : {40, 37}) {
      add<AffineCommand>("affine " + type + " " + std::to_string(channels), [=](Memory &m) {
        auto c = command<AffineCommand>(Opcode::affine);
        c.frames = 2, c.rows = 3, c.cols = 17, c.sources = 2;
        c.source_channels[0] = channels, c.source_channels[1] = 24;
        c.source[0] = m.operand(t, 2, 3, 17, channels, true);
        c.source[1] = m.operand(t, 2, 3, 17, 24, true);
        c.affine = m.operand(DType::f32, 2, 1, 2, channels + 24, true);
        c.act = Act::silu;
        c.out = m.operand(t, 2, 3, 17, channels + 24, false);
        return c;
      });
      add<LayerNormCommand>("layer norm " + type + " " + std::to_string(channels), [=](Memory &m) {
        auto c = command<LayerNormCommand>(Opcode::layer_norm);
        c.frames = 1, c.rows = 3, c.cols = 5, c.channels = channels * 8, c.eps = 1e-5f;
        if (channels == 37) c.channels = 37;
        c.source = m.operand(t, 1, 3, 5, c.channels, true);
        c.gamma = m.vector(c.channels), c.beta = m.vector(c.channels);
        c.add = m.operand(DType::f32, 1, 3, 5, c.channels, true);
        c.out = m.operand(t, 1, 3, 5, c.channels, false);
        return c;
      });
    }
  }
  add<NormPartialsCommand>("norm partials, more rows than a grid is high", [](Memory &m) {
    auto c = command<NormPartialsCommand>(Opcode::norm_partials);
    c.frames = 2, c.rows = 32800, c.cols = 1, c.channels = c.block = 2;
    c.source = m.operand(DType::f32, 1, 1, 1, 2, true);
    c.source.stride_f = c.source.stride_h = c.source.stride_w = 0;
    c.out = m.operand(DType::f32, 2, 32800, 1, 2, false);
    return c;
  });
  cases.back().once = true;
  add<NormPartialsCommand>("norm partials, one large block", [](Memory &m) {
    auto c = command<NormPartialsCommand>(Opcode::norm_partials);
    c.frames = 1, c.rows = 2, c.cols = 5, c.channels = 320, c.block = 160;
    c.source = m.operand(DType::f32, 1, 2, 5, 320, true);
    c.out = m.operand(DType::f32, 1, 2, 1, 4, false);
    return c;
  });
  for (const int32_t out : {3, 1}) {
    add<NormFoldCommand>("norm fold to " + std::to_string(out), [=](Memory &m) {
      auto c = command<NormFoldCommand>(Opcode::norm_fold);
      c.frames = 3, c.frames_out = out, c.rows = 9, c.cols = 5, c.sources = 2, c.groups = 4;
      c.source_channels[0] = 40, c.source_channels[1] = 80;
      c.block[0] = c.block[1] = 10, c.eps = 1e-6f;
      c.partials[0] = m.operand(DType::f32, 3, 9, 1, 8, true);
      c.partials[1] = m.operand(DType::f32, 3, 9, 1, 16, true);
      // Sums of squares are never negative.
      for (const View &v : c.partials)
        for (int32_t i = 1; i < 3 * v.stride_f; i += 2) {
          float *const x = reinterpret_cast<float *>(m.base() + v.offset_lo) + i;
          *x = 1.0f + *x * *x;
        }
      c.gamma = m.vector(120), c.beta = m.vector(120);
      c.out = m.operand(DType::f32, out, 1, 2, 120, false);
      return c;
    });
  }
}

void add_pointwise() {
  for (const int32_t channels : {24, 13}) {
    const std::string width = channels % 8 ? ", one by one" : "";
    for (const BinaryOp op : {BinaryOp::add, BinaryOp::lerp})
      add<BinaryCommand>((op == BinaryOp::add ? "add" : "lerp") + width, [=](Memory &m) {
        auto c = command<BinaryCommand>(Opcode::binary);
        c.op = op, c.frames = 2, c.rows = 3, c.cols = 5, c.channels = channels;
        c.b_channel_stride = op == BinaryOp::add;
        c.a = m.operand(DType::f16, 2, 3, 5, channels, true);
        c.b = m.operand(DType::f16, 2, 3, 5, channels, true);
        c.t = op == BinaryOp::lerp ? m.vector(1) : kAbsent;
        c.out = m.operand(DType::f32, 2, 3, 5, channels, false);
        return c;
      });
    add<UnaryCommand>("gelu" + width, [=](Memory &m) {
      auto c = command<UnaryCommand>(Opcode::unary);
      c.act = Act::gelu, c.frames = 2, c.rows = 3, c.cols = 5, c.channels = channels;
      c.source = m.operand(DType::bf16, 2, 3, 5, channels, true);
      c.out = m.operand(DType::f16, 2, 3, 5, channels, false);
      return c;
    });
    add<CombineCommand>("combine" + width, [=](Memory &m) {
      auto c = command<CombineCommand>(Opcode::combine);
      c.frames = 2, c.rows = 3, c.cols = 5, c.channels = channels, c.count = 3;
      c.coefficients = m.vector(3);
      for (View &v : c.source) v = kAbsent;
      for (int i = 0; i < 3; ++i) c.source[i] = m.operand(DType::f16, 2, 3, 5, channels, true);
      c.out = m.operand(DType::f16, 2, 3, 5, channels, false);
      return c;
    });
    add<ResizeCommand>("resize" + width, [=](Memory &m) {
      auto c = command<ResizeCommand>(Opcode::resize);
      c.frames = 1, c.rows = c.out_rows = 9, c.cols = c.out_cols = 7, c.channels = channels;
      c.in_rows = c.src_rows = 4, c.in_cols = c.src_cols = 3;
      c.source = m.operand(DType::f16, 1, 4, 3, channels, true);
      c.out = m.operand(DType::f16, 1, 9, 7, channels, false);
      return c;
    });
    add<EmbeddingCommand>("embedding" + width, [=](Memory &m) {
      auto c = command<EmbeddingCommand>(Opcode::embedding);
      c.tokens = 5, c.channels = channels, c.table_rows = 6, c.token0 = 1, c.position_rows = 6;
      c.ids = m.ids({3, 0, 5, 5, 1});
      c.table = m.operand(DType::f16, 1, 1, 6, channels, true);
      c.positions = m.operand(DType::f32, 1, 1, 6, channels, true);
      c.out = m.operand(DType::f16, 1, 1, 5, channels, false);
      return c;
    });
  }
  add<TimestepCommand>("timestep", [](Memory &m) {
    auto c = command<TimestepCommand>(Opcode::timestep);
    c.dim = 320, c.flip = 1, c.shift = 0.0f, c.max_period = 10000.0f;
    c.t = m.vector(1), c.out = m.vector(320, false);
    return c;
  });
  for (const bool narrows : {true, false})
    add<QuantiseCommand>(narrows ? "quantise" : "dequantise", [=](Memory &m) {
      auto c = command<QuantiseCommand>(narrows ? Opcode::quantise : Opcode::dequantise);
      c.frames = 2, c.rows = 3, c.cols = 5, c.channels = 70;
      const int32_t words = int32_t(stored_words(70));
      const View plain = m.operand(DType::f32, 2, 3, 5, 70, narrows);
      View stored = m.operand(DType::f32, 2, 3, 5, words, !narrows);
      stored.dtype = DType::i32;
      c.source = narrows ? plain : stored, c.out = narrows ? stored : plain;
      return c;
    });
}

void run(const Case &one, const char *seed) {
  Memory memory;
  const std::vector<int32_t> words = one.make(memory);
  const emulation::Limits limits = emulation::limits();
  Device device;
  device.architecture = limits.architecture;
  device.shared_bytes = int(limits.shared_bytes);
  device.multiprocessors = one.multiprocessors;
  int32_t trouble = 0;
  Copies copies;
  void *bases[] = {memory.base()};
  char text[1024] = "";
  const int status = dispatch(*reinterpret_cast<const Header *>(words.data()),
                              {device, nullptr, bases, &trouble, copies}, {text, sizeof text});
  std::printf("%s %s: ", one.name.c_str(), seed);
  if (status != SLUICE_OK) {
    std::printf("%s\n", text);
  } else {
    std::printf("%016llx\n", (unsigned long long)(memory.digest()));
  }
  std::fflush(stdout);
}

} // namespace

int main(int count, char **arguments) {
  add_convs(), add_attentions(), add_norms(), add_pointwise();
  std::string part;
  bool kernels = false;
  std::vector<const char *> seeds;
  for (int i = 1; i < count; ++i) {
    if (std::strcmp(arguments[i], "--kernels") == 0) {
      kernels = true;
    } else if (std::strcmp(arguments[i], "--case") == 0 && i + 1 < count) {
      part = arguments[++i];
    } else {
      seeds.push_back(arguments[i]);
    }
  }
  for (const char *seed : seeds) {
    setenv("SLUICE_EMULATION_SEED", seed, 1);
    for (const Case &one : cases)
      if (one.name.find(part) != std::string::npos && (!one.once || std::strcmp(seed, "0") == 0))
        run(one, seed);
  }
  if (kernels)
    for (const void *kernel : emulation::launched()) std::printf("kernel %p\n", kernel);
}
