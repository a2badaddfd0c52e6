/**
 * @file
 * Streams, events and graphs of the emulated runtime. A kernel runs when it is launched; a copy as
 * late as the calls allow: when its stream or an event after it is waited for, by the host or by
 * another stream, or when its own stream comes to a kernel, or, where there is a schedule seed, at
 * some moment before. Until then its destination holds no number. Work that meets another stream's
 * and does not come after it is an error: a wait is missing (past.hpp).
 */
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "emulation/machine.hpp"
#include "emulation/memory.hpp"
#include "emulation/runtime.hpp"

namespace sluice::emulation {

/** One piece of a stream's work. */
struct Work {
  enum class Kind { kernel, copy, fill } kind;
  std::string name;
  /** Does it. */
  std::function<cudaError_t()> run;
  /** What it may touch. */
  std::vector<Claimed> touched;
  /** Leaves no number where a copy writes. */
  std::function<void()> poison;
};

/** Gives a stream work, or the graph that is captured from it. */
cudaError_t give(cudaStream_t stream, Work work);

/** A kernel's launch: `body` runs one thread of it. The claims of the calling thread go with it. */
cudaError_t launch_kernel(cudaStream_t stream, const char *name, const Shape &shape,
                          std::function<void()> body);

} // namespace sluice::emulation
