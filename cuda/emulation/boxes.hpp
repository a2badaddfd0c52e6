/**
 * @file
 * Copies of boxes of a tensor (TMA). A box is copied at some moment between its instruction and the
 * end of its barrier's phase: as late as can be, or where there is a schedule seed whenever a draw
 * says so. Until then its destination holds no number; for a thread it is there once the thread
 * knows that the phase has ended.
 */
#pragma once

#include "emulation/memory.hpp"
#include "emulation/runtime.hpp"

namespace sluice::emulation {

/** Where units of 16 bytes lie in shared memory: bits of the address as the swizzle exchanges them.
 */
uint32_t swizzled(CUtensorMapSwizzle swizzle, uint32_t address);

/** Begins to copy the box at `at`, `rank` coordinates, the innermost first. */
void copy_box(SharedRange to, int64_t offset, const CUtensorMap &map, const int32_t *at,
              uint32_t rank, SharedRange barriers, int64_t barrier, Site site);

bool box_is_known(uint32_t copy, uint32_t thread);
bool box_is_known_to_group(uint32_t copy, uint32_t group);

void boxes_block_begin();
/** Complains about boxes that nobody waited for. */
void boxes_block_end();

} // namespace sluice::emulation
