/**
 * @file
 * A block of a device's memory, booked in the pool for as long as it lives. Runs share it, so that
 * memory never goes away under one.
 */
#pragma once

#include <atomic>
#include <memory>

#include "core/backends.h"

namespace sluice {

class Block {
 public:
  /** host: memory of the host that the device's copies reach, not booked where the device has its
   * own. Throws Error: out of memory, or a size that is not possible. */
  Block(const Device &device, uint64_t bytes, bool host = false);
  ~Block();
  Block(const Block &) = delete;
  Block &operator=(const Block &) = delete;

  const Device &device() const { return device_; }
  bool on_host() const { return host_; }
  uint64_t bytes() const { return bytes_; }
  uint64_t tile_bytes() const { return tile_bytes_; }
  /** Host address on the CPU, device address elsewhere. */
  void *address() const;

  /** These three check the range and throw Error. write, read: inside bytes(); fill: inside
   * tile_bytes(). */
  void write(uint64_t offset, const void *data, uint64_t bytes);
  void read(uint64_t offset, void *data, uint64_t bytes);
  void fill(uint64_t offset, uint64_t bytes, uint8_t value);
  /** One past the last byte in [from, tile_bytes()) that differs from `value`; `from` when all are
   * equal. */
  uint64_t last_different(uint64_t from, uint8_t value);

  /** Set while a run writes here: two runs in one arena would spoil each other. */
  std::atomic<bool> running{false};

 private:
  Device device_;
  uint64_t bytes_, tile_bytes_;
  bool host_, booked_;
  sluice_block *block_ = nullptr;
};

} // namespace sluice
