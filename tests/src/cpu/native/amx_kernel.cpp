/**
 * @file
 * Checks the kernel by AMX's instructions against the kernel by their model, bit for bit, and that
 * against sums in double. On a processor with AMX that compares the model with the hardware;
 * elsewhere instructions are trapped, decoded and modelled.
 */
#include <cmath>
#include <cstring>
#include <vector>

#include "amx_trap.hpp"
#include "checks.hpp"
#include "cpu/amx.h"
#include "cpu/kernels/amx.hpp"
#include "cpu/kernels/amx_tile.hpp"
#include "cpu/kernels/pair_tile.hpp"

using namespace sluice::SLUICE_ISA_NAMESPACE;
using sluice::kPanel;

namespace {

/** One call of the kernel, drawn at random, by whichever tiles. */
class KernelCase {
 public:
  KernelCase() {
    rows_ = between(1, 16);
    job_.count = between(1, rows_);
    panels_ = between(1, kAmxPanels);
    walk_.length = 2 * between(1, 60);
    walk_.runs_per_line = between(1, 3);
    walk_.run_stride = walk_.length + 2 * between(0, 5);
    walk_.line_stride = walk_.runs_per_line * walk_.run_stride + 2 * between(0, 9);
    start_walk(walk_, 2 * between(0, 40), 2 * between(1, 100));
    const int64_t padded = (walk_.count + 31) / 32 * 32;
    const bool even = job_.count == rows_ && between(0, 1);
    const int64_t reach = (walk_.line + walk_.count / walk_.length + 2) * walk_.line_stride + 200;
    const int64_t distance = between(1, 50);
    packed_.resize(reach + 16 * 80);
    for (bf16 &x : packed_) x.bits = random_bf16();
    for (int32_t i = 0; i < job_.count; ++i)
      job_.rows[i] = packed_.data() + (even ? i * distance : between(0, 15 * 80));
    job_.row_stride = even ? distance * 2 : -1;
    weights_.resize(panels_ * padded * kPanel);
    for (size_t i = 0; i < weights_.size(); ++i)
      weights_[i].bits = (int64_t)i % (padded * kPanel) < walk_.count * kPanel ? random_bf16() : 0;
    panel_stride_ = padded * kPanel;
    shared_ = between(0, 3) == 0;
    sums_.resize(17 * kStride);
    for (float &x : sums_) x = value_of(random_bf16());
  }

  template <class Tiles>
  std::vector<float> run() {
    std::vector<float> out = sums_;
    job_.from = shared_ ? sums_.data() : out.data();
    job_.from_stride = shared_ ? 0 : kStride * sizeof(float);
    job_.to = out.data();
    job_.to_stride = kStride * sizeof(float);
    Tiles tiles(amx_config(rows_));
    amx_kernel_for<Tiles>(panels_)(tiles, job_, walk_, weights_.data(), panel_stride_, 3);
    expect(!tiles.error(), "the kernel's use of tiles");
    return out;
  }

  /** Beside sums in double of what the walk reaches. */
  bool is_near(const std::vector<float> &out) const {
    for (int32_t i = 0; i < job_.count; ++i) {
      for (int32_t n = 0; n < panels_ * kPanel; ++n) {
        const int64_t at = i * kStride + 3 + n;
        double sum = sums_[shared_ ? 3 + n : at], size = std::fabs(sum);
        int64_t line = walk_.line, run = walk_.run, position = walk_.position;
        for (int64_t k = 0; k < walk_.count; ++k) {
          const int64_t from = line * walk_.line_stride + run * walk_.run_stride + position;
          const uint16_t w =
              weights_[n / 16 * panel_stride_ + k / 2 * 32 + n % 16 * 2 + k % 2].bits;
          const double product = (double)value_of(job_.rows[i][from].bits) * value_of(w);
          sum += product, size += std::fabs(product);
          if (++position == walk_.length) {
            position = 0;
            if (++run == walk_.runs_per_line) run = 0, ++line;
          }
        }
        if (!(std::fabs(out[at] - sum) <= size * 1e-5 + 1e-30)) return false;
      }
    }
    return true;
  }

 private:
  static constexpr int64_t kStride = 80;

  int32_t rows_, panels_;
  AmxJob job_ = {};
  Walk walk_ = {};
  int64_t panel_stride_;
  bool shared_; ///< one start for all rows
  std::vector<bf16> packed_, weights_;
  std::vector<float> sums_;
};

void check_kernels() {
  for (int32_t round = 0; round < 400; ++round) {
    KernelCase drawn;
    const std::vector<float> model = drawn.run<ModelTiles>();
    const std::vector<float> instructions = drawn.run<AmxTiles>();
    expect(memcmp(model.data(), instructions.data(), model.size() * sizeof(float)) == 0,
           "the same bits by instructions and by the model");
    expect(drawn.is_near(model), "sums near those in double");
  }
}

/** What fills up the last block must not meet what the one before left there. */
void check_filling() {
  std::vector<bf16> row(36, {nearest_bf16(1)}), weights(2 * kAmxBlock * kPanel);
  row[10].bits = nearest_bf16(INFINITY);
  for (size_t i = 0; i < 36 * kPanel; ++i) weights[i].bits = nearest_bf16(1);
  float sums[kPanel] = {};
  AmxJob job = {};
  job.rows[0] = row.data();
  job.count = 1;
  job.row_stride = -1;
  job.from = job.to = sums;
  ModelTiles tiles(amx_config(1));
  amx_kernel_for<ModelTiles>(1)(tiles, job, straight_walk(36), weights.data(), 0, 0);
  for (const float sum : sums) expect(sum == INFINITY, "zeros behind the last k");
}

#if defined(__AVX512F__)
/** Weights of a stored type paired by AVX512_BF16 and in plain code. */
template <class W>
void check_pairs() {
  for (int32_t round = 0; round < 50; ++round) {
    const int32_t panels = between(1, kAmxPanels), rows = between(1, 50) * 2;
    const int32_t stride = (rows + between(0, 3)) * kPanel, room = (rows + 31) / 32 * 32;
    std::vector<W> weights(panels * stride);
    for (W &x : weights) {
      if constexpr (sizeof(W) == 4)
        x = value_of(random_bf16()) * (1 + (float)between(0, 512) / 0x1p16f);
      else
        x.bits = random_bf16();
    }
    alignas(64) static bf16 by_set[kAmxPanels * 128 * kPanel], plainly[kAmxPanels * 128 * kPanel];
    memset(by_set, 0xff, sizeof by_set);
    memset(plainly, 0xff, sizeof plainly);
    pair_rows(weights.data(), stride, panels, rows, room, by_set);
    pair_rows_plainly(weights.data(), stride, panels, rows, room, plainly);
    expect(memcmp(by_set, plainly, sizeof by_set) == 0, "weights paired alike");
  }
}
#endif

} // namespace

int main() {
  const bool hardware = sluice::amx_granted();
  if (!hardware) trap_amx();
  check_kernels();
  check_filling();
#if defined(__AVX512F__)
  check_pairs<float>();
  check_pairs<f16>();
  check_pairs<bf16>();
#endif
  printf("%s, %lld of them trapped, %d failures\n",
         hardware ? "instructions of this processor" : "instructions emulated",
         (long long)trapped_instructions, failures);
  return failures ? 1 : 0;
}
