/**
 * @file
 * Kernels with one defect each in what compute capability 9.0 does beside its threads, and their
 * sound twins, on the emulated machine. Prints a line a launch, `name: what the emulator said`,
 * under the schedule seeds given as arguments.
 */
#include <cstdio>
#include <cstdlib>

#include "launch.hpp"
#include "ptx_hopper.hpp"

namespace {

using namespace sluice;
using namespace sluice::cuda;

constexpr int kRows = 64, kColumns = 64, kDepth = 64; ///< of a stage
constexpr int kBlocks = 5, kStages = 2;
constexpr int kRowElements = kRows * kDepth, kColumnElements = kDepth * kColumns;
constexpr int kStageElements = kRowElements + kColumnElements;
constexpr int kThreads = 2 * kGroupThreads;
constexpr int kPipelineThreads = 3 * kGroupThreads; ///< the last group leaves
constexpr int kRingBytes = kStages * kStageElements * 2;
constexpr int kSharedBytes = kRingBytes + 1024;
constexpr uint64_t kRowForm = ptx::matrix_form(ptx::Swizzle::bytes_128, 16, 1024);
constexpr uint64_t kColumnForm = ptx::matrix_form(ptx::Swizzle::bytes_32, kDepth * 32, 256);

enum class Flaw {
  none,
  no_init_fence,
  no_init_barrier,
  no_expect,
  few_bytes,
  many_bytes,
  no_full_wait,
  no_empty_wait,
  no_consumer_flip,
  no_producer_flip,
  early_release,
  no_release,
  every_lane_releases,
  wrong_stage,
  no_sums_fence,
  no_commit,
  wait_for_less,
  no_last_wait,
  sums_written,
  not_aligned,
  beyond,
  within_pattern,
  other_swizzle,
};

/** One group fills two stages, another multiplies: results are [row][column]. */
template <Flaw kFlaw>
SLUICE_KERNEL(kPipelineThreads, 1)
pipeline(Global<float> results, SLUICE_MAP rows, SLUICE_MAP columns) {
  const Shared<f16> ring = dynamic_shared<f16>(0, kStages * kStageElements);
  const ptx::Barriers barriers = dynamic_shared<uint64_t>(kRingBytes, 2 * kStages);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      ptx::barrier_init(barriers, i, 1);
      ptx::barrier_init(barriers, kStages + i, 4);
    }
    if constexpr (kFlaw != Flaw::no_init_fence) ptx::async_fence();
  }
  if constexpr (kFlaw != Flaw::no_init_barrier) block_sync();
  if (threadIdx.x >= kThreads) return;
  if (threadIdx.x < kGroupThreads) {
    ptx::give_registers<40>();
    if (threadIdx.x > 0) return;
    for (int block = 0; block < kBlocks; ++block) {
      const int stage = block % kStages;
      const uint32_t parity = kFlaw == Flaw::no_producer_flip ? 1 : block / kStages % 2 ^ 1;
      if constexpr (kFlaw != Flaw::no_empty_wait)
        ptx::barrier_wait(barriers, kStages + stage, parity);
      constexpr int kBytes = kStageElements * 2 / (kFlaw == Flaw::few_bytes ? 2 : 1) +
                             (kFlaw == Flaw::many_bytes ? 16 : 0);
      if constexpr (kFlaw == Flaw::no_expect)
        ptx::barrier_arrive(barriers, stage);
      else
        ptx::barrier_expect(barriers, stage, kBytes);
      const int to = stage * kStageElements + (kFlaw == Flaw::not_aligned ? 32 : 0) +
                     (kFlaw == Flaw::beyond ? kStageElements : 0);
      ptx::load_box(ring, to, rows, block * kDepth, 0, 0, barriers, stage);
      ptx::load_box(ring, to + kRowElements, columns, 0, block * kDepth, 0, barriers, stage);
    }
    return;
  }
  ptx::take_registers<216>();
  float sums[kColumns / 2] = {};
  const bool speaks = kFlaw == Flaw::every_lane_releases || threadIdx.x % 32 == 0;
  for (int block = 0; block < kBlocks; ++block) {
    const int stage = block % kStages;
    const uint32_t parity = kFlaw == Flaw::no_consumer_flip ? 0 : block / kStages % 2;
    if constexpr (kFlaw != Flaw::no_full_wait) ptx::barrier_wait(barriers, stage, parity);
    if constexpr (kFlaw != Flaw::no_sums_fence) ptx::product_fence();
    const int from = (kFlaw == Flaw::wrong_stage ? 1 - stage : stage) * kStageElements;
    for (int k = 0; k < kDepth; k += 16) {
      const int at = from + k + (kFlaw == Flaw::within_pattern ? kDepth : 0);
      uint64_t a = ptx::matrix_at(kRowForm, ring, at);
      if constexpr (kFlaw == Flaw::other_swizzle) a ^= uint64_t(3) << 62;
      ptx::product_add<f16, kColumns>(
          sums, a, ptx::matrix_at(kColumnForm, ring, from + kRowElements + k * 16));
    }
    if constexpr (kFlaw == Flaw::early_release)
      if (speaks) ptx::barrier_arrive(barriers, kStages + stage);
    if constexpr (kFlaw != Flaw::no_commit) ptx::product_commit();
    if constexpr (kFlaw == Flaw::sums_written) sums[0] = 1.0f;
    if constexpr (kFlaw == Flaw::wait_for_less)
      ptx::product_wait<1>();
    else if (kFlaw != Flaw::no_last_wait || block < kBlocks - 1)
      ptx::product_wait<0>();
    if constexpr (kFlaw != Flaw::early_release && kFlaw != Flaw::no_release)
      if (speaks) ptx::barrier_arrive(barriers, kStages + stage);
    if constexpr (kFlaw == Flaw::wait_for_less) ptx::product_wait<0>();
  }
  const int warp = int(threadIdx.x) % kGroupThreads / 32, lane = int(threadIdx.x) % 32;
  for (int i = 0; i < kColumns / 2; ++i) {
    const int row = warp * 16 + lane / 4 + i / 2 % 2 * 8;
    results.store(row * kColumns + i / 4 * 8 + lane % 4 * 2 + i % 2, sums[i]);
  }
}

