/**
 * @file
 * Packs weights of mapped files into a block: one job after another, each over all threads of the
 * pool.
 */
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/block.h"
#include "core/control.h"
#include "core/mapped_file.h"
#include "cpu/kernels.h"

namespace sluice {

/** See PackForm in lib/runtime/addon-types.ts. */
enum class PackForm : int32_t { raw = 0, vector = 1, panel = 2, panel_pairs = 3, vector_pairs = 4 };

struct PackJob {
  std::shared_ptr<const MappedFile> file; ///< null: the source is `values`
  std::vector<uint8_t> values;
  uint64_t source_offset, source_bytes;
  DType dtype;
  PackForm form;
  int64_t outputs, inputs, taps;
  uint64_t destination;
};

class Packing {
 public:
  /** Checks every job against its file and the block; throws Error (argument) that names the job.
   */
  Packing(std::shared_ptr<Block> block, std::vector<PackJob> jobs, int32_t threads);

  /** Bytes written. Reads the abort flag between weights. Throws Error: aborted, io, out of memory,
   * device lost. */
  uint64_t execute(Control &control);

 private:
  std::shared_ptr<Block> block_;
  std::vector<PackJob> jobs_;
  int32_t threads_;
};

} // namespace sluice
