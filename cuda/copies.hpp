/**
 * @file
 * Copies beside the kernels, on a stream of their own: one begins after all that was launched
 * before it, and what comes after its join finds it done.
 */
#pragma once

#include <deque>
#include <vector>

#include "core/commands.h"
#include "device.hpp"

namespace sluice::cuda {

class Copies {
 public:
  Copies() = default;
  ~Copies();
  Copies(const Copies &) = delete;
  Copies &operator=(const Copies &) = delete;

  /** Begins a copy; one without a ticket takes its turn in `kernels` itself. */
  cudaError_t begin(const CopyCommand &command, void *const *bases, cudaStream_t kernels);
  /** Makes `kernels` wait for the copies with tickets up to this one. */
  cudaError_t join(int32_t ticket, cudaStream_t kernels);
  /** Makes `kernels` wait for all of them. */
  cudaError_t join_all(cudaStream_t kernels);
  /** Waits on the host, and forgets what was begun. */
  cudaError_t finish();

 private:
  struct Open {
    int32_t ticket;
    cudaEvent_t done;
  };
  cudaError_t take_event(cudaEvent_t &event);

  cudaStream_t stream_ = nullptr; ///< made for the first copy with a ticket
  cudaEvent_t before_ = nullptr;
  std::deque<Open> open_; ///< in the order of their tickets
  std::vector<cudaEvent_t> spare_;
};

} // namespace sluice::cuda
