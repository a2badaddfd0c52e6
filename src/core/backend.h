/**
 * @file
 * The backend table: what a device must offer. Plain C, versioned, so that a plug-in library (CUDA)
 * can be loaded at run time and refused when it was built for another table. The CPU backend is
 * `sluice_cpu_backend()`.
 *
 * Every function that can fail returns 0 on success, else a sluice_status, and leaves a sentence in
 * `error` (capacity given).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLUICE_BACKEND_VERSION 8

enum sluice_status {
  SLUICE_OK = 0,
  SLUICE_OUT_OF_MEMORY = 1,
  SLUICE_BAD_COMMAND = 2, /* an operand outside its slot, an unknown opcode: found by check */
  SLUICE_BAD_DATA = 3,    /* found while running: a token id outside its table */
  SLUICE_DEVICE_LOST = 4,
  SLUICE_ABORTED = 5,
};

typedef struct sluice_device_info {
  char name[128];
  char detail[256]; /* instruction sets, compute capability */
  uint64_t memory_bytes;
  uint64_t free_bytes;
  uint64_t tile_bytes; /* granule that blocks are made of */
  int32_t wgmma;       /* 1: it computes whole blocks of channels on input as it is stored */
} sluice_device_info;

typedef struct sluice_block sluice_block; /* memory of a device, made of tiles */
typedef struct sluice_queue sluice_queue; /* executes commands in order */

/** A range of bytes of one slot that a command may touch. */
typedef struct sluice_range {
  int32_t slot;
  uint64_t begin, end;
  int32_t written;
} sluice_range;

typedef struct sluice_backend {
  int32_t version;            /* SLUICE_BACKEND_VERSION */
  int32_t command_version;    /* kCommandVersion of the commands it executes */
  const char *name;           /* "cpu", "cuda" */
  int32_t narrow_activations; /* 1: activations may be f16 and bf16, 0: f32 alone */
  int32_t uses_scratch;       /* 1: commands carry scratch for each thread, 0: they carry none */
  int32_t bf16_products;      /* 1: convolutions may compute with products of bfloat16 */
  int32_t conv_phases;        /* 1: convolutions may have their weights by phases */

  int32_t (*device_count)(void);
  const char *(*why_none)(void); /* why device_count is 0; a sentence */
  int (*device_info)(int32_t device, sluice_device_info *out);

  /* Memory. Addresses of a block do not change while it lives. host 1: memory of the host that the
       device's copies reach; kernels do not. */
  int (*block_create)(int32_t device, uint64_t bytes, int32_t host, sluice_block **out, char *error,
                      size_t capacity);
  void (*block_destroy)(sluice_block *block);
  void *(*block_address)(sluice_block *block);
  int (*block_write)(sluice_block *block, uint64_t offset, const void *data, uint64_t bytes);
  int (*block_read)(sluice_block *block, uint64_t offset, void *data, uint64_t bytes);
  int (*block_fill)(sluice_block *block, uint64_t offset, uint64_t bytes, uint8_t value);

  /* Execution. threads: how many the planner counted scratch for. submit may return before the
   * command has run; finish waits. */
  int (*queue_create)(int32_t device, int32_t threads, sluice_queue **out, char *error,
                      size_t capacity);
  void (*queue_destroy)(sluice_queue *queue);
  /* Takes the first of `count` commands that follow each other, or as many more as it likes to take
       at once. *taken: how many that were, also where the one after them failed. stop: becomes
       other than 0 when the run is aborted; a long command may then end early with
       SLUICE_ABORTED. */
  int (*submit)(sluice_queue *queue, const int32_t *commands, int32_t count, void *const *bases,
                const volatile uint8_t *stop, int32_t *taken, char *error, size_t capacity);
  /* *nanoseconds: what all commands took by the device's own clock, where it has one; else left as
       it is. */
  int (*finish)(sluice_queue *queue, int64_t *nanoseconds, char *error, size_t capacity);
} sluice_backend;

/** A plug-in library exports this one symbol, a sluice_backend_init_fn. The table it returns lives
 * as long as the process. */
#define SLUICE_BACKEND_INIT_SYMBOL "sluice_backend_init"
typedef const sluice_backend *(*sluice_backend_init_fn)(void);

const sluice_backend *sluice_cpu_backend(void);

#ifdef __cplusplus
}
#endif
