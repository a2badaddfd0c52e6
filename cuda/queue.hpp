/**
 * @file
 * A queue: the commands of one run in order, in segments. A segment that was met before is captured
 * as a graph, and from then on launched as one. Two segments are under way at most, so that a run
 * that is aborted ends soon.
 */
#pragma once

#include "core/commands.h"
#include "lane.hpp"

struct sluice_queue {
  sluice::cuda::Lane *lane = nullptr;
  int64_t segments = 0; ///< so far
  bool usable = true;   ///< false after a device error
};

namespace sluice::cuda {

int create_queue(const Device &device, sluice_queue **out, const Complaint &complaint);
/** Waits for what is under way. */
void destroy_queue(sluice_queue *queue);

/**
 * Launches the first segment of `count` commands that follow each other; it may still run on
 * return. *taken: commands launched, also where the one after them failed.
 */
int submit(sluice_queue &queue, const int32_t *commands, int32_t count, void *const *bases,
           int32_t *taken, const Complaint &complaint);

/** Waits for every command. *nanoseconds: from the first to the last, by the device's clock. */
int finish(sluice_queue &queue, int64_t *nanoseconds, const Complaint &complaint);

} // namespace sluice::cuda
