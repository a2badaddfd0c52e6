/**
 * @file
 * The CPU as a backend: blocks are host memory, a command runs over the thread pool before submit
 * returns.
 */
#include "core/backend.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>

#include "core/commands.h"
#include "core/error.h"
#include "core/ranges.h"
#include "core/system.h"
#include "core/thread_pool.h"
#include "core/tile_pool.h"
#include "cpu/kernels.h"

struct sluice_block {
  uint8_t *data;
  uint64_t bytes;
};

struct sluice_queue {
  int32_t threads;
};

namespace sluice {
namespace {

using ull = unsigned long long;

int32_t device_count() { return 1; }

const char *why_none() { return ""; }

int device_info(int32_t, sluice_device_info *out) {
  static const std::string &model = *new std::string(cpu_model());
  snprintf(out->name, sizeof out->name, "%s", model.c_str());
  snprintf(out->detail, sizeof out->detail, "%s", kernels().name);
  out->memory_bytes = memory_limit();
  out->free_bytes = memory_free();
  out->tile_bytes = kTileBytes;
  return SLUICE_OK;
}

int block_create(int32_t, uint64_t bytes, int32_t, sluice_block **out, char *error,
                 size_t capacity) {
  sluice_block *const block = new (std::nothrow) sluice_block{nullptr, bytes};
  if (block) block->data = static_cast<uint8_t *>(tiles_map(bytes));
  if (!block || !block->data) {
    delete block;
    return fail(
        SLUICE_OUT_OF_MEMORY, error, capacity,
        "createBlock: expected %llu bytes of memory, got none: %llu are in use by blocks and "
        "this process may use %llu; lower the budget",
        ull(bytes), ull(pool_stats().bytes), ull(memory_limit()));
  }
  *out = block;
  return SLUICE_OK;
}

void block_destroy(sluice_block *block) {
  if (!block) return;
  tiles_unmap(block->data, block->bytes);
  delete block;
}

void *block_address(sluice_block *block) { return block->data; }

int block_write(sluice_block *block, uint64_t offset, const void *data, uint64_t bytes) {
  memcpy(block->data + offset, data, bytes);
  return SLUICE_OK;
}

int block_read(sluice_block *block, uint64_t offset, void *data, uint64_t bytes) {
  memcpy(data, block->data + offset, bytes);
  return SLUICE_OK;
}

int block_fill(sluice_block *block, uint64_t offset, uint64_t bytes, uint8_t value) {
  memset(block->data + offset, value, bytes);
  return SLUICE_OK;
}

int queue_create(int32_t, int32_t threads, sluice_queue **out, char *error, size_t capacity) {
  *out = new (std::nothrow) sluice_queue{threads};
  if (!*out) return fail(SLUICE_OUT_OF_MEMORY, error, capacity, "expected a queue, got no memory");
  ThreadPool::instance().open_session();
  return SLUICE_OK;
}

void queue_destroy(sluice_queue *queue) {
  if (!queue) return;
  ThreadPool::instance().close_session();
  delete queue;
}

struct Piece {
  const Kernels &kernels;
  const Header *command;
  void *const *bases;
  const volatile uint8_t *stop;
};

int execute_share(void *context, int32_t thread, int32_t threads) {
  const Piece &piece = *static_cast<const Piece *>(context);
  return piece.kernels.execute(piece.command, piece.bases, piece.stop, thread, threads);
}

int submit(sluice_queue *queue, const int32_t *words, int32_t, void *const *bases,
           const volatile uint8_t *stop, int32_t *taken, char *error, size_t capacity) {
  const Header *const command = reinterpret_cast<const Header *>(words);
  *taken = 0;
  if (const Scratch scratch = scratch_of(*command); scratch.view && scratch.bytes_per_thread) {
    // Threads without work leave their scratch untouched; a scan of a poisoned arena must still see
    // all that was claimed.
    const uint64_t bytes = uint64_t(queue->threads) * scratch.bytes_per_thread;
    static_cast<uint8_t *>(bases[scratch.view->slot])[scratch.view->offset() + bytes - 1] = 0;
  }
  Piece piece{kernels(), command, bases, stop};
  const int status = ThreadPool::instance().run(queue->threads, execute_share, &piece);
  *taken = status == SLUICE_OK;
  if (status == SLUICE_OK || status == SLUICE_ABORTED) return status;
  return fail(status, error, capacity, "%s",
              status == SLUICE_BAD_DATA
                  ? "expected token ids inside the table, got one outside; check the ids"
                  : "expected a command that these kernels know");
}

int finish(sluice_queue *, int64_t *, char *, size_t) { return SLUICE_OK; }

const sluice_backend kBackend = {
    .version = SLUICE_BACKEND_VERSION,
    .command_version = kCommandVersion,
    .name = "cpu",
    .narrow_activations = 0,
    .uses_scratch = 1,
    .bf16_products = computes_bf16_products(),
    .conv_phases = 1,
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
    .submit = submit,
    .finish = finish,
};

} // namespace
} // namespace sluice

extern "C" const sluice_backend *sluice_cpu_backend(void) { return &sluice::kBackend; }
