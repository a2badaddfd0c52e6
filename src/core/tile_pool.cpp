#include "core/tile_pool.h"

#include <atomic>

#include <sys/mman.h>

#include "core/system.h"

namespace sluice {
namespace {

std::atomic<uint64_t> bytes_now{0}, bytes_peak{0}, blocks_now{0};
std::atomic<uint64_t> mapped{0};

uint64_t host_limit() {
  static const uint64_t limit = memory_limit();
  return limit;
}

} // namespace

PoolStats pool_stats() { return {bytes_now.load(), bytes_peak.load(), blocks_now.load()}; }

void pool_add(uint64_t bytes) {
  const uint64_t now = bytes_now.fetch_add(bytes) + bytes;
  uint64_t peak = bytes_peak.load();
  while (peak < now && !bytes_peak.compare_exchange_weak(peak, now)) {
  }
  blocks_now.fetch_add(1);
}

void pool_remove(uint64_t bytes) {
  bytes_now.fetch_sub(bytes);
  blocks_now.fetch_sub(1);
}

void *tiles_map(uint64_t bytes) {
  // Linux grants address space freely and kills the process when it is touched, so the limit is
  // ours to keep.
  if (bytes == 0 || bytes > host_limit()) return nullptr;
  if (mapped.fetch_add(bytes) + bytes > host_limit()) {
    mapped.fetch_sub(bytes);
    return nullptr;
  }
  const uint64_t reserved = bytes + kTileBytes;
  void *const base =
      mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) {
    mapped.fetch_sub(bytes);
    return nullptr;
  }
  const uintptr_t begin = reinterpret_cast<uintptr_t>(base);
  const uintptr_t aligned = (begin + kTileBytes - 1) / kTileBytes * kTileBytes;
  const uint64_t head = aligned - begin, tail = reserved - head - bytes;
  if (head) munmap(base, head);
  if (tail) munmap(reinterpret_cast<void *>(aligned + bytes), tail);
  void *const address = reinterpret_cast<void *>(aligned);
#if defined(MADV_HUGEPAGE)
  madvise(address, bytes, MADV_HUGEPAGE);
#endif
  return address;
}

void tiles_unmap(void *address, uint64_t bytes) {
  if (!address) return;
  munmap(address, bytes);
  mapped.fetch_sub(bytes);
}

} // namespace sluice
