/**
 * @file
 * What a thread knows of the others in its block: how far each had come when it last told, directly
 * or through others, by a barrier. Threads count their own tellings; what one did at a time is
 * before what another does that knows of this time. Barriers in shared memory are counted beside
 * the threads: how many of their phases a thread knows to have ended.
 */
#pragma once

#include <cstdint>
#include <vector>

#include "emulation/machine.hpp"

namespace sluice::emulation {

constexpr uint32_t kMostBarriers = 64; ///< in the shared memory of a block
/** The time of a thread that has told nobody anything, so of all before counting begins. */
constexpr uint32_t kFirstTime = 1;

/** One entry for each thread, then one for each barrier. */
using Knowledge = std::vector<uint32_t>;

/** Counting begins with a block's first use of what needs it. */
void order_block_begin();
void order_begin();

/** The thread's present time. */
uint32_t order_now(uint32_t thread);
/** Whether `thread` knows that `other` had come to `time`. */
bool order_knows(uint32_t thread, uint32_t other, uint32_t time);
/** Adds what a thread knows, and begins its next time. */
void order_tell(uint32_t thread, Knowledge &to);
void order_learn(uint32_t thread, const Knowledge &from);
/** Threads that have met: each knows what any of them does. Nothing where nobody counts. */
void order_meet(const std::vector<uint32_t> &threads);
void order_meet(uint32_t first, uint32_t count);

/** The phases of a barrier that a thread knows to have ended. */
uint32_t order_phases(uint32_t thread, uint32_t barrier);
void order_know_phases(uint32_t thread, uint32_t barrier, uint32_t phases);

/** Shows a thread's stores to the asynchronous proxy. */
void order_fence(uint32_t thread);
/** How many fences a thread has passed. */
uint32_t order_fences(uint32_t thread);
/** Whether `thread` knows that `writer` passed a fence after its first `fences`. */
bool order_knows_fence(uint32_t thread, uint32_t writer, uint32_t fences);

} // namespace sluice::emulation
