/**
 * @file
 * Packs weights of mapped files: all into a block, one job after another, or single ones when a run
 * needs them; each over all threads of the pool.
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

struct PackJob {
  std::shared_ptr<const MappedFile> file; ///< null: the source is `values`
  std::vector<uint8_t> values;
  uint64_t source_offset, source_bytes;
  DType dtype;
  PackForm form;
  int64_t outputs, inputs, taps;
  uint64_t destination;
};

/** Bytes that a job writes; UINT64_MAX where they do not fit 64 bits. Same as packedBytes in
 * lib/planner/weights.ts. */
uint64_t packed_bytes(const PackJob &job);

/** Throws Error (argument) that names the first job whose fields do not fit each other or its
 * source. */
void check_jobs(const std::vector<PackJob> &jobs);

/** Packs jobs one at a time, from host memory to host memory. A session of the thread pool must be
 * open. */
class Packer {
 public:
  /** Takes what the jobs need to be staged in. Throws Error: out of memory. */
  explicit Packer(const std::vector<PackJob> &jobs);
  ~Packer();
  /** Throws Error (io) where the file has become shorter. */
  void pack(const PackJob &job, void *destination, int32_t threads);

 private:
  std::unique_ptr<class Staging> aligned_;
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