/** Threads store a matrix that the tensor cores read. */
template <bool kFence>
SLUICE_KERNEL(kGroupThreads, 1)
stored_matrices(Global<float> results) {
  const Shared<f16> s = dynamic_shared<f16>(0, kStageElements);
  for (int i = int(threadIdx.x); i < kStageElements; i += kGroupThreads)
    s.store(i, ptx::narrow<f16>(1.0f));
  if constexpr (kFence) ptx::async_fence();
  block_sync();
  float sums[kColumns / 2] = {};
  ptx::product_fence();
  ptx::product_add<f16, kColumns>(sums, ptx::matrix_at(kRowForm, s, 0),
                                  ptx::matrix_at(kColumnForm, s, kRowElements));
  ptx::product_commit();
  ptx::product_wait<0>();
  results.store(int(threadIdx.x), sums[0]);
}

enum class Some { together, left_out, other_count, too_many, no_number };

/** The second of two groups hands values over by a barrier of its own. */
template <Some kHow>
SLUICE_KERNEL(kThreads, 1)
some_threads(Global<float> results) {
  SLUICE_SHARED(float, s, kThreads);
  const int i = int(threadIdx.x);
  if (i < kGroupThreads) return;
  s.store(i, float(i));
  if constexpr (kHow == Some::together) ptx::group_sync(1, kGroupThreads);
  if constexpr (kHow == Some::other_count) ptx::group_sync(1, i < 192 ? kGroupThreads : 64);
  if constexpr (kHow == Some::too_many) ptx::group_sync(1, kThreads);
  if constexpr (kHow == Some::no_number) ptx::group_sync(16, kGroupThreads);
  results.store(i, s.load(kThreads + kGroupThreads - 1 - i));
}

