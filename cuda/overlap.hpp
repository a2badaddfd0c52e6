/**
 * @file
 * Commands that touch nothing of each other run beside each other, on two streams: as the paper's
 * pipeline, the first layers of one slice beside the last ones of the slice before (section 3.2).
 * What a command computes does not depend on when it runs, so no bit does.
 */
#pragma once

#include <vector>

#include "segment.hpp"

namespace sluice::cuda {

/** The streams of a segment's kernels: the lane's own, where it begins and ends, and another. */
constexpr int32_t kMainStream = 0, kSideStream = 1, kKernelStreams = 2;

constexpr int32_t kNone = -1;

/** Where a command of a segment is launched. */
struct Placement {
  int32_t stream = kMainStream;
  /** The command of the other stream that it waits for, counted in the segment; kNone where what
   * stands before it on its own stream waited already. */
  int32_t waits_for = kNone;
  bool is_waited_for = false;
};

/**
 * Places a segment's commands. Two of them are ordered, by a stream or by a wait, where one writes
 * what the other touches; copies and joins keep to the lane's stream, and what touches a copy's
 * bytes comes after its join.
 */
std::vector<Placement> place(const Segment &segment);

} // namespace sluice::cuda
