/**
 * @file
 * Barriers in shared memory (mbarrier), barriers of some of a block's warps, and registers that
 * groups of four warps hand to each other: what threads of a block wait for one by one.
 */
#pragma once

#include "emulation/memory.hpp"

namespace sluice::emulation {

/** The barrier at an address; `i` counts 8-byte words. */
void barrier_init(SharedRange range, int64_t offset, uint32_t count, Site site);
/** Arrives, and expects so many bytes more in this phase. */
void barrier_arrive(SharedRange range, int64_t offset, uint32_t bytes, Site site);
void barrier_wait(SharedRange range, int64_t offset, uint32_t parity, Site site);

/** For copies: the barrier's number and the phase that is under way. The beginning of the barrier
 * must have been shown to the asynchronous proxy. */
struct BarrierPhase {
  uint32_t barrier, phase;
};
BarrierPhase barrier_of_copy(SharedRange range, int64_t offset, Site site);
/** So many bytes of a copy have landed; the phase must not have ended without them. */
void barrier_complete(BarrierPhase copy, uint32_t bytes, Site site);

/** Waits until `threads` threads are at barrier `id`. */
void named_sync(int32_t id, int32_t threads, Site site);

/** A group's registers a thread from here on; takes wait until others have given back. */
void set_registers(uint32_t count, bool takes, Site site);

void barriers_block_begin();
/** Complains about registers that were given back and that nobody took. */
void barriers_block_end();

} // namespace sluice::emulation
