/**
 * @file
 * Keeps threads that compute together on different processors. Where each processor has a cache of
 * its own, Linux wakes a thread where it last ran, even beside the one that waits for it, and parts
 * the two only after many milliseconds.
 */
#pragma once

#include <bitset>
#include <cstdint>

namespace sluice {

constexpr int32_t kMostProcessors = 1024;
using Processors = std::bitset<kMostProcessors>;

/** Where the calling thread runs; -1 where the system does not say. */
int32_t current_processor();

/** What move_away takes for the calling thread. */
int32_t current_thread();

/** Sends a thread to a processor that is not taken, of those that the caller may use. False where
 * there is none, or the system refuses. */
bool move_away(int32_t thread, const Processors &taken);

/** Lets the calling thread run wherever another thread may: after it was moved, that the system may
 * choose again. */
void run_where(int32_t other);

} // namespace sluice
