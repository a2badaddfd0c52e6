/**
 * @file
 * The emulated memories and what they watch for: accesses out of bounds or not aligned, shared
 * memory read before it was written, accesses of two threads that no barrier keeps apart, and
 * asynchronous copies used before their wait.
 */
#pragma once

#include <cstdint>
#include <vector>

#include "emulation/machine.hpp"

namespace sluice::emulation {

// ------------------------------------------------------------------------------------------------
// Device memory

/** Memory that kernels may touch, from the device's allocator. */
void add_allocation(const void *address, uint64_t bytes);
void remove_allocation(const void *address);

/**
 * From now on kernels of this OS thread may read the ranges claimed, and write those claimed as
 * written, alone: an operand read one row too far is then found inside a larger allocation. With no
 * claims, kernels may touch all allocations.
 */
void claim(const void *address, uint64_t bytes, bool written);
/** Claims what launches write in any order, the same each time. */
void claim_flag(const void *address, uint64_t bytes);
void clear_claims();

struct Claimed {
  uint64_t begin, end;
  bool written;
  bool any_order = false;
};
/** What kernels of this OS thread may touch, for a launch that comes later. */
const std::vector<Claimed> &claims_now();
/** Claims for as long as it lives. */
class ClaimsScope {
 public:
  explicit ClaimsScope(const std::vector<Claimed> &claims);
  ~ClaimsScope();
  ClaimsScope(const ClaimsScope &) = delete;
  ClaimsScope &operator=(const ClaimsScope &) = delete;

 private:
  std::vector<Claimed> before_;
};

enum class Access : uint8_t { read, write, atomic };

/** Checks an access to device memory; ends the launch where it is wrong. */
void check_global(const void *address, uint32_t bytes, Access access, Site site);

// ------------------------------------------------------------------------------------------------
// Shared memory

/** An address in the block's shared memory: bytes [begin, end) of an array it may not leave. */
struct SharedRange {
  uint32_t begin, end;
};

/** The array that `key` stands for in this block, made when its first thread asks. */
SharedRange static_shared(const void *key, uint32_t bytes);
/** Bytes [offset, offset + bytes) of the launch's dynamic shared memory. */
SharedRange dynamic_shared(uint32_t offset, uint32_t bytes, Site site);

/**
 * The bytes behind an access, checked. `whole_warp`: the access counts for all lanes, as a
 * warp-wide load of a matrix does.
 */
uint8_t *shared_access(SharedRange range, int64_t offset, uint32_t bytes, Access access, Site site,
                       bool whole_warp = false);

/** Begins an asynchronous copy of 16 bytes by this thread; null `from` fills with zeros. */
void async_copy(SharedRange range, int64_t offset, const void *from, Site site);
void async_commit();
/** Waits until at most `left` of this thread's groups are under way. */
void async_wait(uint32_t left);

/** Where a byte of shared memory lies in it. */
uint32_t shared_offset(const uint8_t *at);
/** All bytes that the block has. */
uint32_t shared_size();
/** Bytes that were checked before. */
uint8_t *shared_bytes(uint32_t begin);

// The asynchronous proxy: copies of boxes and products of matrices, which see what threads stored
// once it is shown to them.

/** Ends the launch where the running thread cannot know that what it shows at a byte was shown. */
void check_shown(uint32_t at, Site site);
/** Begins to write bytes for copy number `copy`: nobody else may still write or read them. */
void begin_box(uint32_t begin, uint32_t bytes, uint32_t copy, Site site);
/** The bytes have come. */
void land_box(uint32_t begin, uint32_t bytes);
/** Checks a read of 16 bytes by a group's product, on behalf of all of its threads. */
void check_product_read(uint32_t begin, uint32_t group, Site site);

/** Counts the wavefronts of a warp-wide access: addresses of lanes in shared memory, `bytes` each.
 */
void count_banks(const uint32_t *addresses, uint32_t lanes, uint32_t bytes);

} // namespace sluice::emulation
