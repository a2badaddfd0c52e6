/**
 * @file
 * The emulated machine: blocks one after another, their threads as fibers that run until they meet
 * at a barrier or a warp-wide operation. Whatever a GPU would leave undefined ends the launch with
 * a fault: a sentence that names kernel, block, thread and source line.
 */
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <source_location>
#include <string>

namespace sluice::emulation {

using Site = std::source_location;

constexpr uint32_t kWarp = 32;
constexpr uint32_t kGroup = 128; ///< threads of four warps, which multiply together

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
};

/** What a launch may use at most; the architecture is 10 * major + minor. */
struct Limits {
  int32_t architecture;
  uint32_t shared_bytes;
};
/** The emulated device: sm_90 unless SLUICE_EMULATION_ARCH names another. */
Limits limits();

/** Where the running thread is in the grid. */
struct Place {
  Dim3 thread, block, block_size, grid_size;
};
const Place &place();
uint32_t lane();
uint32_t thread_index(); ///< in the block

/** What threads wait for. */
enum class Meeting : uint8_t {
  none,
  block_sync,
  warp_sync,
  shuffle,
  vote,
  load_matrix,
  mma,
  product,
  product_fence,
  product_commit,
  product_wait,
  give_registers,
  take_registers,
  barrier,
  named_sync,
};

/** Waits until every thread of the block is here. */
void block_sync(Site site);

/**
 * Waits until every lane of the warp is here with the same operation from the same line; the last
 * to come calls act(context, deposits) with what each lane left, then all go on.
 */
void meet(Meeting meeting, void *deposit, void (*act)(void *context, void *const *deposits),
          void *context, Site site);
/** As meet, for a group of four warps. */
void meet_group(Meeting meeting, void *deposit, void (*act)(void *context, void *const *deposits),
                void *context, Site site);

/** Waits alone until `is_over`, asked anew whenever Block::changed. */
void wait_until(Meeting meeting, std::function<bool()> is_over, Site site);

/** Ends the launch; never returns. */
[[noreturn]] void fault(Site site, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct Shape {
  Dim3 grid;
  uint32_t threads;
  uint32_t shared_bytes; ///< dynamic
};

/** Runs a kernel over its grid. Returns an empty string, or the fault that ended it. */
std::string run_grid(const char *kernel, const Shape &shape, const std::function<void()> &body);

/** The fault of this OS thread's last launch that failed: what cudaErrorLaunchFailure stands for.
 */
std::string &last_fault();

/** Kernels that this OS thread has launched, by address: tests ask whether any was left out. */
std::set<const void *> &launched();

/** Counts of the last launch of this OS thread that ended well. */
struct Counts {
  uint64_t shared_requests = 0;   ///< warp-wide loads and stores of matrices and copies
  uint64_t shared_wavefronts = 0; ///< cycles that they take; equal where no banks conflict
};
Counts &counts();

} // namespace sluice::emulation
