/**
 * @file
 * Blocks of device memory. A block is a range of addresses with physical memory mapped behind it in
 * granules (cuMem), or plain cudaMalloc where a driver cannot map. Nothing is kept when a block
 * goes: what blocks hold is all that the plug-in allocates on a device, so that a plan's bytes are
 * a cap. The host's two transfer buffers go with a device's last block.
 */
#pragma once

#include "device.hpp"

/** See sluice_backend: memory of a device. */
struct sluice_block {
  const sluice::cuda::Device &device;
  uint64_t bytes;
  void *address = nullptr;
  CUmemGenericAllocationHandle handle = 0; ///< 0: not mapped
  bool host = false;                       ///< pinned memory of the host
};

namespace sluice::cuda {

/** A zeroed block, of the device or pinned on the host; `bytes` a multiple of the device's granule.
 */
int create_block(const Device &device, uint64_t bytes, bool host, sluice_block **out,
                 const Complaint &complaint);
void destroy_block(sluice_block *block);

/** Copies through pinned memory, two pieces in flight; returns when the bytes have arrived. */
int write_block(sluice_block &block, uint64_t offset, const void *data, uint64_t bytes);
int read_block(sluice_block &block, uint64_t offset, void *data, uint64_t bytes);
int fill_block(sluice_block &block, uint64_t offset, uint64_t bytes, uint8_t value);

} // namespace sluice::cuda
