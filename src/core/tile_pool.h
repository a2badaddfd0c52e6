/**
 * @file
 * The process-wide pool of tiles: how many bytes all blocks of all devices hold, and the host
 * memory behind those of the CPU.
 */
#pragma once

#include <cstdint>

namespace sluice {

/** Host memory is handed out in tiles of one huge page. */
constexpr uint64_t kTileBytes = uint64_t(2) << 20;

struct PoolStats {
  uint64_t bytes;      ///< of tiles in use now
  uint64_t peak_bytes; ///< most since the process began
  uint64_t blocks;
};

PoolStats pool_stats();
/** Books one block of `bytes`, whole tiles, on any device. */
void pool_add(uint64_t bytes);
void pool_remove(uint64_t bytes);

/**
 * Zeroed host memory at a multiple of kTileBytes; bytes: whole tiles. Pages are backed when first
 * touched. Null where the system refuses, or where all maps together would pass what this process
 * may use.
 */
void *tiles_map(uint64_t bytes);
/** Gives the memory back to the system at once. */
void tiles_unmap(void *address, uint64_t bytes);

/** `bytes` rounded up to whole tiles; UINT64_MAX where that overflows. */
constexpr uint64_t round_up(uint64_t bytes, uint64_t tile) {
  return bytes > UINT64_MAX - (tile - 1) ? UINT64_MAX : (bytes + tile - 1) / tile * tile;
}

} // namespace sluice
