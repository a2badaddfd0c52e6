/**
 * @file
 * What a run works on: streams of kernels and copies, the graphs of its segments. A lane outlives
 * the run and serves the next one, so that a repeated step finds its graphs; lanes go with their
 * device's last block.
 */
#pragma once

#include "copies.hpp"
#include "graphs.hpp"
#include "kernel_streams.hpp"

namespace sluice::cuda {

struct Lane {
  explicit Lane(const Device &of) : device(of) {}
  ~Lane();
  Lane(const Lane &) = delete;
  Lane &operator=(const Lane &) = delete;

  /** Makes what it consists of. */
  int open(const Complaint &complaint);

  const Device &device;
  KernelStreams kernels;
  /** Host memory that kernels see: other than 0 once a command met data that it cannot use. */
  int32_t *trouble = nullptr;
  Copies copies;
  Graphs graphs;
  /** Ends of segments; the device works on as many at most. */
  static constexpr int32_t kUnderWay = 2;
  cudaEvent_t ends[kUnderWay] = {};
  /** The moments of a run's first segment and of its end. */
  cudaEvent_t began = nullptr, ended = nullptr;
};

/** An idle lane of the device, the one used last, or a new one. */
int take_lane(const Device &device, Lane **out, const Complaint &complaint);
/** Takes a lane back; one that a device error may have spoiled is given up. */
void return_lane(Lane *lane, bool usable);
/** Gives up the idle lanes of a device. */
void drop_lanes(const Device &device);

} // namespace sluice::cuda
