#include "core/block.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/tile_pool.h"

namespace sluice {
namespace {

using ull = unsigned long long;

void check_range(const char *where, uint64_t offset, uint64_t bytes, uint64_t limit) {
  if (offset <= limit && bytes <= limit - offset) return;
  throw Error(kStatusArgument,
              format("%s: expected a range inside the block's %llu bytes, got %llu bytes at %llu",
                     where, ull(limit), ull(bytes), ull(offset)));
}

void check_status(const char *where, const Device &device, int status) {
  if (status == SLUICE_OK) return;
  throw Error(status, format("%s: expected device %s to copy, got status %d", where,
                             device.id().c_str(), status));
}

} // namespace

Block::Block(const Device &device, uint64_t bytes, bool host)
    : device_(device), bytes_(bytes), host_(host), booked_(!host || device.is_cpu()) {
  sluice_device_info info{};
  const int known = device.backend->device_info(device.index, &info);
  if (known != SLUICE_OK || info.tile_bytes == 0) {
    throw Error(SLUICE_DEVICE_LOST,
                format("createBlock: expected device %s to describe itself, got status %d",
                       device.id().c_str(), known));
  }
  tile_bytes_ = round_up(bytes, info.tile_bytes);
  if (bytes == 0 || tile_bytes_ == UINT64_MAX) {
    throw Error(kStatusArgument,
                format("createBlock: expected 1 byte or more, got %llu", ull(bytes)));
  }
  char error[512] = "";
  const int status =
      device.backend->block_create(device.index, tile_bytes_, host_, &block_, error, sizeof error);
  if (status != SLUICE_OK || !block_) throw Error(status ? status : SLUICE_OUT_OF_MEMORY, error);
  if (booked_) pool_add(tile_bytes_);
}

Block::~Block() {
  device_.backend->block_destroy(block_);
  if (booked_) pool_remove(tile_bytes_);
}

void *Block::address() const { return device_.backend->block_address(block_); }

void Block::write(uint64_t offset, const void *data, uint64_t bytes) {
  check_range("write", offset, bytes, bytes_);
  if (bytes)
    check_status("write", device_, device_.backend->block_write(block_, offset, data, bytes));
}

void Block::read(uint64_t offset, void *data, uint64_t bytes) {
  check_range("read", offset, bytes, bytes_);
  if (bytes)
    check_status("read", device_, device_.backend->block_read(block_, offset, data, bytes));
}

void Block::fill(uint64_t offset, uint64_t bytes, uint8_t value) {
  check_range("fill", offset, bytes, tile_bytes_);
  if (bytes)
    check_status("fill", device_, device_.backend->block_fill(block_, offset, bytes, value));
}

uint64_t Block::last_different(uint64_t from, uint8_t value) {
  check_range("lastDifferent", from, 0, tile_bytes_);
  std::vector<uint8_t> chunk(256 << 10);
  for (uint64_t end = tile_bytes_; end > from;) {
    const uint64_t bytes = std::min<uint64_t>(chunk.size(), end - from);
    const uint64_t begin = end - bytes;
    check_status("lastDifferent", device_,
                 device_.backend->block_read(block_, begin, chunk.data(), bytes));
    for (uint64_t i = bytes; i > 0; --i) {
      if (chunk[i - 1] != value) return begin + i;
    }
    end = begin;
  }
  return from;
}

} // namespace sluice
