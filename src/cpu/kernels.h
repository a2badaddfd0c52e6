/**
 * @file
 * The CPU kernels of one instruction set. The same sources (src/cpu/kernels/) are compiled once per
 * set with SLUICE_ISA_NAMESPACE naming their namespace; dispatch.cpp picks a table once, at start.
 * Kernel files use no STL, so that no inline template compiled for a wide set can be linked into
 * code that runs everywhere.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/commands.h"

namespace sluice {

/** See PackForm in lib/runtime/addon-types.ts. */
enum class PackForm : int32_t {
  raw = 0,
  vector = 1,
  panel = 2,
  panel_pairs = 3,
  vector_pairs = 4,
  panel_phases = 5
};

/** Source of one weight to pack. */
struct PackSource {
  const void *data;
  DType dtype;
  PackForm form;
  int64_t outputs, inputs, taps;
  void *destination;
};

/** How a table computes products of bfloat16. */
enum class Products : int32_t {
  none,
  pairs,     ///< by AVX512_BF16, two k to a lane, where the processor has that
  amx,       ///< in tiles of AMX
  amx_model, ///< in tiles that plain code keeps: for tests
};

struct Kernels {
  const char *name; ///< "amx", "avx512", "avx2", "generic", "amx-emulated"
  Products products;
  /**
   * Executes one command's share of thread `thread` of `threads`: a static partition, nothing
   * shared, no allocation. Every thread of the pool calls it; the command is done when all have
   * returned. Returns a sluice_status;
   * SLUICE_ABORTED where it saw *stop other than 0 (long commands look between their tiles).
   */
  int (*execute)(const Header *command, void *const *bases, const volatile uint8_t *stop,
                 int32_t thread, int32_t threads);
  /** Packs thread's share of one weight. */
  void (*pack)(const PackSource &source, int32_t thread, int32_t threads);
  /** Multiply-adds in registers alone, `rounds` of them on each; returns the operations done (two a
   * multiply-add). For benchmarks. */
  int64_t (*multiply_adds)(int64_t rounds);
};

/** The table in use: the widest the machine has, or the one SLUICE_ISA names, where it has
 * that or can emulate it. */
const Kernels &kernels();
/** Whether they take commands that compute with products of bfloat16. */
bool computes_bf16_products();
/** Tables that this machine can run, widest first, emulations left out; count by reference. */
const Kernels *const *available_kernels(int32_t &count);

} // namespace sluice
