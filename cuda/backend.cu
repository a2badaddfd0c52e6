/**
 * @file
 * The CUDA backend's table; see core/backend.h for the contract of every function.
 */
#include "core/backend.h"

#include <cstdio>

#include "core/commands.h"
#include "device.hpp"
#include "kernels/conv_wgmma_run.hpp"
#include "memory.hpp"
#include "queue.hpp"

namespace sluice::cuda {
namespace {

int32_t device_count() { return int32_t(devices().size()); }

int device_info(int32_t index, sluice_device_info *out) {
  const Device &device = devices()[size_t(index)];
  size_t free_bytes = 0, total_bytes = 0;
  if (cudaSetDevice(device.ordinal) != cudaSuccess ||
      cudaMemGetInfo(&free_bytes, &total_bytes) != cudaSuccess) {
    cudaGetLastError();
    return SLUICE_DEVICE_LOST;
  }
  snprintf(out->name, sizeof out->name, "%s", device.name.c_str());
  snprintf(out->detail, sizeof out->detail, "compute capability %d.%d, %d multiprocessors, %s",
           device.architecture / 10, device.architecture % 10, device.multiprocessors,
           device.virtual_memory ? "mapped memory" : "plain memory");
  out->memory_bytes = total_bytes;
  out->free_bytes = free_bytes;
  out->tile_bytes = device.granule;
  out->wgmma = offers_wgmma(device);
  return SLUICE_OK;
}

int block_create(int32_t index, uint64_t bytes, int32_t host, sluice_block **out, char *error,
                 size_t capacity) {
  return create_block(devices()[size_t(index)], bytes, host != 0, out, {error, capacity});
}

void block_destroy(sluice_block *block) { destroy_block(block); }

void *block_address(sluice_block *block) { return block->address; }

int block_write(sluice_block *block, uint64_t offset, const void *data, uint64_t bytes) {
  return write_block(*block, offset, data, bytes);
}

int block_read(sluice_block *block, uint64_t offset, void *data, uint64_t bytes) {
  return read_block(*block, offset, data, bytes);
}

int block_fill(sluice_block *block, uint64_t offset, uint64_t bytes, uint8_t value) {
  return fill_block(*block, offset, bytes, value);
}

int queue_create(int32_t index, int32_t, sluice_queue **out, char *error, size_t capacity) {
  return create_queue(devices()[size_t(index)], out, {error, capacity});
}

void queue_destroy(sluice_queue *queue) { destroy_queue(queue); }

/** `stop` is read between segments alone: a launch cannot be called back. */
int queue_submit(sluice_queue *queue, const int32_t *commands, int32_t count, void *const *bases,
                 const volatile uint8_t *, int32_t *taken, char *error, size_t capacity) {
  return submit(*queue, commands, count, bases, taken, {error, capacity});
}

int queue_finish(sluice_queue *queue, int64_t *nanoseconds, char *error, size_t capacity) {
  return finish(*queue, nanoseconds, {error, capacity});
}

constexpr sluice_backend kBackend = {
    .version = SLUICE_BACKEND_VERSION,
    .command_version = kCommandVersion,
    .name = "cuda",
    .narrow_activations = 1,
    .uses_scratch = 0,
    .bf16_products = 0,
    .conv_phases = 0,
    .device_count = device_count,
    .why_none = why_none,
    .device_info = device_info,
    .block_create = block_create,
    .block_destroy = block_destroy,
    .block_address = block_address,
    .block_write = block_write,
    .block_read = block_read,
    .block_fill = block_fill,
    .queue_create = queue_create,
    .queue_destroy = queue_destroy,
    .submit = queue_submit,
    .finish = queue_finish,
};

} // namespace
} // namespace sluice::cuda

extern "C" __attribute__((visibility("default"))) const sluice_backend *sluice_backend_init(void) {
  return &sluice::cuda::kBackend;
}