/** A block of 256 threads begins with 256 registers each. */
template <int kFirst, int kSecond>
SLUICE_KERNEL(kThreads, 1)
registers() {
  if (threadIdx.x < kGroupThreads)
    ptx::give_registers<kFirst>();
  else
    ptx::take_registers<kSecond>();
}
SLUICE_KERNEL(kThreads, 1)
registers_given() {
  if (threadIdx.x < kGroupThreads) ptx::give_registers<40>();
}
template <int kCount>
SLUICE_KERNEL(2 * kThreads, 1)
registers_of_many() {
  if (threadIdx.x < kGroupThreads)
    ptx::give_registers<kCount>();
  else
    ptx::take_registers<136>();
}

/** Operands with something between them: one that is left must not end in the other. */
struct alignas(1024) Memory {
  uint16_t rows[kRows * kBlocks * kDepth], between[4096], columns[kBlocks * kDepth * kColumns];
  float more[4096], results[kRows * kColumns];
} memory;

void say(const char *name, const char *what) { std::printf("%s: %s\n", name, what); }

template <class Kernel, class... A>
void run(const char *name, Kernel kernel, uint32_t threads, A... arguments) {
  const cudaError_t status =
      launch(name, kernel, {Grid(1), threads, kSharedBytes}, nullptr, arguments...);
  say(name, status == cudaSuccess ? "nothing" : cudaGetErrorString(status));
}

/** [rows][depth]. */
TensorMap row_map() {
  TensorMap map;
  const cuuint64_t dims[] = {kBlocks * kDepth, kRows, 1};
  const cuuint64_t strides[] = {kBlocks * kDepth * 2, kBlocks * kDepth * 2};
  const cuuint32_t box[] = {kDepth, kRows, 1}, steps[] = {1, 1, 1};
  cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 3, memory.rows, dims, strides, box,
                         steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                         CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return map;
}

