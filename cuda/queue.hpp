/**
 * @file
 * A queue: commands of one run in order on one stream. No more than a few dozen are under way, so
 * that a run that is aborted ends soon.
 */
#pragma once

#include "core/commands.h"
#include "device.hpp"

struct sluice_queue {
  explicit sluice_queue(const sluice::cuda::Device &of) : device(of) {}

  const sluice::cuda::Device &device;
  cudaStream_t stream = nullptr;
  /** Host memory that kernels see: other than 0 once a command met data that it cannot use. */
  int32_t *trouble = nullptr;

  /** Commands between two marks, and marks under way at most. */
  static constexpr int32_t kMarked = 8, kMarks = 4;
  cudaEvent_t marks[kMarks] = {};
  int64_t submitted = 0;
};

namespace sluice::cuda {

int create_queue(const Device &device, sluice_queue **out, const Complaint &complaint);
/** Waits for what is under way. */
void destroy_queue(sluice_queue *queue);

/** Launches a command; it may still run on return. */
int submit(sluice_queue &queue, const Header &command, void *const *bases,
           const Complaint &complaint);

/** Waits for every command. */
int finish(sluice_queue &queue, const Complaint &complaint);

} // namespace sluice::cuda
