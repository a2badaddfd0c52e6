/**
 * @file
 * Commands are launched in segments: as many as one graph holds, and as the device gets through
 * between two looks at the abort flag.
 */
#pragma once

#include "core/commands.h"
#include "device.hpp"

namespace sluice::cuda {

/** Consecutive commands. */
struct Segment {
  const int32_t *words;
  int32_t count;      ///< commands
  int32_t word_count; ///< of all of them
};

/** Seconds that a command takes on one multiprocessor, about: rather more than it does. */
double seconds_of(const Header &command);

/** The next segment of `count` commands, at least one; a function of the commands and the device
 * alone, so that a run finds the segments of the last one. */
Segment next_segment(const int32_t *words, int32_t count, const Device &device);

} // namespace sluice::cuda
