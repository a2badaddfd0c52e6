/**
 * @file
 * Kernels with one defect each, and their sound twins, on the emulated machine. Prints a line a
 * launch, `name: what the emulator said`, under the schedule seeds given as arguments.
 */
#include <cstdio>
#include <cstdlib>

#include "launch.hpp"
#include "ptx.hpp"

namespace {

using namespace sluice;
using namespace sluice::cuda;

constexpr int kThreads = 64;

/** Values go through shared memory from one thread to another. */
template <bool kBarrier>
SLUICE_KERNEL(kThreads, 1)
hand_over(Global<float> g) {
  SLUICE_SHARED(float, s, kThreads);
  const int i = int(threadIdx.x);
  s.store(i, float(i));
  block_sync();
  s.store(i, g.load(i));
  if constexpr (kBarrier) block_sync();
  g.store(i, s.load(kThreads - 1 - i));
}

/** A warp's barrier keeps its own lanes apart, and no others. */
template <int kDistance>
SLUICE_KERNEL(kThreads, 1)
hand_over_in_warp(Global<float> g) {
  SLUICE_SHARED(float, s, 2 * kThreads);
  const int i = int(threadIdx.x);
  s.store(i, float(i));
  s.store(i + kThreads, 0.0f);
  warp_sync();
  g.store(i, s.load(i ^ kDistance));
}

/** The next round writes what this one still reads. */
template <bool kBarrier>
SLUICE_KERNEL(kThreads, 1)
rounds(Global<float> g) {
  SLUICE_SHARED(float, s, kThreads);
  const int i = int(threadIdx.x);
  float sum = 0.0f;
  for (int round = 0; round < 3; ++round) {
    s.store(i, float(round));
    block_sync();
    sum += s.load((i + 33) % kThreads);
    if constexpr (kBarrier) block_sync();
  }
  g.store(i, sum);
}

template <bool kAll>
SLUICE_KERNEL(kThreads, 1)
initialise(Global<float> g) {
  SLUICE_SHARED(float, s, kThreads);
  const int i = int(threadIdx.x);
  if (kAll || i != 5) s.store(i, 1.0f);
  block_sync();
  g.store(i, s.load(i));
}

template <int kBeyond>
SLUICE_KERNEL(kThreads, 1)
shared_bounds(Global<float> g) {
  SLUICE_SHARED(float, s, kThreads);
  SLUICE_SHARED(float, neighbour, kThreads);
  const int i = int(threadIdx.x);
  s.store(i, 1.0f), neighbour.store(i, 1.0f);
  block_sync();
  g.store(i, s.load(i + kBeyond));
}

template <int kBeyond>
SLUICE_KERNEL(kThreads, 1)
device_bounds(Global<const float> from, Global<float> to) {
  const int i = int(threadIdx.x);
  to.store(i, from.load(i + kBeyond));
}

template <int kFirst>
SLUICE_KERNEL(kThreads, 1)
alignment(Global<const float> from, Global<float> to) {
  const Floats4 v = from.load_as<Floats4>(kFirst);
  to.store(int(threadIdx.x), v.x);
}

/** Two blocks write one place each, or the same. */
template <bool kApart>
SLUICE_KERNEL(32, 1)
blocks_write(Global<float> g) {
  g.store(int(threadIdx.x) + (kApart ? 32 * int(blockIdx.x) : 0), 1.0f);
}

enum class Copying { sound, no_wait, no_commit, late_wait, no_barrier, abandoned };

/** Two groups of copies; the first is used once one alone is under way. */
template <Copying kHow>
SLUICE_KERNEL(kThreads, 1)
copies(Global<const float> from, Global<float> to) {
  const Shared<float> s = dynamic_shared<float>(0, 8 * kThreads);
  const int i = int(threadIdx.x);
  ptx::copy_16(s, 4 * i, from, 4 * i, true);
  if constexpr (kHow != Copying::no_commit) ptx::copy_commit();
  ptx::copy_16(s, 4 * (kThreads + i), from, 4 * i, i % 2 == 0);
  ptx::copy_commit();
  if constexpr (kHow == Copying::late_wait) ptx::copy_wait<2>();
  if constexpr (kHow != Copying::late_wait && kHow != Copying::no_wait) ptx::copy_wait<1>();
  if constexpr (kHow != Copying::no_barrier) block_sync();
  to.store(i, s.load(4 * ((i + 40) % kThreads)));
  if constexpr (kHow != Copying::abandoned) ptx::copy_wait<0>();
}

enum class Paths { together, some_stay_away, some_leave, apart };

template <Paths kPaths>
SLUICE_KERNEL(kThreads, 1)
barrier_paths(Global<float> g) {
  const int i = int(threadIdx.x);
  if constexpr (kPaths == Paths::some_leave) {
    if (i == 40) return;
  }
  if (kPaths == Paths::some_stay_away && i < 32) {
    g.store(i, 0.0f);
  } else if (kPaths == Paths::apart && i < 32) {
    block_sync();
  } else {
    block_sync();
  }
}

template <bool kTogether>
SLUICE_KERNEL(kThreads, 1)
shuffle_paths(Global<float> g) {
  const int i = int(threadIdx.x);
  float x = float(i);
  if (kTogether || i % 2)
    x = shuffle_xor(x, 1);
  else
    x = shuffle_xor(x, 2);
  g.store(i, x);
}

SLUICE_KERNEL(32, 1)
product(Global<float> g) {
  float c[1][2][4] = {};
  const uint32_t a[1][4] = {}, b[2][2] = {};
  ptx::mma_tile<bf16>(c, a, b);
  g.store(int(threadIdx.x), c[0][0][0]);
}

SLUICE_KERNEL(1024, 1) nothing() {}

constexpr int kValues = 16 * kThreads, kResults = 4 * kThreads;

/** Operands with something between them: one that is left must not end in the other. */
struct alignas(64) Memory {
  float values[kValues], between[2 * kValues], results[kResults];
} memory;

void say(const char *name, cudaError_t status) {
  std::printf("%s: %s\n", name, status == cudaSuccess ? "nothing" : cudaGetErrorString(status));
}

/** Launches one block over the values and results. */
template <class Kernel, class... A>
void run(const char *name, Kernel kernel, uint32_t threads, A... arguments) {
  emulation::clear_claims();
  emulation::claim(memory.values, sizeof memory.values, false);
  emulation::claim(memory.results, sizeof memory.results, true);
  say(name, launch(name, kernel, {Grid(1), threads, 32 * kThreads}, nullptr, arguments...));
}

void run_all() {
  const Global<const float> from{memory.values};
  const Global<float> to{memory.results};
  run("sound: hand over", hand_over<true>, kThreads, to);
  run("hand over without a barrier", hand_over<false>, kThreads, to);
  run("sound: hand over in a warp", hand_over_in_warp<1>, kThreads, to);
  run("hand over between warps by a warp's barrier", hand_over_in_warp<32>, kThreads, to);
  run("sound: rounds", rounds<true>, kThreads, to);
  run("rounds without a second barrier", rounds<false>, kThreads, to);
  run("sound: initialise", initialise<true>, kThreads, to);
  run("shared memory that one thread leaves out", initialise<false>, kThreads, to);
  run("sound: shared bounds", shared_bounds<0>, kThreads, to);
  run("one element beyond a shared array", shared_bounds<1>, kThreads, to);
  run("sound: device bounds", device_bounds<0>, kThreads, from, to);
  run("beyond an operand", device_bounds<16 * kThreads>, kThreads, from, to);
  run("a write to what is only read", device_bounds<0>, kThreads, from,
      Global<float>{memory.values});
  run("sound: alignment", alignment<4>, kThreads, from, to);
  run("a vector at no multiple of its size", alignment<1>, kThreads, from, to);
  emulation::claim(memory.results, sizeof memory.results, true);
  say("sound: blocks write", launch("blocks", blocks_write<true>, {Grid(2), 32}, nullptr, to));
  say("two blocks write one place",
      launch("blocks", blocks_write<false>, {Grid(2), 32}, nullptr, to));
  run("sound: copies", copies<Copying::sound>, kThreads, from, to);
  run("a copy used without a wait", copies<Copying::no_wait>, kThreads, from, to);
  run("a copy in no group", copies<Copying::no_commit>, kThreads, from, to);
  run("a wait that leaves too many", copies<Copying::late_wait>, kThreads, from, to);
  run("another thread's copy without a barrier", copies<Copying::no_barrier>, kThreads, from, to);
  run("a copy never waited for", copies<Copying::abandoned>, kThreads, from, to);
  run("sound: barrier", barrier_paths<Paths::together>, kThreads, to);
  run("a barrier that a warp stays away from", barrier_paths<Paths::some_stay_away>, kThreads, to);
  run("a barrier after a thread has left", barrier_paths<Paths::some_leave>, kThreads, to);
  run("two barriers at once", barrier_paths<Paths::apart>, kThreads, to);
  run("sound: shuffle", shuffle_paths<true>, kThreads, to);
  run("two shuffles at once", shuffle_paths<false>, kThreads, to);
  say("more threads than a block holds", launch("nothing", nothing, {Grid(1), 1056}, nullptr));
  say("no whole warps", launch("nothing", nothing, {Grid(1), 40}, nullptr));
  say("more rows of blocks than a grid holds",
      launch("nothing", nothing, {Grid(1, 65536), 32}, nullptr));
  say("more shared memory than a block has",
      launch("nothing", nothing, {Grid(1), 32, 256 * 1024}, nullptr));
  run("bf16 products", product, 32, to);
}

} // namespace

int main(int count, char **arguments) {
  for (int i = 1; i < count; ++i) {
    setenv("SLUICE_EMULATION_SEED", arguments[i], 1);
    run_all();
  }
}