/** Panels of 16 columns; `panel_bytes` from one to the next. */
CUresult column_map(TensorMap &map, uint64_t panel_bytes, uint32_t across = 16) {
  const cuuint64_t dims[] = {16, kBlocks * kDepth, kColumns / 16}, strides[] = {32, panel_bytes};
  const cuuint32_t box[] = {across, kDepth, kColumns / 16}, steps[] = {1, 1, 1};
  return cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 3, memory.columns, dims,
                                strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                CU_TENSOR_MAP_SWIZZLE_32B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

/** The sums that must come out: small whole numbers, exact in every order. */
bool is_right() {
  const auto value = [](const uint16_t *bits) { return int(ptx::widen(f16{*bits})); };
  for (int row = 0; row < kRows; ++row) {
    for (int column = 0; column < kColumns; ++column) {
      int sum = 0;
      for (int k = 0; k < kBlocks * kDepth; ++k)
        sum += value(memory.rows + row * kBlocks * kDepth + k) *
               value(memory.columns + (column / 16 * kBlocks * kDepth + k) * 16 + column % 16);
      if (memory.results[row * kColumns + column] != float(sum)) return false;
    }
  }
  return true;
}

void run_all() {
  emulation::clear_claims();
  emulation::claim(memory.rows, sizeof memory.rows, false);
  emulation::claim(memory.columns, sizeof memory.columns, false);
  emulation::claim(memory.results, sizeof memory.results, true);
  uint32_t state = 1;
  const auto fill = [&](uint16_t &to) {
    state = state * 1664525u + 1013904223u;
    to = ptx::narrow<f16>(float(int(state >> 29) - 4)).bits;
  };
  for (uint16_t &to : memory.rows) fill(to);
  for (uint16_t &to : memory.columns) fill(to);

  const Global<float> results{memory.results};
  const TensorMap rows = row_map();
  TensorMap columns;
  const uint64_t panel = kBlocks * kDepth * 32;
  say("sound: a map of panels", column_map(columns, panel) == CUDA_SUCCESS ? "nothing" : "refused");
  const auto flawed = [&]<Flaw kFlaw>(const char *name) {
    run(name, pipeline<kFlaw>, kPipelineThreads, results, rows, columns);
  };
  flawed.operator()<Flaw::none>("sound: pipeline");
  if (std::atoi(std::getenv("SLUICE_EMULATION_ARCH") ?: "90") == 90)
    say("sound: sums", is_right() ? "nothing" : "other numbers");
  flawed.operator()<Flaw::no_init_fence>("barriers not shown to copies");
  flawed.operator()<Flaw::no_init_barrier>("barriers used before they begin");
  flawed.operator()<Flaw::no_expect>("bytes not expected");
  flawed.operator()<Flaw::few_bytes>("fewer bytes expected");
  flawed.operator()<Flaw::many_bytes>("more bytes expected");
  flawed.operator()<Flaw::no_full_wait>("a box read without a wait");
  flawed.operator()<Flaw::no_empty_wait>("a stage filled without a wait");
  flawed.operator()<Flaw::no_consumer_flip>("a reader's parity that never turns");
  flawed.operator()<Flaw::no_producer_flip>("a writer's parity that never turns");
  flawed.operator()<Flaw::early_release>("a stage given back before the wait");
  flawed.operator()<Flaw::no_release>("a stage never given back");
  flawed.operator()<Flaw::every_lane_releases>("a stage given back by every lane");
  flawed.operator()<Flaw::wrong_stage>("another stage");
  flawed.operator()<Flaw::no_sums_fence>("sums without a fence");
  flawed.operator()<Flaw::no_commit>("products in no group");
  flawed.operator()<Flaw::wait_for_less>("a wait that leaves a group");
  flawed.operator()<Flaw::no_last_wait>("products never waited for");
  flawed.operator()<Flaw::sums_written>("sums written too early");
  flawed.operator()<Flaw::not_aligned>("a box at no multiple of 128");
  flawed.operator()<Flaw::beyond>("a box beyond its array");
  flawed.operator()<Flaw::within_pattern>("a matrix within a pattern");
  flawed.operator()<Flaw::other_swizzle>("a swizzle that is none");
  emulation::clear_claims();
  emulation::claim(memory.rows, sizeof memory.rows - 64, false);
  emulation::claim(memory.columns, sizeof memory.columns, false);
  emulation::claim(memory.results, sizeof memory.results, true);
  run("a box beyond its operand", pipeline<Flaw::none>, kPipelineThreads, results, rows, columns);
  TensorMap flat;
  const auto refused = [](CUresult code) { return code == CUDA_SUCCESS ? "nothing" : "refused"; };
  say("a map whose strides are no multiple of 16", refused(column_map(flat, panel + 8)));
  say("a map wider than its swizzle", refused(column_map(flat, panel, 32)));
  run("sound: stored matrices", stored_matrices<true>, kGroupThreads, results);
  run("stored matrices not shown", stored_matrices<false>, kGroupThreads, results);
  run("sound: some threads", some_threads<Some::together>, kThreads, results);
  run("some threads without a barrier", some_threads<Some::left_out>, kThreads, results);
  run("some threads of another count", some_threads<Some::other_count>, kThreads, results);
  run("some threads of too many", some_threads<Some::too_many>, kThreads, results);
  run("a barrier without a number", some_threads<Some::no_number>, kThreads, results);
  run("sound: registers", registers<40, 256>, kThreads);
  run("registers that nobody takes", registers_given, kThreads);
  run("more registers given than there are", registers_of_many<136>, 2 * kThreads);
  run("more registers taken than there are", registers_of_many<128>, 2 * kThreads);
}

} // namespace

int main(int count, char **arguments) {
  for (int i = 1; i < count; ++i) {
    setenv("SLUICE_EMULATION_SEED", arguments[i], 1);
    run_all();
  }
}
